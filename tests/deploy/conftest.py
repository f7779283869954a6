from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from registry.deploy.journal import Journal
from storage.memory import MemoryBlobs
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.deploy.deployment import Deployment, opened
from tests.deploy.local_runtime import LocalRuntime
from tests.deploy.rows import Clock


@pytest.fixture
def run() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="spindle-") as directory:
        yield Path(directory)


@pytest.fixture
def runtime(run: Path, request: pytest.FixtureRequest) -> LocalRuntime:
    """Another class of it where a test names one as its parameter."""
    kind: type[LocalRuntime] = getattr(request, "param", LocalRuntime)
    return kind(run)


@pytest.fixture
async def deployment(tmp_path: Path, runtime: LocalRuntime) -> AsyncIterator[Deployment]:
    async with opened(tmp_path / "data", runtime) as deployment:
        yield deployment


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Rows only: no blobs are needed, nor is a data directory."""
    database = SQLite(tmp_path / "records.db")
    store = await Store.open(database, MemoryBlobs())
    try:
        journal = Journal(database, clock=Clock())
        await journal.open()
        yield journal
    finally:
        await store.close()
