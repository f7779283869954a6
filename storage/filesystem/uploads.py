"""Uploads as files: written aside, hashed as they stream, synced, and renamed into place.

No file is open between the requests of an upload: clients that vanish would use up the
descriptors, and a lock held that long would shut out the other processes. What stays is the
running hash, for the uploads that were written last; for others it is computed from the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from storage.blobs import PIECE
from storage.digest import SHA256, Algorithm, Digest, Hasher
from storage.errors import Damaged, DigestMismatch, UploadOffset, UploadUnknown
from storage.filesystem import calls, durable
from storage.filesystem.layout import Layout
from storage.filesystem.verified import Verified
from storage.reserve import Reserve, demand
from storage.threads import Threads

RUNNING_HASHES: Final = 4096  # each some 500 bytes

_LOST: Final = "the bytes of this upload may be lost; start a new one"


@dataclass(slots=True)
class Running:
    """The hash of the first `size` bytes of an upload."""

    algorithm: Algorithm
    hasher: Hasher
    size: int = 0


class Uploads:
    """What the uploads of one process share."""

    def __init__(
        self, layout: Layout, threads: Threads, verified: Verified, reserve: Reserve
    ) -> None:
        self.layout = layout
        self.reserve = reserve
        self.threads = threads
        self.verified = verified
        self.running: OrderedDict[str, Running] = OrderedDict()
        self.committing: set[int] = set()
        """Directories held by uploads that are blobs now."""

    async def start(self, key: str, algorithm: Algorithm) -> FilesystemUpload:
        path = self.layout.upload(key)

        def create() -> None:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
            calls.close(calls.open(path, flags, 0o600))

        await self.threads.run(create)
        self.keep(key, Running(algorithm, algorithm.new()))
        return FilesystemUpload(self, key, path, 0)

    async def resume(self, key: str) -> FilesystemUpload:
        """Raises UploadUnknown."""
        path = self.layout.upload(key)
        try:
            found = calls.lstat(path)
        except FileNotFoundError:
            raise UploadUnknown("no such upload; start a new one") from None
        if not found.st_mode & stat.S_IWUSR:  # sealed, as below
            raise UploadUnknown(_LOST)
        return FilesystemUpload(self, key, path, found.st_size)

    async def expire(self, before: float) -> list[int]:
        return await self.threads.run(lambda: list(_expire(self.layout.uploads, before)))

    async def count(self) -> tuple[int, int]:
        """How many there are, and how many bytes they have."""
        sizes = await self.threads.run(lambda: list(_sizes(self.layout.uploads)))
        return len(sizes), sum(sizes)

    def keep(self, key: str, running: Running) -> None:
        self.running[key] = running
        if len(self.running) > RUNNING_HASHES:
            self.running.popitem(last=False)

    def close(self) -> None:
        for directory in self.committing:
            calls.close(directory)
        self.committing.clear()


class FilesystemUpload:
    """A file under `uploads`, open while it is held."""

    def __init__(self, uploads: Uploads, key: str, path: str, size: int) -> None:
        self.size = size
        self._uploads = uploads
        self._key = key
        self._path = path
        self._file = -1
        self._directory = -1
        self._running: Running | None = None

    async def hold(self) -> None:
        if self._file >= 0:
            return
        try:
            file = calls.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise UploadUnknown("no such upload; start a new one") from None
        except PermissionError:  # sealed, as below
            raise UploadUnknown(_LOST) from None
        try:
            self.size = calls.fstat(file).st_size
            # flock belongs to the open file, so it also keeps two tasks of one process apart.
            calls.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = calls.fstat(file)
            self.size = found.st_size
            # Between our open and our lock another process may have made a blob of this very file.
            if not _is_at(self._path, found):
                raise UploadUnknown("this upload has just ended")
            if not found.st_mode & stat.S_IWUSR:
                raise UploadUnknown(_LOST)
        except BlockingIOError:
            calls.close(file)
            raise UploadOffset(
                "somebody else is writing this upload; ask how far it is and go on from there",
                size=self.size,
            ) from None
        except BaseException:
            calls.close(file)
            raise
        self._file = file
        # Taken out, so that a hash that an error left half-way is never kept. It may be behind the
        # file (another process wrote), never before it: bytes once kept are not taken back.
        running = self._uploads.running.pop(self._key, None)
        if running is None or running.size > self.size:
            running = Running(SHA256, SHA256.new())
        self._running = running

    async def write(self, data: bytes) -> None:
        file, running = self._held()
        demand(self._uploads.reserve)

        def append() -> None:
            before = self.size
            rest = memoryview(data)
            while rest:
                written = calls.pwrite(file, rest, self.size)
                self.size += written
                rest = rest[written:]
            if running.size == before:
                running.hasher.update(data)
                running.size = self.size

        await self._uploads.threads.run(append)

    async def truncate(self, size: int) -> None:
        file, running = self._held()
        if size > self.size:
            raise ValueError(f"an upload of {self.size} bytes cannot be cut to {size}")
        await self._uploads.threads.run(lambda: calls.ftruncate(file, size))
        self.size = size
        if running.size > size:
            self._running = Running(running.algorithm, running.algorithm.new())

    async def commit(self, digest: Digest) -> int:
        file, running = self._held()
        size = self.size

        def keep() -> os.stat_result:
            actual = self._hash(file, running, digest.algorithm)
            if actual != digest:
                raise DigestMismatch(f"the digest of the {size} bytes is {actual}, not {digest}")
            # Sealed before it is synced: if that fails and not even the name can be taken away,
            # nobody, in any process, takes these bytes for good because a second sync succeeds.
            calls.fchmod(file, 0o400)
            try:
                durable.sync_file(file)
            except OSError:
                with contextlib.suppress(OSError):  # what was lost is not known, so all of it is
                    durable.unlink(self._path)
                raise
            try:
                self._publish(digest)
            except OSError:
                with contextlib.suppress(OSError):
                    if _is_at(self._path, calls.fstat(file)):  # not a blob yet: may be tried again
                        calls.fchmod(file, 0o600)
                raise
            return calls.fstat(file)

        self._uploads.verified.add(digest, await self._uploads.threads.run(keep))
        self._running = None
        return size

    def _publish(self, digest: Digest) -> None:
        layout = self._uploads.layout
        target = layout.blob(digest)
        # Shared among those who commit; the collector must have it alone to remove a blob.
        self._directory = durable.open_directory(layout.blob_directory(digest))
        self._uploads.committing.add(self._directory)
        calls.flock(self._directory, fcntl.LOCK_SH)
        try:
            try:
                durable.publish(self._path, target, self._directory)
            except IsADirectoryError:  # nothing of ours; all else a rename replaces
                move_aside(layout, digest)
                durable.publish(self._path, target, self._directory)
        except FileNotFoundError:
            if os.path.lexists(self._path):
                raise
            raise UploadUnknown("this upload was cancelled") from None

    async def cancel(self) -> None:
        # Needs no hold: whoever writes finds out at the end, and gives up its file.
        self._running = None
        self._uploads.running.pop(self._key, None)
        await self._uploads.threads.run(lambda: durable.unlink(self._path))

    async def close(self) -> None:
        if self._running is not None and self._file >= 0:
            self._uploads.keep(self._key, self._running)
        self._running = None
        file, self._file = self._file, -1
        directory, self._directory = self._directory, -1
        with contextlib.ExitStack() as closing:  # an error at one keeps not the other open
            if file >= 0:
                closing.callback(calls.close, file)
            if directory in self._uploads.committing:
                self._uploads.committing.remove(directory)
                closing.callback(calls.close, directory)

    def _held(self) -> tuple[int, Running]:
        if self._file < 0 or self._running is None:
            raise RuntimeError("an upload must be held before it is changed")
        return self._file, self._running

    def _hash(self, file: int, running: Running, algorithm: Algorithm) -> Digest:
        """The digest of the whole upload; what did not run with the bytes is read from the file."""
        if running.algorithm != algorithm:
            running = Running(algorithm, algorithm.new())
        while running.size < self.size:
            piece = calls.pread(file, min(PIECE, self.size - running.size), running.size)
            if not piece:
                raise Damaged("the file of an upload became shorter while it was read")
            running.hasher.update(piece)
            running.size += len(piece)
        return Digest(algorithm, running.hasher.hexdigest())


def move_aside(layout: Layout, digest: Digest) -> None:
    """Into the quarantine, whatever is in the place of a blob."""
    path = layout.blob(digest)
    target = layout.set_aside(digest, calls.lstat(path).st_ino)
    durable.move(path, target, (layout.blob_directory(digest), layout.quarantine))


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(calls.lstat(path), found)
    except FileNotFoundError:
        return False


def _sizes(directory: str) -> Iterator[int]:
    with calls.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                yield entry.stat(follow_symlinks=False).st_size


def _expire(directory: str, before: float) -> Iterator[int]:
    with calls.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                if entry.stat(follow_symlinks=False).st_mtime >= before:
                    continue
                # Only to lock it: a sealed one cannot be opened for more.
                file = calls.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    calls.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found = calls.fstat(file)
                    # It may have been written to, or become a blob, until we had the lock.
                    if found.st_mtime < before and _is_at(entry.path, found):
                        calls.unlink(entry.path)
                        yield found.st_size
                finally:
                    calls.close(file)
