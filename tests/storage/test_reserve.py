"""What is kept of the disk, so that deletes and pulls go on when it is full."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from storage.blobs import PIECE
from storage.digest import SHA256
from storage.errors import Full
from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.reserve import FilesystemReserve
from storage.names import RepositoryName
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.reserve import afford
from storage.store import Store
from tests.storage.content import image, pull, push, stream, tags

SIZE = 1 << 18
BLOB = b"a blob"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.open(tmp_path / "data")


@pytest.fixture
async def reserve(layout: Layout) -> FilesystemReserve:
    found = FilesystemReserve(layout, SIZE)
    await found.fill()
    return found


class Tight(SQLite):
    """The catalogue on a disk that has no room while the reserve takes it."""

    full = False
    reserve: FilesystemReserve

    def _transaction(self, change: Callable[[Connection], object]) -> object:  # type: ignore[override]  # what it returns is passed on
        if self.full and self.reserve.whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._transaction(change)


@pytest.fixture
async def database(layout: Layout, reserve: FilesystemReserve) -> Tight:
    found = Tight(layout.records)
    found.reserve = reserve
    return found


@pytest.fixture
async def store(
    database: Tight, layout: Layout, reserve: FilesystemReserve
) -> AsyncIterator[Store]:
    found = await Store.open(database, FilesystemBlobs(layout, reserve), reserve=reserve)
    yield found
    await found.close()


@pytest.fixture
async def repository(store: Store) -> Repository:
    return store.repository(RepositoryName.parse("acme/shop"))


def taken(layout: Layout) -> list[int]:
    """Bytes of the disk that the parts take."""
    parts = [Path(part) for part in layout.reserve_parts]
    return [part.stat().st_blocks * 512 for part in parts if part.exists()]


# The files


async def test_it_takes_real_room(reserve: FilesystemReserve, layout: Layout) -> None:
    assert reserve.whole
    assert len(taken(layout)) == 4
    assert sum(taken(layout)) >= SIZE


async def test_what_is_given_up_is_free_for_every_process(
    reserve: FilesystemReserve, layout: Layout
) -> None:
    other = FilesystemReserve(layout, SIZE)
    assert other.whole
    await reserve.give_up()
    await reserve.give_up()
    assert not other.whole
    assert taken(layout) == []
    assert await other.fill()
    assert reserve.whole


async def test_where_there_is_no_room_it_is_smaller_and_no_error(
    reserve: FilesystemReserve, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserve.give_up()
    real, done = calls.posix_fallocate, []

    def tight(file: int, at: int, size: int) -> None:
        if len(done) == 2:
            real(file, at, size // 2)  # as a file system may
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(real(file, at, size))

    with monkeypatch.context() as patch:
        patch.setattr(calls, "posix_fallocate", tight)
        assert not await reserve.fill()
        assert len(taken(layout)) == 2
    assert await reserve.fill()


async def test_any_other_trouble_is_told(
    reserve: FilesystemReserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reserve.give_up()

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(calls, "posix_fallocate", broken)
    with pytest.raises(OSError, match="Input/output"):
        await reserve.fill()
    assert not reserve.whole


@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 2])
async def test_another_size_in_the_settings_is_taken_over(
    reserve: FilesystemReserve, layout: Layout, size: int
) -> None:
    resized = FilesystemReserve(layout, size)
    assert await resized.fill()
    assert resized.whole
    await resized.trim()
    assert size <= sum(taken(layout)) < size + SIZE // 2


async def test_another_process_takes_nothing_of_it(
    reserve: FilesystemReserve, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command beside the server, which has other settings; or a file system that compresses."""
    seen = []
    real = calls.posix_fallocate

    def watched(file: int, at: int, size: int) -> None:
        seen.append(reserve.whole)
        real(file, at, size)
        seen.append(reserve.whole)

    monkeypatch.setattr(calls, "posix_fallocate", watched)
    for size in (SIZE // 2, SIZE, SIZE * 2):
        assert await FilesystemReserve(layout, size).fill()
        assert reserve.whole
    for part in layout.reserve_parts:  # as a copy without its blocks
        os.truncate(part, 0)
        os.truncate(part, SIZE // 2)
    assert await reserve.fill()
    assert seen == [True] * 16
    assert sum(taken(layout)) >= SIZE


async def test_none_is_always_whole_and_takes_nothing(
    reserve: FilesystemReserve, layout: Layout
) -> None:
    none = FilesystemReserve(layout, 0)
    assert none.whole
    assert await none.fill()
    assert taken(layout) == []
    assert none.whole


async def test_a_copy_without_blocks_is_made_real(
    reserve: FilesystemReserve, layout: Layout
) -> None:
    for part in layout.reserve_parts:
        os.truncate(part, 0)
        os.truncate(part, SIZE // 4)
    assert await reserve.fill()
    assert sum(taken(layout)) >= SIZE


async def test_where_room_cannot_be_had_without_bytes_it_is_written(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(calls, "posix_fallocate", unable)
    reserve = FilesystemReserve(layout, 4 * (PIECE + 4096))
    assert await reserve.fill()
    assert sum(taken(layout)) >= 4 * (PIECE + 4096)


# Who may use it


async def succeeds(work: Awaitable[None]) -> bool:
    try:
        await work
    except OSError:
        return False
    return True


async def test_a_delete_is_done_on_a_full_disk(
    repository: Repository, database: Tight, reserve: FilesystemReserve
) -> None:
    await push(repository, BLOB)
    await repository.put_manifest(image(), tags("a", "b"))
    database.full = True
    assert await succeeds(repository.delete_tag(tags("a")[0]))
    assert not reserve.whole
    await reserve.fill()
    assert await succeeds(repository.delete_manifest(image().digest))
    assert not reserve.whole


async def test_the_lease_of_what_is_asked_for_is_renewed_on_a_full_disk(
    repository: Repository, store: Store, database: Tight, reserve: FilesystemReserve
) -> None:
    digest = await push(repository, BLOB)
    later = store.now() + store.grace / 2
    late = Store(store.pushed, store.blobs, now=lambda: later, reserve=reserve)
    database.full = True
    assert await late.repository(repository.name).has_blob(digest) == len(BLOB)
    since = await store.database.read(lambda c: c.one("SELECT since FROM leases"))
    assert since == (later,)
    assert not reserve.whole


async def test_a_push_never_uses_it(
    repository: Repository, store: Store, database: Tight, reserve: FilesystemReserve
) -> None:
    digest = await push(repository, BLOB)
    database.full = True
    with pytest.raises(OSError, match="No space left"):
        await repository.put_manifest(image(), tags("a"))
    with pytest.raises(OSError, match="No space left"):
        await store.repository(RepositoryName.parse("acme/other")).mount(digest, None)
    with pytest.raises(OSError, match="No space left"):
        await push(repository, b"another")
    assert await repository.has_blob(SHA256.digest(b"another")) is None
    assert reserve.whole


async def test_bytes_that_had_room_though_their_row_had_none_are_removed(
    repository: Repository, database: Tight, layout: Layout
) -> None:
    database.full = True
    with pytest.raises(OSError, match="No space left"):
        await push(repository, BLOB)
    assert not os.path.exists(layout.blob(SHA256.digest(BLOB)))


async def test_bytes_that_another_repository_has_stay_though_this_one_gets_no_row(
    repository: Repository, store: Store, database: Tight
) -> None:
    digest = await push(repository, BLOB)
    database.full = True
    with pytest.raises(OSError, match="No space left"):
        await push(store.repository(RepositoryName.parse("acme/other")), BLOB)
    assert await pull(await repository.blob(digest)) == BLOB


async def test_an_upload_under_way_stops_when_it_is_given_up(
    repository: Repository, reserve: FilesystemReserve
) -> None:
    session = await repository.start_upload()
    await session.append(stream(b"some"))
    await reserve.give_up()
    with pytest.raises(Full):
        await session.append(stream(b"more"))
    await reserve.fill()
    assert await session.append(stream(b" more")) == len(b"some more")


async def test_reading_goes_on_without_it(
    repository: Repository, reserve: FilesystemReserve
) -> None:
    digest = await push(repository, BLOB)
    await reserve.give_up()
    assert await pull(await repository.blob(digest)) == BLOB


async def test_a_start_on_a_full_disk_succeeds(
    layout: Layout, reserve: FilesystemReserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object, **__: object) -> sqlite3.Connection:
        if reserve.whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sqlite3.connect(*_, **__)  # type: ignore[call-overload,no-any-return]  # as given

    monkeypatch.setattr("storage.records.sqlite.connect", connect)
    database = await afford(reserve, lambda: SQLite.open(layout))
    await database.close()
    assert not reserve.whole
