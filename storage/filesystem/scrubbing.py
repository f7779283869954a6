"""Looking at the files of blobs one after another, without getting in anybody's way.

What a server reads often is in the kernel's memory, and what lies on the disk may differ from it.
So a piece is dropped from there before it is read, and dropped again after, unless it was there at
the beginning: then it is back where it was. Times of access are left alone.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import partial
from typing import Final

from storage.blobs import PIECE, Flaw, Pace
from storage.digest import Digest, Hasher
from storage.filesystem import calls
from storage.filesystem.verified import Verified
from storage.threads import Threads

# A link is not followed, and a FIFO must not hold us up.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH

GONE: Final = Flaw("its file is gone")
ODD: Final = Flaw("in its place is something that is no file")
OTHER: Final = Flaw("its bytes are not what they were")


def look(path: str, size: int) -> Flaw | None:
    """What one call tells.

    A file may have other names: backups make such. Who would change it by one of them has to be
    its owner, and what was changed is read again before it is served.
    """
    try:
        found = calls.lstat(path)
    except FileNotFoundError:
        return GONE
    if not stat.S_ISREG(found.st_mode):
        return ODD
    if found.st_size != size:
        return Flaw(f"it has {found.st_size} bytes and should have {size}")
    if found.st_uid != os.geteuid():
        return Flaw(f"its file belongs to user {found.st_uid}", lost=False)
    if found.st_mode & _OTHERS:
        return Flaw("its file can be written by others", lost=False)
    return None


async def read(
    path: str, digest: Digest, verified: Verified, threads: Threads, pace: Pace
) -> Flaw | None:
    """Hash it all."""
    try:
        file = await threads.run(partial(_open, path))
    except FileNotFoundError:
        return GONE
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return ODD
        if error.errno == errno.EACCES:
            verified.refute(digest, calls.lstat(path))
            return Flaw("its file may not be read")
        raise
    try:
        found = calls.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return ODD
        hasher, at = digest.algorithm.new(), 0
        while at < found.st_size:
            try:
                count = await threads.run(partial(_piece, file, at, hasher))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                verified.refute(digest, found)
                return Flaw(f"its file cannot be read: {error.strerror}", unread=True)
            if not count:
                break
            at += count
            await pace(count)
        if hasher.hexdigest() != digest.encoded:
            verified.refute(digest, calls.fstat(file))
            return OTHER
        verified.add(digest, found)
        return None
    finally:
        calls.close(file)


def _open(path: str) -> int:
    try:
        return calls.open(path, _READ | os.O_NOATIME)
    except PermissionError:  # of somebody else's file the times are theirs
        return calls.open(path, _READ)


def _piece(file: int, at: int, hasher: Hasher) -> int:
    kept = _cached(file, at)
    _forget(file, at)
    piece = calls.pread(file, PIECE, at)
    if not kept:
        _forget(file, at)
    hasher.update(piece)
    return len(piece)


def _forget(file: int, at: int) -> None:
    with suppress(OSError):  # a file system need not know how
        calls.posix_fadvise(file, at, PIECE, os.POSIX_FADV_DONTNEED)


def _cached(file: int, at: int) -> bool:
    """Whether the kernel has the beginning of a piece in memory."""
    try:
        return calls.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT) == 1
    except OSError:
        return False
