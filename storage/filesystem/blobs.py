"""Blobs as files: written aside, hashed as they stream, synced, and renamed into place.

What goes to a thread and what stays on the event loop was measured (2 cores, page cache, ext4): a
hop to a thread and back costs 70-120 us; opening a file 4 us; taking the lock of an upload 6 us;
reading 1 MiB that is cached 70 us. So opening and locking stay, reads stay when the kernel says
that it has the bytes (RWF_NOWAIT) and go to a thread when the disk has to be asked, and everything
that writes goes to a thread.

No file is open between the requests of an upload: clients that vanish would use up the
descriptors, and a lock held that long would shut out the other processes. What stays is the
running hash, for the uploads that were written last; for others it is computed from the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from storage.blobs import PIECE
from storage.digest import SHA256, Algorithm, Digest, Hasher
from storage.errors import (
    BlobUnknown,
    Damaged,
    DigestInvalid,
    DigestMismatch,
    UploadOffset,
    UploadUnknown,
)
from storage.filesystem import durable
from storage.filesystem.layout import Layout
from storage.filesystem.verified import Verified
from storage.threads import Threads

THREADS: Final = 4  # more would only queue at the disk
HASH_HERE: Final = 64 << 10  # bytes; hashing as many takes 40 us, less than a hop
RUNNING_HASHES: Final = 4096  # each some 500 bytes

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hold us up
# What preadv says when the bytes are not cached, or the file system cannot tell.
_ASK_THE_DISK: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})


@dataclass(slots=True)
class _Running:
    """The hash of the first `size` bytes of an upload."""

    algorithm: Algorithm
    hasher: Hasher
    size: int = 0


class FilesystemBlobs:
    """BlobStore in a data directory. Several processes may have one on the same directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._threads = Threads("blobs", THREADS)
        self._verified = Verified()
        self._running: OrderedDict[str, _Running] = OrderedDict()
        self._committing: set[int] = set()  # directories held by uploads that are blobs now

    async def open(self, digest: Digest) -> FilesystemBlob:
        try:
            file = os.open(self._layout.blob(digest), _READ)
        except FileNotFoundError:
            raise BlobUnknown(f"no blob {digest}") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise Damaged(f"the file of blob {digest} is not a regular file") from None
            raise
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            os.close(file)
            raise Damaged(f"the file of blob {digest} is not a regular file")
        return FilesystemBlob(digest, file, found, self._verified, self._threads)

    async def remove(self, digest: Digest) -> None:
        # Not synced: bytes that come back after a power cut are collected again.
        await self._threads.run(lambda: _unlink(self._layout.blob(digest)))

    async def discard(self, digest: Digest, needed: Callable[[], Awaitable[bool]]) -> bool:
        with durable.opened(self._layout.blob_directory(digest)) as directory:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if not await needed():
                await self.remove(digest)
        return True

    @property
    def parts(self) -> int:
        return len(self._layout.blob_directories)

    async def kept(self, part: int) -> list[tuple[Digest, int]]:
        algorithm, directory = self._layout.blob_directories[part]

        def look() -> list[tuple[Digest, int]]:
            found = []
            with os.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(DigestInvalid, FileNotFoundError):
                        digest = Digest.parse(f"{algorithm}:{entry.name}")
                        found.append((digest, entry.stat(follow_symlinks=False).st_size))
            return found

        return await self._threads.run(look)

    async def expire_uploads(self, before: float) -> list[int]:
        return await self._threads.run(lambda: list(_expire(self._layout.uploads, before)))

    async def start_upload(self, key: str, algorithm: Algorithm) -> FilesystemUpload:
        path = self._layout.upload(key)

        def create() -> None:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
            os.close(os.open(path, flags, 0o600))

        await self._threads.run(create)
        self._keep(key, _Running(algorithm, algorithm.new()))
        return FilesystemUpload(self, key, path, 0)

    async def resume_upload(self, key: str) -> FilesystemUpload:
        path = self._layout.upload(key)
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            raise UploadUnknown("no such upload; start a new one") from None
        return FilesystemUpload(self, key, path, found.st_size)

    async def close(self) -> None:
        self._threads.close()
        for directory in self._committing:
            os.close(directory)
        self._committing.clear()

    def _keep(self, key: str, running: _Running) -> None:
        self._running[key] = running
        if len(self._running) > RUNNING_HASHES:
            self._running.popitem(last=False)


class FilesystemBlob:
    """An open file."""

    __slots__ = ("_digest", "_file", "_found", "_threads", "_verified", "size")

    def __init__(
        self,
        digest: Digest,
        file: int,
        found: os.stat_result,
        verified: Verified,
        threads: Threads,
    ) -> None:
        self.size = found.st_size
        self._digest = digest
        self._file = file
        self._found = found
        self._verified = verified
        self._threads = threads

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        end = self.size if end is None else min(end, self.size)
        hasher = None
        if (start, end) == (0, self.size) and not self._verified.covers(self._digest, self._found):
            hasher = self._digest.algorithm.new()
        while start < end:
            count = min(PIECE, end - start)
            piece = None if hasher and count > HASH_HERE else self._cached(start, count)
            if piece is None:
                piece = await self._threads.run(partial(self._read, start, count, hasher))
            elif hasher:
                hasher.update(piece)
            if not piece:
                raise Damaged(f"the file of blob {self._digest} ends {end - start} bytes too early")
            start += len(piece)
            if hasher and start == end:
                self._check(hasher)
            yield piece

    def _read(self, start: int, count: int, hasher: Hasher | None) -> bytes:
        piece = os.pread(self._file, count, start)
        if hasher:
            hasher.update(piece)
        return piece

    def _check(self, hasher: Hasher) -> None:
        if hasher.hexdigest() != self._digest.encoded:
            raise Damaged(f"the bytes of blob {self._digest} are not what they were; push it again")
        self._verified.add(self._digest, self._found)

    def _cached(self, start: int, count: int) -> bytes | None:
        """What the kernel has of it, from `start` on, without waiting."""
        buffer = bytearray(count)
        try:
            got = os.preadv(self._file, [buffer], start, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _ASK_THE_DISK:
                return None
            raise
        # A short answer may be the border of what is cached, or the end of the file.
        return bytes(buffer) if got == count else bytes(memoryview(buffer)[:got]) or None

    async def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class FilesystemUpload:
    """A file under `uploads`, open while it is held."""

    def __init__(self, store: FilesystemBlobs, key: str, path: str, size: int) -> None:
        self.size = size
        self._store = store
        self._key = key
        self._path = path
        self._file = -1
        self._directory = -1
        self._running: _Running | None = None

    async def hold(self) -> None:
        if self._file >= 0:
            return
        try:
            file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise UploadUnknown("no such upload; start a new one") from None
        try:
            self.size = os.fstat(file).st_size
            # flock belongs to the open file, so it also keeps two tasks of one process apart.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file)
            self.size = found.st_size
            # Between our open and our lock another process may have made a blob of this very file.
            if not _is_at(self._path, found):
                raise UploadUnknown("this upload has just ended")
        except BlockingIOError:
            os.close(file)
            raise UploadOffset(
                "somebody else is writing this upload; ask how far it is and go on from there",
                size=self.size,
            ) from None
        except BaseException:
            os.close(file)
            raise
        self._file = file
        # Taken out, so that a hash that an error left half-way is never kept. It may be behind the
        # file (another process wrote), never before it: bytes once kept are not taken back.
        running = self._store._running.pop(self._key, None)
        if running is None or running.size > self.size:
            running = _Running(SHA256, SHA256.new())
        self._running = running

    async def write(self, data: bytes) -> None:
        file, running = self._held()

        def append() -> None:
            before = self.size
            rest = memoryview(data)
            while rest:
                written = os.pwrite(file, rest, self.size)
                self.size += written
                rest = rest[written:]
            if running.size == before:
                running.hasher.update(data)
                running.size = self.size

        await self._store._threads.run(append)

    async def truncate(self, size: int) -> None:
        file, running = self._held()
        if size > self.size:
            raise ValueError(f"an upload of {self.size} bytes cannot be cut to {size}")
        await self._store._threads.run(lambda: os.ftruncate(file, size))
        self.size = size
        if running.size > size:
            self._running = _Running(running.algorithm, running.algorithm.new())

    async def commit(self, digest: Digest) -> int:
        file, running = self._held()
        layout = self._store._layout
        size = self.size

        def keep() -> os.stat_result:
            actual = self._hash(file, running, digest.algorithm)
            if actual != digest:
                raise DigestMismatch(f"the digest of the {size} bytes is {actual}, not {digest}")
            try:
                durable.sync_file(file)
            except OSError:
                _unlink(self._path)  # what was lost is not known, so nothing of it can be used
                raise
            os.fchmod(file, 0o400)  # never written again
            # Shared among those who commit; the collector must have it alone to remove a blob.
            self._directory = durable.open_directory(layout.blob_directory(digest))
            self._store._committing.add(self._directory)
            fcntl.flock(self._directory, fcntl.LOCK_SH)
            try:
                durable.publish(self._path, layout.blob(digest), self._directory)
            except FileNotFoundError:
                if os.path.lexists(self._path):
                    raise
                raise UploadUnknown("this upload was cancelled") from None
            return os.fstat(file)

        self._store._verified.add(digest, await self._store._threads.run(keep))
        self._running = None
        return size

    async def cancel(self) -> None:
        # Needs no hold: whoever writes finds out at the end, and gives up its file.
        self._running = None
        self._store._running.pop(self._key, None)
        await self._store._threads.run(lambda: _unlink(self._path))

    async def close(self) -> None:
        directory, self._directory = self._directory, -1
        if directory in self._store._committing:
            self._store._committing.remove(directory)
            os.close(directory)
        if self._file < 0:
            return
        if self._running is not None:
            self._store._keep(self._key, self._running)
        self._running = None
        file, self._file = self._file, -1
        os.close(file)

    def _held(self) -> tuple[int, _Running]:
        if self._file < 0 or self._running is None:
            raise RuntimeError("an upload must be held before it is changed")
        return self._file, self._running

    def _hash(self, file: int, running: _Running, algorithm: Algorithm) -> Digest:
        """The digest of the whole upload; what did not run with the bytes is read from the file."""
        if running.algorithm != algorithm:
            running = _Running(algorithm, algorithm.new())
        while running.size < self.size:
            piece = os.pread(file, min(PIECE, self.size - running.size), running.size)
            if not piece:
                raise Damaged("the file of an upload became shorter while it was read")
            running.hasher.update(piece)
            running.size += len(piece)
        return Digest(algorithm, running.hasher.hexdigest())


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except FileNotFoundError:
        return False


def _expire(directory: str, before: float) -> Iterator[int]:
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                if entry.stat(follow_symlinks=False).st_mtime >= before:
                    continue
                file = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found = os.fstat(file)
                    # It may have been written to, or become a blob, until we had the lock.
                    if found.st_mtime < before and _is_at(entry.path, found):
                        os.unlink(entry.path)
                        yield found.st_size
                finally:
                    os.close(file)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
