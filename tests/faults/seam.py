"""The disk says no at the n-th call: once, or from then on for ever."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from storage.filesystem import calls
from storage.records import sqlite

# What SQLite makes of the same trouble. (It tries again by itself when it is interrupted.)
CODES: Final = {
    errno.EIO: sqlite3.SQLITE_IOERR_FSYNC,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_IOERR_WRITE,
    errno.EMFILE: sqlite3.SQLITE_CANTOPEN,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOMEM: sqlite3.SQLITE_NOMEM,
}
ERRORS: Final = (*CODES, errno.EINTR)

# Their effect is there although they report an error: always that of `close`, which lets go of the
# descriptor whatever it says.
_ALWAYS_LATE: Final = ("close",)
_MAY_BE_LATE: Final = ("rename", "unlink", "fsync", "fdatasync", "fchmod", "ftruncate", "COMMIT")


@dataclass(frozen=True)
class Fault:
    number: int
    """An errno."""
    at: int
    """The call that fails, counted from 1."""
    lasting: bool = False
    """All later ones fail too."""
    late: bool = False
    """What changes something does it, and then reports the error."""

    def __str__(self) -> str:
        how = "for ever" if self.lasting else "once, too late" if self.late else "once"
        return f"{errno.errorcode[self.number]} at call {self.at} {how}"


class Disk:
    """Between the store and the disk. `met` names the calls that failed."""

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._count = 0
        self._named = ""
        self._lock = threading.Lock()
        self.met: list[str] = []

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self._count, self._named, self.met, self._fault = 0, "", [], fault
        try:
            yield
        finally:
            self._fault = None

    def _fails(self, name: str, *arguments: object) -> Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None:
                return None
            self._count += 1
            if self._count != fault.at and not (fault.lasting and self._count > fault.at):
                return None
            self.met.append(name)
            return fault

    @contextmanager
    def between(self) -> Iterator[None]:
        """Put it there, for stores that are opened from now on."""
        real = {name: getattr(calls, name) for name in calls.__all__}
        connect = sqlite.connect
        for name, call in real.items():
            setattr(calls, name, self._call(name, call))
        sqlite.connect = self._connect
        try:
            yield
        finally:
            sqlite.connect = connect
            for name, call in real.items():
                setattr(calls, name, call)

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            fault = self._fails(name, *arguments)
            if fault is None:
                if name == "rename":
                    self._named = arguments[1]
                return real(*arguments, **options)
            if not fault.late and name in ("fsync", "fdatasync"):
                self._forget(arguments[0])
            if name in _ALWAYS_LATE or (fault.late and name in _MAY_BE_LATE):
                real(*arguments, **options)
            raise OSError(fault.number, os.strerror(fault.number))

        return called

    def _forget(self, file: int) -> None:
        """What the kernel could not write is gone, and the next sync says that all is well.

        The pages count as clean then, and come back from the disk as they were before: the bytes of
        a file, the newest name in a directory.
        """
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode):
            os.pwrite(file, bytes(found.st_size), 0)
        elif self._named:
            os.unlink(self._named)
            self._named = ""

    def _connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        disk = self
        if (fault := disk._fails("connect")) and fault.number in CODES:
            raise _failure(fault.number)

        class Watched(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                fault = disk._fails(statement)
                if fault is None or fault.number not in CODES:
                    return super().execute(statement, *parameters)
                if fault.number == errno.ENOSPC:
                    if self.in_transaction:
                        super().execute("ROLLBACK")  # as SQLite does by itself
                elif fault.late and statement in _MAY_BE_LATE:
                    super().execute(statement, *parameters)
                raise _failure(fault.number)

        return sqlite3.connect(*arguments, factory=Watched, **options)


def _failure(number: int) -> Exception:
    if number == errno.ENOMEM:
        return MemoryError()
    error = sqlite3.OperationalError(os.strerror(number))
    error.sqlite_errorcode = CODES[number]
    return error
