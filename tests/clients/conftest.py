from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Spindle


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    """One server for all clients: each test uses repositories of its own."""
    with Spindle(tmp_path_factory.mktemp("clients") / "data") as running:
        yield running
