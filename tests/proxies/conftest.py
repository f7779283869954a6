"""Real proxies before a real server, and everything that is said to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.proxies.programs import PROXIES, Proxy
from tests.servers import Spindle


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    with Spindle(tmp_path_factory.mktemp("proxies") / "data") as running:
        yield running


@pytest.fixture(scope="module", params=PROXIES, ids=lambda kind: kind.name)
def proxy(
    request: pytest.FixtureRequest, server: Spindle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with request.param(tmp_path_factory.mktemp("proxy"), server.registry) as running:
        yield running
