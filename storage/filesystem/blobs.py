"""Blobs as files, each under the name of its digest.

What goes to a thread and what stays on the event loop was measured (2 cores, page cache, ext4): a
hop to a thread and back costs 70-120 us; opening a file 4 us; taking the lock of an upload 6 us;
reading 1 MiB that is cached 70 us. So opening and locking stay, reads stay when the kernel says
that it has the bytes (RWF_NOWAIT) and go to a thread when the disk has to be asked, and everything
that writes goes to a thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from storage.blobs import PIECE, Flaw, Pace, at_once
from storage.digest import Algorithm, Digest, Hasher
from storage.errors import (
    BlobUnknown,
    Damaged,
    DigestInvalid,
)
from storage.filesystem import calls, durable, scrubbing
from storage.filesystem.layout import Layout
from storage.filesystem.uploads import FilesystemUpload, Uploads, move_aside
from storage.filesystem.verified import Verified
from storage.reserve import Boundless, Reserve
from storage.threads import Threads

THREADS: Final = 4  # more would only queue at the disk
FIRST: Final = 64 << 10  # bytes read at first; then each time as many as all before, up to PIECE:
# a client that takes nothing costs half a mebibyte, and not two
HASH_HERE: Final = 64 << 10  # bytes; hashing as many takes 40 us, less than a hop

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hold us up
# What preadv says when the bytes are not cached, or the file system cannot tell.
_ASK_THE_DISK: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP})


class FilesystemBlobs:
    """BlobStore in a data directory. Several processes may have one on the same directory."""

    def __init__(self, layout: Layout, reserve: Reserve | None = None) -> None:
        self._layout = layout
        self._threads = Threads("blobs", THREADS)
        self._verified = Verified()
        self._uploads = Uploads(layout, self._threads, self._verified, reserve or Boundless())

    async def open(self, digest: Digest) -> FilesystemBlob:
        try:
            file = calls.open(self._layout.blob(digest), _READ)
        except FileNotFoundError:
            raise BlobUnknown(f"no blob {digest}") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise Damaged(f"the file of blob {digest} is not a regular file") from None
            raise
        try:
            found = calls.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise Damaged(f"the file of blob {digest} is not a regular file")
        except BaseException:
            calls.close(file)
            raise
        return FilesystemBlob(digest, file, found, self._verified, self._threads)

    async def remove(self, digest: Digest) -> None:
        # Not synced: bytes that come back after a power cut are collected again.
        def remove() -> None:
            try:
                durable.unlink(self._layout.blob(digest))
            except IsADirectoryError:  # nothing of ours; who made it may want it
                move_aside(self._layout, digest)

        await self._threads.run(remove)

    async def discard(self, digest: Digest, needed: Callable[[], Awaitable[bool]]) -> bool:
        with durable.opened(self._layout.blob_directory(digest)) as directory:
            try:
                calls.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
            with calls.scandir(directory) as entries:
                for entry in entries:
                    with contextlib.suppress(DigestInvalid, FileNotFoundError):
                        digest = Digest.parse(f"{algorithm}:{entry.name}")
                        found.append((digest, entry.stat(follow_symlinks=False).st_size))
            return found

        return await self._threads.run(look)

    async def survey(self, blobs: Sequence[tuple[Digest, int]]) -> list[tuple[Digest, Flaw]]:
        def look() -> list[tuple[Digest, Flaw]]:
            found = (
                (digest, scrubbing.look(self._layout.blob(digest), size)) for digest, size in blobs
            )
            return [(digest, flaw) for digest, flaw in found if flaw is not None]

        return await self._threads.run(look)

    async def scrub(self, digest: Digest, pace: Pace = at_once) -> Flaw | None:
        return await scrubbing.read(
            self._layout.blob(digest), digest, self._verified, self._threads, pace
        )

    async def set_aside(
        self, digest: Digest, mark: Callable[[], Awaitable[None]], *, leave: bool = False
    ) -> bool:
        with durable.opened(self._layout.blob_directory(digest)) as directory:
            try:
                calls.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            try:
                found = calls.lstat(self._layout.blob(digest))
            except FileNotFoundError:
                await mark()
                return True
            if stat.S_ISREG(found.st_mode) and not self._verified.refuted(digest, found):
                return False
            await mark()
            if not leave:
                await self._threads.run(partial(move_aside, self._layout, digest))
        return True

    async def strangers(self, part: int) -> list[str]:
        algorithm, directory = self._layout.blob_directories[part]

        def look() -> list[str]:
            found = []
            with calls.scandir(directory) as entries:
                for entry in entries:
                    try:
                        digest = Digest.parse(f"{algorithm}:{entry.name}")
                    except DigestInvalid:
                        found.append(entry.path)
                        continue
                    if self._layout.blob_directory(digest) != directory:
                        found.append(entry.path)
            return found

        return await self._threads.run(look)

    async def expire_uploads(self, before: float) -> list[int]:
        return await self._uploads.expire(before)

    async def open_uploads(self) -> tuple[int, int]:
        return await self._uploads.count()

    async def start_upload(self, key: str, algorithm: Algorithm) -> FilesystemUpload:
        return await self._uploads.start(key, algorithm)

    async def resume_upload(self, key: str) -> FilesystemUpload:
        return await self._uploads.resume(key)

    async def close(self) -> None:
        self._threads.close()
        self._uploads.close()


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
        first = start
        while start < end:
            # Of a small blob that has to be checked, nothing is given out before.
            most = PIECE if hasher else min(max(FIRST, start - first), PIECE)
            count = min(most, end - start)
            piece = None if hasher and count > HASH_HERE else self._cached(start, count)
            if piece is None:
                piece = await self._threads.run(partial(self._read, start, count, hasher))
            elif hasher:
                hasher.update(piece)
            if not piece:
                self._verified.refute(self._digest, calls.fstat(self._file))
                raise Damaged(f"the file of blob {self._digest} ends {end - start} bytes too early")
            start += len(piece)
            if hasher and start == end:
                self._check(hasher)
            yield piece

    def _read(self, start: int, count: int, hasher: Hasher | None) -> bytes:
        piece = calls.pread(self._file, count, start)
        if hasher:
            hasher.update(piece)
        return piece

    def _check(self, hasher: Hasher) -> None:
        if hasher.hexdigest() != self._digest.encoded:
            self._verified.refute(self._digest, self._found)
            raise Damaged(f"the bytes of blob {self._digest} are not what they were; push it again")
        self._verified.add(self._digest, self._found)

    def _cached(self, start: int, count: int) -> bytes | None:
        """What the kernel has of it, from `start` on, without waiting."""
        buffer = bytearray(count)
        try:
            got = calls.preadv(self._file, [buffer], start, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _ASK_THE_DISK:
                return None
            raise
        # A short answer may be the border of what is cached, or the end of the file.
        return bytes(buffer) if got == count else bytes(memoryview(buffer)[:got]) or None

    async def fileno(self) -> int:
        return self._file

    async def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            calls.close(file)
