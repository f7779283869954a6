"""Upload sessions: distribution spec, "Pushing a blob in chunks"; and clients that vanish."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator

import pytest

from storage.blobs import PIECE, BlobStore
from storage.digest import SHA256, SHA512
from storage.errors import (
    BlobUnknown,
    DigestMismatch,
    SizeInvalid,
    UploadOffset,
    UploadUnknown,
)
from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.memory import MemoryBlobs
from storage.names import RepositoryName
from storage.repository import Repository
from storage.store import Store
from storage.uploads import upload_key
from tests.storage.content import Vanished, cut_off, pull, push, stream

DATA = b"some bytes" * 100
DIGEST = SHA256.digest(DATA)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def stalled(*pieces: bytes) -> AsyncIterator[bytes]:
    """A stream that goes silent after its pieces."""
    for piece in pieces:
        yield piece
    await asyncio.Event().wait()


async def untouched() -> AsyncIterator[bytes]:
    pytest.fail("the stream was read")
    yield b""


async def test_a_blob_is_pushed_in_chunks(repository: Repository) -> None:
    session = await repository.start_upload()
    assert session.size == 0
    assert await session.append(stream(DATA[:10]), at=0, length=10) == 10
    assert await session.append(stream(DATA[10:500], DATA[500:])) == len(DATA)
    assert await session.commit(DIGEST) == len(DATA)
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_a_large_stream_arrives_whole(repository: Repository) -> None:
    data = bytes(range(256)) * (PIECE // 100)
    pieces = [data[at : at + 70_001] for at in range(0, len(data), 70_001)]
    session = await repository.start_upload()
    assert await session.append(stream(*pieces)) == len(data)
    await session.commit(SHA256.digest(data))
    assert await pull(await repository.blob(SHA256.digest(data))) == data


async def test_the_empty_blob_is_pushed(repository: Repository) -> None:
    session = await repository.start_upload()
    await session.commit(SHA256.digest(b""))
    assert await repository.has_blob(SHA256.digest(b"")) == 0


async def test_a_session_is_found_by_its_id(repository: Repository) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:10]))
    found = await repository.upload(session.id)
    assert (found.id, found.size) == (session.id, 10)
    await found.append(stream(DATA[10:]))
    await found.commit(DIGEST)


async def test_an_earlier_object_of_a_session_still_works(repository: Repository) -> None:
    first = await repository.start_upload()
    await (await repository.upload(first.id)).append(stream(DATA[:10]))
    await first.append(stream(DATA[10:]), at=10)
    await first.commit(DIGEST)


async def test_a_session_of_another_repository_is_not_found(
    store: Store, repository: Repository
) -> None:
    """CVE-2026-32589 was a session that anybody with its id could change."""
    session = await repository.start_upload()
    other = store.repository(RepositoryName.parse("acme/other"))
    with pytest.raises(UploadUnknown):
        await other.upload(session.id)


async def test_a_session_of_another_principal_is_not_found(repository: Repository) -> None:
    session = await repository.start_upload(principal="user:ada")
    for principal in ("", "user:bob", "robot:ada"):
        with pytest.raises(UploadUnknown):
            await repository.upload(session.id, principal=principal)
    assert (await repository.upload(session.id, principal="user:ada")).size == 0


@pytest.mark.parametrize("id", ["", "nonsense", "../../layout.json", "\0", "é", "a" * 10_000])
async def test_an_id_that_was_never_given_out_is_unknown(repository: Repository, id: str) -> None:
    with pytest.raises(UploadUnknown):
        await repository.upload(id)


async def test_ids_cannot_be_guessed_and_fit_into_a_url(repository: Repository) -> None:
    ids = {(await repository.start_upload()).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id) == 22 and id.replace("-", "").replace("_", "").isalnum() for id in ids)


def test_the_parts_of_a_key_cannot_be_shifted() -> None:
    name = RepositoryName.parse
    keys = {
        upload_key(name("a"), "", "b"),
        upload_key(name("a"), "b", ""),
        upload_key(name("a/b"), "", ""),
        upload_key(name("ab"), "", ""),
    }
    assert len(keys) == 4


# Offsets and lengths


@pytest.mark.parametrize("at", [0, 9, 11])
async def test_bytes_for_another_place_are_refused_before_they_are_read(
    repository: Repository, at: int
) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:10]))
    with pytest.raises(UploadOffset) as refused:
        await session.append(untouched(), at=at)
    assert refused.value.size == 10
    assert (await repository.upload(session.id)).size == 10
    await session.append(stream(DATA[10:]), at=10)
    await session.commit(DIGEST)


@pytest.mark.parametrize("length", [0, 5, 9, 11, 2 * PIECE], ids=str)
async def test_a_stream_of_another_length_leaves_nothing(
    repository: Repository, length: int
) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:10]))
    with pytest.raises(SizeInvalid):
        await session.append(stream(b"01234", b"56789"), at=10, length=length)
    assert session.size == 10
    await session.append(stream(DATA[10:]))
    await session.commit(DIGEST)


async def test_a_stream_of_many_pieces_that_is_too_long_leaves_nothing(
    repository: Repository,
) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:10]))
    with pytest.raises(SizeInvalid):
        await session.append(stream(*[bytes(PIECE)] * 3), length=2 * PIECE + 1)
    assert (await repository.upload(session.id)).size == 10
    await session.append(stream(DATA[10:]))
    await session.commit(DIGEST)


# Ends


async def test_a_wrong_digest_keeps_the_session(repository: Repository) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:-1]))
    with pytest.raises(DigestMismatch):
        await session.commit(DIGEST)
    assert await repository.has_blob(DIGEST) is None
    await session.append(stream(DATA[-1:]))
    await session.commit(DIGEST)


async def test_a_session_is_closed_under_an_algorithm_nobody_announced(
    repository: Repository,
) -> None:
    session = await repository.start_upload(SHA256)
    await session.append(stream(DATA))
    await session.commit(SHA512.digest(DATA))
    assert await repository.has_blob(SHA512.digest(DATA)) == len(DATA)


@pytest.mark.parametrize("end", ["commit", "cancel"])
async def test_a_session_that_has_ended_is_gone(repository: Repository, end: str) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA))
    await (session.commit(DIGEST) if end == "commit" else session.cancel())
    with pytest.raises(UploadUnknown):
        await repository.upload(session.id)
    with pytest.raises(UploadUnknown):
        await session.append(untouched())
    with pytest.raises(UploadUnknown):
        await session.commit(DIGEST)
    await session.cancel()


async def test_a_cancelled_session_leaves_no_blob(repository: Repository, blobs: BlobStore) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA))
    await session.cancel()
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_both_of_two_sessions_with_the_same_bytes_succeed(repository: Repository) -> None:
    sessions = [await repository.start_upload() for _ in range(2)]
    await asyncio.gather(*(session.append(stream(DATA)) for session in sessions))
    assert await asyncio.gather(*(session.commit(DIGEST) for session in sessions)) == [
        len(DATA),
        len(DATA),
    ]


# One writer


async def test_the_second_writer_is_told_how_far_the_first_is(repository: Repository) -> None:
    session = await repository.start_upload()
    await session.append(stream(DATA[:10]))
    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield DATA[10:20]
        await gate.wait()
        yield DATA[20:]

    writing = asyncio.create_task(session.append(slowly()))
    await asyncio.sleep(0)
    second = await repository.upload(session.id)
    for attempt in (second.append(untouched(), at=10), second.commit(DIGEST)):
        with pytest.raises(UploadOffset) as refused:
            await attempt
        assert refused.value.size == 10
    gate.set()
    await writing
    await second.commit(DIGEST)


async def test_of_many_writers_at_one_place_one_wins(repository: Repository) -> None:
    session = await repository.start_upload()
    sessions = [await repository.upload(session.id) for _ in range(8)]
    before = descriptors()
    results = await asyncio.gather(
        *(each.append(stream(DATA), at=0) for each in sessions), return_exceptions=True
    )
    assert results.count(len(DATA)) == 1
    assert sum(isinstance(result, UploadOffset) for result in results) == 7
    assert descriptors() == before
    await session.commit(DIGEST)


async def test_a_session_can_be_cancelled_under_a_writer(repository: Repository) -> None:
    session = await repository.start_upload()
    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        await gate.wait()
        yield DATA

    writing = asyncio.create_task(session.append(slowly()))
    await asyncio.sleep(0)
    await (await repository.upload(session.id)).cancel()
    gate.set()
    await asyncio.gather(writing, return_exceptions=True)
    with pytest.raises(UploadUnknown):
        await session.commit(DIGEST)
    assert await repository.has_blob(DIGEST) is None


# Clients that vanish


@pytest.mark.parametrize("size", [0, 1, 65_536, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
async def test_what_arrived_before_the_client_vanished_is_kept(
    repository: Repository, size: int
) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    pieces = [data[at : min(at + 50_000, size)] for at in range(0, size, 50_000)]
    session = await repository.start_upload()
    before = descriptors()
    with pytest.raises(Vanished):
        await session.append(cut_off(*pieces), at=0, length=size + 1000)
    assert session.size == size
    assert descriptors() == before
    found = await repository.upload(session.id)
    assert found.size == size
    await found.append(stream(b"the rest"), at=size)
    await found.commit(SHA256.digest(data[:size] + b"the rest"))


@pytest.mark.parametrize("size", [10, PIECE + 10])
async def test_a_cancelled_append_keeps_what_arrived_and_leaves_nothing_behind(
    repository: Repository, size: int
) -> None:
    session = await repository.start_upload()
    before, tasks = descriptors(), len(asyncio.all_tasks())
    writing = asyncio.create_task(session.append(stalled(bytes(size))))
    for _ in range(10):
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert session.size == size
    assert descriptors() == before
    assert len(asyncio.all_tasks()) == tasks
    await session.append(stream(b"!"), at=size)
    await session.commit(SHA256.digest(bytes(size) + b"!"))


async def test_nothing_follows_a_piece_that_could_not_be_written(
    repository: Repository, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there would be a hole, and a later client would be told the wrong place."""
    if isinstance(blobs, MemoryBlobs):
        pytest.skip("memory does not fail")
    assert isinstance(blobs, FilesystemBlobs)
    session = await repository.start_upload()
    real, written = calls.pwrite, 0

    def full_for_a_moment(file: int, data: memoryview, at: int) -> int:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data, at)

    monkeypatch.setattr(calls, "pwrite", full_for_a_moment)
    pieces = [bytes([number]) * PIECE for number in range(4)]
    with pytest.raises(OSError, match="No space left"):
        await session.append(stream(*pieces))
    assert session.size == PIECE
    await session.append(stream(b"!"), at=PIECE)
    await session.commit(SHA256.digest(pieces[0] + b"!"))


async def test_a_session_takes_no_descriptors(repository: Repository) -> None:
    before = descriptors()
    sessions = [await repository.start_upload() for _ in range(50)]
    for session in sessions:
        await session.append(stream(b"x"))
    assert descriptors() == before


async def test_what_may_be_a_blob_already_is_never_cut(
    repository: Repository, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename is done, and then the directory cannot be synced: the file has its new name."""
    if isinstance(blobs, MemoryBlobs):
        pytest.skip("memory does not fail")
    await push(repository, DATA)
    session = await repository.start_upload()

    def fails(directory: int) -> None:
        raise OSError(errno.EIO, "of the disk")

    monkeypatch.setattr(calls, "fsync", fails)
    with pytest.raises(OSError, match="of the disk"):
        await session.commit(DIGEST, stream(DATA))
    monkeypatch.undo()
    assert await pull(await repository.blob(DIGEST)) == DATA
