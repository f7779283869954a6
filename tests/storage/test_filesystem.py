"""What the driver on the disk promises beyond the contract of all drivers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from storage.blobs import PIECE
from storage.digest import SHA256, SHA512
from storage.errors import BlobUnknown, Damaged, UploadUnknown
from storage.filesystem import calls
from storage.filesystem import uploads as driver
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.uploads import FilesystemUpload
from storage.filesystem.verified import FOR, Verified
from tests.storage.content import pull

KEY = "0123456789abcdef" * 4
DATA = b"some bytes" * 1000
DIGEST = SHA256.digest(DATA)
LARGE = b"0123456789abcdef" * (PIECE // 16 * 3)


@pytest.fixture
async def blobs(layout: Layout) -> AsyncIterator[FilesystemBlobs]:
    store = FilesystemBlobs(layout)
    yield store
    await store.close()


async def filled(blobs: FilesystemBlobs, data: bytes = DATA) -> FilesystemUpload:
    upload = await blobs.start_upload(KEY, SHA256)
    await upload.hold()
    await upload.write(data)
    return upload


async def keep(blobs: FilesystemBlobs, data: bytes = DATA) -> None:
    await (await filled(blobs, data)).commit(SHA256.digest(data))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Order and durability


async def test_a_blob_is_synced_then_named_then_its_directory_synced(
    blobs: FilesystemBlobs, layout: Layout, steps: list[tuple[str, str]]
) -> None:
    await keep(blobs)
    assert steps == [
        ("fdatasync", layout.upload(KEY)),
        ("rename", layout.blob(DIGEST)),
        ("fsync", layout.blob_directory(DIGEST)),
    ]


async def test_a_blob_that_is_there_is_written_all_the_same(
    blobs: FilesystemBlobs, layout: Layout, steps: list[tuple[str, str]]
) -> None:
    """Another pusher's file may not be durable yet, so that it exists says nothing."""
    await keep(blobs)
    first = os.stat(layout.blob(DIGEST)).st_ino
    steps.clear()
    await keep(blobs)
    assert [name for name, _ in steps] == ["fdatasync", "rename", "fsync"]
    assert os.stat(layout.blob(DIGEST)).st_ino != first


async def test_other_bytes_are_never_made_durable(
    blobs: FilesystemBlobs, steps: list[tuple[str, str]]
) -> None:
    upload = await filled(blobs)
    with pytest.raises(driver.DigestMismatch):
        await upload.commit(SHA256.digest(b"other"))
    await upload.close()
    assert steps == []


def failing(error: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


async def test_an_upload_whose_sync_failed_is_dropped(
    blobs: FilesystemBlobs, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a lost write once: trying again would succeed, and prove nothing."""
    upload = await filled(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "fdatasync", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            await upload.commit(DIGEST)
    await upload.close()
    with pytest.raises(UploadUnknown):
        await blobs.resume_upload(KEY)
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_a_blob_whose_directory_could_not_be_synced_is_not_reported_as_kept(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await filled(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            await upload.commit(DIGEST)
    await upload.close()
    with pytest.raises(UploadUnknown):
        await blobs.resume_upload(KEY)


async def test_a_blob_whose_directory_could_not_be_synced_is_written_and_synced_anew(
    blobs: FilesystemBlobs,
    layout: Layout,
    steps: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name may be there, and gone after a power cut: that it is there says nothing."""
    upload = await filled(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            await upload.commit(DIGEST)
    await upload.close()
    first = os.stat(layout.blob(DIGEST)).st_ino
    steps.clear()
    await keep(blobs)
    assert steps == [
        ("fdatasync", layout.upload(KEY)),
        ("rename", layout.blob(DIGEST)),
        ("fsync", layout.blob_directory(DIGEST)),
    ]
    assert os.stat(layout.blob(DIGEST)).st_ino != first


async def test_an_upload_that_could_not_be_synced_is_lost_for_every_process(
    blobs: FilesystemBlobs, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where its name could not be taken away: a second sync would succeed."""
    upload = await filled(blobs)
    other = FilesystemBlobs(layout)
    late = await other.resume_upload(KEY)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "fdatasync", failing(errno.EIO))
        patch.setattr(calls, "unlink", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            await upload.commit(DIGEST)
    await upload.close()
    with pytest.raises(UploadUnknown, match="may be lost"):
        await late.hold()
    with pytest.raises(UploadUnknown, match="may be lost"):
        await other.resume_upload(KEY)  # nor is anybody told that it could go on
    assert await other.expire_uploads(time.time() + 60) == [len(DATA)]
    await other.close()


async def test_an_upload_that_could_not_be_named_is_kept(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await filled(blobs)
    with monkeypatch.context() as patch:
        patch.setattr(calls, "rename", failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space left"):
            await upload.commit(DIGEST)
    await upload.close()
    await upload.hold()
    assert await upload.commit(DIGEST) == len(DATA)
    await upload.close()


async def test_a_missing_directory_is_not_mistaken_for_a_cancelled_upload(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    upload = await filled(blobs)
    os.rmdir(layout.blob_directory(DIGEST))
    with pytest.raises(FileNotFoundError):
        await upload.commit(DIGEST)
    await upload.close()


async def test_short_writes_are_continued(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = calls.pwrite
    monkeypatch.setattr(calls, "pwrite", lambda file, data, at: real(file, data[:777], at))
    await keep(blobs)
    assert await pull(await blobs.open(DIGEST)) == DATA


async def test_a_full_disk_keeps_what_fitted_and_says_how_much(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await filled(blobs, DATA[:100])
    real, room = calls.pwrite, 50

    def full(file: int, data: memoryview, at: int) -> int:
        if at >= 100 + room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[:room], at)

    with monkeypatch.context() as patch:
        patch.setattr(calls, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            await upload.write(DATA[100:])
    assert upload.size == 150
    await upload.write(DATA[150:])
    assert await upload.commit(DIGEST) == len(DATA)


# Files


async def test_uploads_and_blobs_are_for_our_eyes_only(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    upload = await filled(blobs)
    assert stat.S_IMODE(os.stat(layout.upload(KEY)).st_mode) == 0o600
    await upload.commit(DIGEST)
    assert stat.S_IMODE(os.stat(layout.blob(DIGEST)).st_mode) == 0o400


def a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    path.symlink_to(tmp_path / "secret")


def a_fifo(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)


def a_directory(path: Path, tmp_path: Path) -> None:
    path.mkdir()


def a_socket(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")  # the path itself is too long
        os.close(here)


@pytest.mark.parametrize("plant", [a_link, a_fifo, a_directory, a_socket])
async def test_what_is_no_regular_file_is_not_read(
    blobs: FilesystemBlobs,
    layout: Layout,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
) -> None:
    plant(Path(layout.blob(DIGEST)), tmp_path)
    before = descriptors()
    with pytest.raises(Damaged):
        await blobs.open(DIGEST)
    assert descriptors() == before


async def test_a_link_in_the_place_of_an_upload_is_not_written_through(
    blobs: FilesystemBlobs, layout: Layout, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    Path(layout.upload(KEY)).symlink_to(victim)
    upload = await blobs.resume_upload(KEY)
    with pytest.raises(OSError, match="symbolic links"):
        await upload.hold()


async def replace(layout: Layout, data: bytes) -> None:
    path = Path(layout.blob(SHA256.digest(LARGE)))
    path.unlink()
    path.write_bytes(data)


async def test_wrong_bytes_are_noticed_each_time(blobs: FilesystemBlobs, layout: Layout) -> None:
    await keep(blobs, LARGE)
    await replace(layout, b"!" + LARGE[1:])
    for _ in range(2):
        with pytest.raises(Damaged):
            await pull(await blobs.open(SHA256.digest(LARGE)))


async def test_a_file_changed_in_place_is_noticed_though_it_was_found_good_before(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    await keep(blobs)
    assert await pull(await blobs.open(DIGEST)) == DATA
    path = Path(layout.blob(DIGEST))
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(DATA[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # some kernels count in ticks of 4 ms
        path.chmod(0o600)
    with pytest.raises(Damaged):
        await pull(await blobs.open(DIGEST))


async def test_a_file_that_is_cut_short_while_it_is_read_is_damaged(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    await keep(blobs, LARGE)
    blob = await blobs.open(SHA256.digest(LARGE))
    path = Path(layout.blob(SHA256.digest(LARGE)))
    path.chmod(0o600)
    os.truncate(path, PIECE + 10)
    with pytest.raises(Damaged):
        await pull(blob)


async def test_pushing_a_damaged_blob_again_heals_it(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    await keep(blobs, LARGE)
    await replace(layout, b"!" + LARGE[1:])
    await keep(blobs, LARGE)
    assert await pull(await blobs.open(SHA256.digest(LARGE))) == LARGE


async def test_reads_work_where_the_kernel_cannot_say_what_is_cached(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(blobs, LARGE)
    monkeypatch.setattr(calls, "preadv", failing(errno.EOPNOTSUPP))
    assert await pull(await blobs.open(SHA256.digest(LARGE))) == LARGE
    assert await pull(await blobs.open(SHA256.digest(LARGE)), 5, PIECE + 7) == LARGE[5 : PIECE + 7]


@pytest.mark.parametrize("start", [0, 100])
async def test_a_reader_that_may_take_nothing_is_read_little_for(
    blobs: FilesystemBlobs, start: int
) -> None:
    """The piece that waits for it, and the next, are all in memory that it costs."""
    await keep(blobs, LARGE)
    await pull(await blobs.open(SHA256.digest(LARGE)))
    blob = await blobs.open(SHA256.digest(LARGE))
    pieces = [piece async for piece in blob.chunks(start)]
    await blob.close()
    assert b"".join(pieces) == LARGE[start:]
    kib = [len(piece) >> 10 for piece in pieces]
    assert kib[:7] == [64, 64, 128, 256, 512, 1024, (len(LARGE) - start >> 10) - 2048]


def test_what_was_found_good_is_not_believed_for_ever(tmp_path: Path) -> None:
    now = 0.0
    verified = Verified(lambda: now)
    found = tmp_path.stat()
    assert not verified.covers(DIGEST, found)
    verified.add(DIGEST, found)
    assert verified.covers(DIGEST, found)
    now = FOR
    assert not verified.covers(DIGEST, found)


# Uploads


async def test_a_lock_on_a_file_that_has_become_a_blob_is_not_taken(
    blobs: FilesystemBlobs, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, another process may have committed: the file is a blob now."""
    winner = await filled(blobs)
    late = await blobs.resume_upload(KEY)
    real = calls.flock
    committed = asyncio.get_running_loop().create_future()

    def commit_first(file: int, operation: int) -> None:
        os.rename(layout.upload(KEY), layout.blob(DIGEST))
        os.close(winner._file)
        winner._file = -1
        committed.set_result(None)
        real(file, operation)

    monkeypatch.setattr(calls, "flock", commit_first)
    before = descriptors()
    with pytest.raises(UploadUnknown):
        await late.hold()
    assert committed.done()
    assert descriptors() == before - 1


async def test_nothing_is_open_between_the_requests_of_an_upload(blobs: FilesystemBlobs) -> None:
    before = descriptors()
    upload = await filled(blobs)
    await upload.close()
    assert descriptors() == before
    await upload.hold()
    await upload.commit(DIGEST)
    await upload.close()
    assert descriptors() == before
    blob = await blobs.open(DIGEST)
    await pull(blob)
    assert descriptors() == before


async def test_the_hash_runs_on_from_request_to_request(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await filled(blobs, DATA[:100])
    await upload.close()
    upload = await blobs.resume_upload(KEY)
    await upload.hold()
    await upload.write(DATA[100:])
    monkeypatch.setattr(calls, "pread", failing(errno.EIO))  # the file is not read again
    await upload.commit(DIGEST)


async def test_what_another_process_added_is_hashed_from_the_file(
    blobs: FilesystemBlobs, layout: Layout
) -> None:
    upload = await filled(blobs, DATA[:100])
    await upload.close()
    other = FilesystemBlobs(layout)
    theirs = await other.resume_upload(KEY)
    await theirs.hold()
    await theirs.write(DATA[100:200])
    await theirs.close()
    await other.close()
    await upload.hold()
    assert upload.size == 200
    await upload.write(DATA[200:])
    await upload.commit(DIGEST)


async def test_the_hash_expected_at_the_start_is_the_one_that_runs(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await blobs.start_upload(KEY, SHA512)
    await upload.hold()
    await upload.write(DATA)
    monkeypatch.setattr(calls, "pread", failing(errno.EIO))
    await upload.commit(SHA512.digest(DATA))


async def test_running_hashes_that_are_not_kept_any_more_are_made_again(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "RUNNING_HASHES", 1)
    upload = await filled(blobs)
    await upload.close()
    other = await blobs.start_upload(KEY[::-1], SHA256)
    await other.close()
    assert list(blobs._uploads.running) == [KEY[::-1]]
    await upload.hold()
    await upload.commit(DIGEST)


async def test_a_cancelled_write_has_ended_when_its_caller_hears_of_it(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the file could be closed, and its number used again, under a thread that writes."""
    upload = await filled(blobs, b"")
    begun, go_on = threading.Event(), threading.Event()
    real = calls.pwrite

    def slow(file: int, data: memoryview, at: int) -> int:
        begun.set()
        assert go_on.wait(10)
        return real(file, data, at)

    monkeypatch.setattr(calls, "pwrite", slow)
    writing = asyncio.create_task(upload.write(DATA))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        writing.cancel()
        await asyncio.sleep(0)
    assert not writing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert upload.size == len(DATA)
    await upload.commit(DIGEST)


async def test_a_key_is_no_path(blobs: FilesystemBlobs) -> None:
    for key in ("../layout.json", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        with pytest.raises(ValueError, match="not the key"):
            await blobs.start_upload(key, SHA256)
