"""A disk that logs what it is asked: one file in a file system of its own, for a loop device.

The loop driver turns what the kernel sends to the device into writes of the file, and REQ_FLUSH
into fsync. A record is in the log before the answer is on its way, so what a file system was told
is on the disk is in the log.

Run as a program: `python -m tests.power.disk IMAGE LOG DIRECTORY`. Ends when it is unmounted.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from typing import Any, NoReturn

import mfusepy

from tests.power import log
from tests.power.filesystems import DISK, REFUSED


class Disk(mfusepy.Operations):  # type: ignore[misc]  # it has no types
    """Begins as the image, which stays as it is.

    While there is a file LOG.refused, writes that contain its bytes fail and are not done; when it
    is empty, flushes fail. LOG.refused.times is as many bytes long as there were such failures.
    """

    use_ns = True

    def __init__(self, image: str, log_path: str) -> None:
        with open(image, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._refusing = f"{log_path}{REFUSED}"

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path == f"/{DISK}":
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": len(self._bytes)}
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", DISK]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._bytes[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        refused = self._refused()
        if refused and refused in data:
            self._refuse()
        self._append(log.written(data, offset))
        self._bytes[offset : offset + len(data)] = data
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if self._refused() == b"":
            self._refuse()
        self._append(log.FLUSHED)
        return 0

    def _refused(self) -> bytes | None:
        try:
            with open(self._refusing, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _refuse(self) -> NoReturn:
        with open(f"{self._refusing}.times", "ab") as file:
            file.write(b"1")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _append(self, record: bytes) -> None:
        if os.write(self._log, record) != len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(image: str, log_path: str, directory: str) -> None:
    options = {} if mfusepy.fuse_version_major >= 3 else {"big_writes": True}
    # One thread, so that the order of the log is the order in which things happened.
    mfusepy.FUSE(Disk(image, log_path), directory, foreground=True, nothreads=True, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
