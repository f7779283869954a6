"""The reserve as files that hold nothing.

They are several, so that giving them up frees inodes as well as blocks: SQLite needs two to open
its catalogue. They are made in order and given up from the last, under a lock, so the last one
tells of all.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from storage.blobs import PIECE
from storage.filesystem import calls, durable
from storage.filesystem.layout import Layout
from storage.reserve import FULL

# What a file system says that cannot give room without bytes.
_UNABLE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class FilesystemReserve:
    """Reserve of `size` bytes in a data directory; 0: none, and it is always whole."""

    def __init__(self, layout: Layout, size: int) -> None:
        self._directory = layout.reserve
        self._parts = layout.reserve_parts
        self._part = -(-size // len(self._parts))

    @property
    def whole(self) -> bool:
        if not self._part:
            return True
        try:
            return calls.lstat(self._parts[-1]).st_size >= self._part
        except FileNotFoundError:
            return False

    async def give_up(self) -> None:
        await asyncio.to_thread(self._give_up)

    async def fill(self) -> bool:
        return await asyncio.to_thread(self._fill)

    async def trim(self) -> None:
        await asyncio.to_thread(self._trim)

    def _give_up(self) -> None:
        with suppress(OSError), self._locked():
            for part in reversed(self._parts):
                with suppress(OSError):
                    durable.unlink(part)
        with suppress(OSError):  # some file systems count it as free only then
            durable.sync_directory(self._directory)

    def _fill(self) -> bool:
        if not self._part:
            self._give_up()
            return True
        try:
            with suppress(FileExistsError):
                calls.mkdir(self._directory, 0o700)
            with self._locked():
                for part in self._parts:
                    self._take(part)
        except OSError as error:
            if error.errno not in FULL:
                raise
        return self.whole

    def _trim(self) -> None:
        with suppress(OSError), self._locked():
            for part in self._parts:
                file = calls.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if calls.fstat(file).st_size > self._part:
                        calls.ftruncate(file, self._part)
                finally:
                    calls.close(file)

    def _take(self, part: str) -> None:
        file = calls.open(part, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            found = calls.fstat(file)
            # A copy of the directory may have made it a file of the same size without blocks.
            missing = self._part - min(found.st_blocks * 512, found.st_size)
            if missing > 0:
                self._allocate(file, missing)
        except OSError:
            # A piece that is too small helps nobody; what is left is better left free.
            with suppress(OSError):
                durable.unlink(part)
            raise
        finally:
            calls.close(file)

    def _allocate(self, file: int, missing: int) -> None:
        """In place: a part that is too short for a moment would refuse pushes of others."""
        # Asked first: an attempt may take all there is for a moment, and others need it.
        found = calls.fstatvfs(file)
        free = found.f_bavail if os.geteuid() else found.f_bfree
        if free * found.f_frsize < missing:
            raise OSError(errno.ENOSPC, "no room for the reserve")
        try:
            calls.posix_fallocate(file, 0, self._part)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            for at in range(0, self._part, PIECE):
                calls.pwrite(file, bytes(min(PIECE, self._part - at)), at)
            durable.sync_file(file)  # else it is only promised to be written somewhere

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with durable.opened(self._directory) as directory:
            calls.flock(directory, fcntl.LOCK_EX)
            yield
