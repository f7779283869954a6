"""Stores to test with: on the disk, and half in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.memory import MemoryBlobs
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import empty


@pytest.fixture(scope="session")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "data"


@pytest.fixture
def layout(reused: Path) -> Iterator[Layout]:
    """A data directory with nothing in it. Its 512 directories are not made for every test."""
    found = Layout.open(reused)
    yield found
    empty(reused)


@pytest.fixture(params=["filesystem", "memory"])
async def blobs(request: pytest.FixtureRequest, layout: Layout) -> AsyncIterator[BlobStore]:
    store: BlobStore = FilesystemBlobs(layout) if request.param == "filesystem" else MemoryBlobs()
    yield store
    await store.close()


@pytest.fixture
async def database(layout: Layout) -> AsyncIterator[SQLite]:
    found = await SQLite.open(layout)
    yield found
    await found.close()


@pytest.fixture
async def store(database: SQLite, blobs: BlobStore) -> Store:
    return await Store.open(database, blobs)


@pytest.fixture
def repository(store: Store) -> Repository:
    return store.repository(RepositoryName.parse("acme/shop"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was made durable, in order: the call, and the path of what it was called on."""
    done: list[tuple[str, str]] = []

    def record(name: str) -> None:
        real = getattr(calls, name)

        def recorded(first: int | str, *rest: str) -> None:
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            real(first, *rest)
            done.append((name, rest[0] if rest else path))

        monkeypatch.setattr(calls, name, recorded)

    for name in ("fsync", "fdatasync", "rename"):
        record(name)
    return done
