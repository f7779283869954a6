from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.store import Store
from tests.asgi import Registry, open_store


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of all these tests: to make one takes longer than most of them."""
    return tmp_path_factory.mktemp("conformance") / "data"


@pytest.fixture
async def store(data: Path) -> AsyncIterator[Store]:
    """A store with no records. Bytes of earlier tests lie about, to which no record leads."""
    for records in data.glob("records.db*"):
        records.unlink()
    async with open_store(data) as opened:
        yield opened


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)
