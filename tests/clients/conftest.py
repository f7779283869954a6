from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.test_engines import ENGINES, Engine
from tests.clients.test_round_trips import CLIENTS, Client
from tests.servers import Spindle
from tests.tools import require


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    """One server for all clients: each test uses repositories of its own."""
    with Spindle(tmp_path_factory.mktemp("clients") / "data") as running:
        yield running


@pytest.fixture(params=CLIENTS, ids=lambda client: client.program)
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.param
    require(found.program)
    return found


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.program)
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    for program in (*found.needs, "skopeo"):
        require(program)
    return found
