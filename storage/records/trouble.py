"""What an error of SQLite says about the disk, in the words of every other place that writes."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.filesystem import calls, durable

PROBE: Final = 64 << 10  # bytes; SQLite's own pieces are smaller

# Their cause is some errno that Python does not tell.
_ASK: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})

# The statement failed, and the connection is as good as before.
_HARMLESS: Final = frozenset(
    {
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_BUSY),
        *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_MISMATCH),
    }
)


def told(error: BaseException, path: Path) -> BaseException:
    """The OSError behind an error of the database in `path`; any other error as it is."""
    if isinstance(error, MemoryError):
        return _error(errno.ENOMEM)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return _error(errno.ENOSPC)
    if primary == sqlite3.SQLITE_NOMEM:
        return _error(errno.ENOMEM)
    if primary == sqlite3.SQLITE_READONLY:
        return _error(errno.EROFS)
    if code == sqlite3.SQLITE_IOERR_FSYNC:  # whether it happened is not known, whatever is asked
        return _error(errno.EIO)
    return _asked(path) if primary in _ASK else error


def lost(error: BaseException) -> bool:
    """Whether a connection that met it is not to be trusted with anything more."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, MemoryError) or (code is not None and code & 0xFF not in _HARMLESS)


def _asked(path: Path) -> OSError:
    """What the disk says to somebody else who wants what SQLite could not have.

    A quota and a limit on the size of files are told as "disk I/O error", and that there is no
    inode left as "unable to open database file".
    """
    probe = str(path) + "-probe"
    try:
        size = max(_size(str(path)), _size(f"{path}-wal"))
        file = calls.open(probe, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            calls.posix_fallocate(file, size, PROBE)
        finally:
            calls.close(file)
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            durable.unlink(probe)
    return _error(errno.EIO)


def _size(path: str) -> int:
    with suppress(FileNotFoundError):
        return calls.lstat(path).st_size
    return 0


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
