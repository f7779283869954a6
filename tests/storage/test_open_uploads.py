"""Uploads that are never closed must not fill the store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from storage.blobs import PIECE, BlobStore
from storage.digest import SHA256
from storage.errors import UploadsTooMany
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName
from storage.open_uploads import FRESH, OpenUploads
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import stream


@pytest.fixture
async def limited(database: SQLite, blobs: BlobStore) -> Repository:
    """A repository of a store that has room for three uploads and four pieces in them."""
    store = await Store.open(database, blobs, uploads=3, upload_bytes=4 * PIECE)
    return store.repository(RepositoryName.parse("acme/shop"))


async def test_no_more_are_opened_than_may_be(limited: Repository) -> None:
    for _ in range(3):
        await limited.start_upload()
    with pytest.raises(UploadsTooMany, match="3 uploads are open"):
        await limited.start_upload()


async def test_one_that_ends_makes_room_at_once(limited: Repository) -> None:
    sessions = [await limited.start_upload() for _ in range(3)]
    await sessions[0].cancel()
    session = await limited.start_upload()
    await session.append(stream(b"x"))
    await session.commit(SHA256.digest(b"x"))
    await limited.start_upload()


async def test_too_many_bytes_are_refused_before_they_are_read(limited: Repository) -> None:
    session = await limited.start_upload()
    await session.append(stream(*[bytes(PIECE)] * 3))
    await session.check(PIECE)
    with pytest.raises(UploadsTooMany, match="with 1048577 more it would be over 4194304"):
        await session.check(PIECE + 1)
    with pytest.raises(UploadsTooMany):
        await limited.start_upload(announced=PIECE + 1)


async def test_a_stream_of_unknown_length_ends_where_the_room_ends(limited: Repository) -> None:
    """What was kept is told, as whenever a stream breaks off; and it can go on from there."""
    other = await limited.start_upload()
    await other.append(stream(bytes(PIECE)))
    session = await limited.start_upload()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(PIECE)

    with pytest.raises(UploadsTooMany):
        await session.append(endless())
    # The piece that was refused had arrived, and what arrived is kept.
    assert session.size == 4 * PIECE
    await other.cancel()
    await session.commit(SHA256.digest(bytes(4 * PIECE)))


async def test_uploads_of_another_process_count(limited: Repository, layout: Layout) -> None:
    other = FilesystemBlobs(layout)
    if await other.open_uploads() != (0, 0):
        pytest.fail("the store is not empty")
    for number in range(3):
        await (await other.start_upload(f"{number:064x}", SHA256)).close()
    if (await limited._blobs.open_uploads())[0] == 0:
        pytest.skip("memory is one process's own")
    with pytest.raises(UploadsTooMany):
        await limited.start_upload()
    await other.close()


async def test_they_are_not_counted_for_every_request(blobs: BlobStore) -> None:
    clock = [0.0]
    open_uploads = OpenUploads(blobs, most=10, clock=lambda: clock[0])
    await open_uploads.check(uploads=1)
    open_uploads.add(uploads=9)  # more than there are: seen as long as nothing is counted
    await open_uploads.check(uploads=1)
    assert open_uploads._uploads == 9
    clock[0] += FRESH
    await open_uploads.check(uploads=1)
    assert open_uploads._uploads == 0
