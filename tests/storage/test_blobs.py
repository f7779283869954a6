"""The contract of `storage.blobs`, for every driver."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.blobs import PIECE, BlobStore, Upload
from storage.digest import SHA256, SHA512, Algorithm, Digest
from storage.errors import BlobUnknown, Damaged, DigestMismatch, UploadOffset, UploadUnknown
from storage.filesystem.layout import Layout
from storage.memory import MemoryBlobs
from tests.storage.content import pull

KEY = "0123456789abcdef" * 4
DATA = bytes(range(256)) * 20
DIGEST = SHA256.digest(DATA)


async def start(blobs: BlobStore, algorithm: Algorithm = SHA256) -> Upload:
    upload = await blobs.start_upload(KEY, algorithm)
    await upload.hold()
    return upload


async def keep(blobs: BlobStore, data: bytes) -> Digest:
    upload = await start(blobs)
    await upload.write(data)
    await upload.commit(SHA256.digest(data))
    return SHA256.digest(data)


async def test_a_blob_is_read_as_it_was_written(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA[:1000])
    await upload.write(DATA[1000:])
    assert await upload.commit(DIGEST) == len(DATA)
    assert await pull(await blobs.open(DIGEST)) == DATA


async def test_a_blob_is_an_open_file_too(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    blob = await blobs.open(DIGEST)
    file = await blob.fileno()
    assert os.pread(file, len(DATA) + 1, 0) == DATA
    assert await blob.fileno() == file
    await blob.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(file)


async def test_the_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    digest = await keep(blobs, b"")
    blob = await blobs.open(digest)
    assert blob.size == 0
    assert await pull(blob) == b""


RANGES = [
    (0, None, "all"),
    (0, 0, "nothing"),
    (0, 1, "the first byte"),
    (10, 20, "some within"),
    (len(DATA) - 1, None, "the last byte"),
    (len(DATA), None, "from the end on"),
    (100, len(DATA) + 100, "past the end"),
]


@pytest.mark.parametrize(("start", "end"), [r[:2] for r in RANGES], ids=[r[2] for r in RANGES])
async def test_a_part_is_read(blobs: BlobStore, start: int, end: int | None) -> None:
    digest = await keep(blobs, DATA)
    assert await pull(await blobs.open(digest), start, end) == DATA[start:end]


async def test_a_large_blob_comes_in_pieces(blobs: BlobStore) -> None:
    data = b"0123456789" * (PIECE // 4)
    digest = await keep(blobs, data)
    blob = await blobs.open(digest)
    pieces = [piece async for piece in blob.chunks()]
    await blob.close()
    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces) == data


@pytest.mark.parametrize("size", [10, PIECE, 3 * PIECE])
async def test_wrong_bytes_are_noticed_before_the_last_of_them_is_given_out(
    blobs: BlobStore, layout: Layout, size: int
) -> None:
    digest = await keep(blobs, bytes(size))
    if isinstance(blobs, MemoryBlobs):
        blobs.blobs[digest] = b"!" + bytes(size - 1)
    else:
        Path(layout.blob(digest)).unlink()
        Path(layout.blob(digest)).write_bytes(b"!" + bytes(size - 1))
    blob = await blobs.open(digest)
    got: list[bytes] = []

    async def read() -> None:
        async for piece in blob.chunks():
            got.append(piece)

    with pytest.raises(Damaged):
        await read()
    await blob.close()
    assert sum(map(len, got)) <= max(0, size - PIECE)


async def test_a_blob_that_was_never_kept_is_unknown(blobs: BlobStore) -> None:
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_a_removed_blob_is_unknown(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    await blobs.remove(DIGEST)
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_removing_what_is_not_there_is_fine(blobs: BlobStore) -> None:
    await blobs.remove(DIGEST)


async def test_a_blob_that_was_opened_stays_readable_when_it_is_removed(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    blob = await blobs.open(DIGEST)
    await blobs.remove(DIGEST)
    assert await pull(blob) == DATA


async def test_a_blob_may_be_closed_twice(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    blob = await blobs.open(DIGEST)
    await blob.close()
    await blob.close()


async def test_an_upload_is_no_blob_before_its_commit(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)
    await upload.close()


async def test_other_bytes_than_the_digest_names_are_refused_and_the_upload_kept(
    blobs: BlobStore,
) -> None:
    upload = await start(blobs)
    await upload.write(b"other")
    with pytest.raises(DigestMismatch):
        await upload.commit(DIGEST)
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)
    assert upload.size == 5
    assert await upload.commit(SHA256.digest(b"other")) == 5


@pytest.mark.parametrize("expected", [SHA256, SHA512], ids=str)
@pytest.mark.parametrize("actual", [SHA256, SHA512], ids=str)
async def test_an_upload_is_closed_under_any_algorithm(
    blobs: BlobStore, expected: Algorithm, actual: Algorithm
) -> None:
    upload = await start(blobs, expected)
    await upload.write(DATA)
    await upload.commit(actual.digest(DATA))
    assert await pull(await blobs.open(actual.digest(DATA))) == DATA


async def test_an_upload_refused_under_one_algorithm_is_kept_under_another(
    blobs: BlobStore,
) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    with pytest.raises(DigestMismatch):
        await upload.commit(SHA512.digest(b"other"))
    await upload.write(b"more")
    await upload.commit(SHA256.digest(DATA + b"more"))


async def test_a_committed_upload_is_gone(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    with pytest.raises(UploadUnknown):
        await blobs.resume_upload(KEY)


async def test_the_same_blob_may_be_kept_again(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    await keep(blobs, DATA)
    assert await pull(await blobs.open(DIGEST)) == DATA


async def test_an_upload_goes_on_where_it_was_left(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA[:1000])
    await upload.close()
    resumed = await blobs.resume_upload(KEY)
    assert resumed.size == 1000
    await resumed.hold()
    await resumed.write(DATA[1000:])
    await resumed.commit(DIGEST)
    assert await pull(await blobs.open(DIGEST)) == DATA


async def test_an_upload_that_was_never_started_is_unknown(blobs: BlobStore) -> None:
    with pytest.raises(UploadUnknown):
        await blobs.resume_upload(KEY)


async def test_a_key_is_used_once(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.close()
    with pytest.raises(FileExistsError):
        await blobs.start_upload(KEY, SHA256)


async def test_what_was_cut_off_does_not_come_back(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    await upload.write(b"to be forgotten")
    await upload.truncate(len(DATA))
    assert upload.size == len(DATA)
    await upload.write(b"!")
    await upload.commit(SHA256.digest(DATA + b"!"))


async def test_an_upload_cannot_be_cut_to_more_than_it_has(blobs: BlobStore) -> None:
    upload = await start(blobs)
    with pytest.raises(ValueError, match="cannot be cut"):
        await upload.truncate(1)
    await upload.close()


async def test_a_cancelled_upload_is_gone(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    await upload.cancel()
    await upload.close()
    with pytest.raises(UploadUnknown):
        await blobs.resume_upload(KEY)


async def test_cancelling_twice_is_fine(blobs: BlobStore) -> None:
    upload = await blobs.start_upload(KEY, SHA256)
    await upload.cancel()
    await upload.cancel()


async def test_an_upload_cancelled_by_somebody_else_cannot_be_committed(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    await (await blobs.resume_upload(KEY)).cancel()
    with pytest.raises(UploadUnknown):
        await upload.commit(DIGEST)
    await upload.close()
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_only_one_holds_an_upload(blobs: BlobStore) -> None:
    first = await start(blobs)
    await first.write(DATA)
    second = await blobs.resume_upload(KEY)
    with pytest.raises(UploadOffset) as refused:
        await second.hold()
    assert refused.value.size == len(DATA)
    await first.close()
    await second.hold()
    assert second.size == len(DATA)
    await second.close()


async def test_closing_what_is_not_held_lets_go_of_nothing(blobs: BlobStore) -> None:
    first = await start(blobs)
    second = await blobs.resume_upload(KEY)
    await second.close()
    with pytest.raises(UploadOffset):
        await second.hold()
    await first.close()


async def test_an_upload_must_be_held_to_be_changed(blobs: BlobStore) -> None:
    upload = await blobs.start_upload(KEY, SHA256)
    for change in (upload.write(DATA), upload.truncate(0), upload.commit(DIGEST)):
        with pytest.raises(RuntimeError, match="held"):
            await change


async def test_an_upload_that_has_ended_cannot_be_held(blobs: BlobStore) -> None:
    upload = await blobs.start_upload(KEY, SHA256)
    await (await blobs.resume_upload(KEY)).cancel()
    with pytest.raises(UploadUnknown):
        await upload.hold()


# Verifying


async def marked_aside(blobs: BlobStore, digest: Digest) -> tuple[bool, list[str]]:
    """What `set_aside` says, and what was done meanwhile."""
    done: list[str] = []

    async def mark() -> None:
        done.append("marked")

    return await blobs.set_aside(digest, mark), done


async def test_what_is_right_has_no_flaw_and_is_not_put_aside(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    await upload.commit(DIGEST)
    await upload.close()
    assert await blobs.survey([(DIGEST, len(DATA))]) == []
    assert await blobs.scrub(DIGEST) is None
    assert await marked_aside(blobs, DIGEST) == (False, [])
    assert await pull(await blobs.open(DIGEST)) == DATA


async def test_another_size_is_seen_without_reading(blobs: BlobStore) -> None:
    await keep(blobs, DATA)
    [(digest, flaw)] = await blobs.survey([(DIGEST, len(DATA) + 1)])
    assert (digest, flaw.lost) == (DIGEST, True)
    assert str(len(DATA)) in flaw.reason


async def test_what_is_gone_is_a_flaw_that_can_be_marked(blobs: BlobStore) -> None:
    assert [digest for digest, _ in await blobs.survey([(DIGEST, 1)])] == [DIGEST]
    assert await blobs.scrub(DIGEST) is not None
    assert await marked_aside(blobs, DIGEST) == (True, ["marked"])


async def test_what_is_committed_just_now_is_not_put_aside(blobs: BlobStore) -> None:
    upload = await start(blobs)
    await upload.write(DATA)
    await upload.commit(DIGEST)
    await blobs.remove(DIGEST)
    assert await marked_aside(blobs, DIGEST) == (False, [])
    await upload.close()
    assert await marked_aside(blobs, DIGEST) == (True, ["marked"])


async def test_every_byte_that_is_scrubbed_is_paced(blobs: BlobStore) -> None:
    data = bytes(PIECE + 5)
    digest = await keep(blobs, data)
    counts: list[int] = []

    async def pace(count: int) -> None:
        counts.append(count)

    assert await blobs.scrub(digest, pace) is None
    assert sum(counts) == len(data)
