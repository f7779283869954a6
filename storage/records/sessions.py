"""Connections to SQLite on a disk that may say no.

One that met an error of the disk is closed, and the next transaction opens another.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from storage.records import trouble
from storage.records.database import Connection, Row, Value

T = TypeVar("T")
Opener: TypeAlias = Callable[[Path | str], sqlite3.Connection]
"""Given a path, or the URI of a file."""

SNAPSHOT_STEP: Final = 256  # pages copied at once: 1 MiB, in less than a millisecond
COPIED_AFTER: Final = 4 << 20  # bytes in the log, about
_COMMIT: Final = 32 << 10  # bytes: the pages of a usual transaction, without what is in the rows


class Session:
    """For reading: in transactions, or every statement would see a state of its own."""

    begin = "BEGIN"

    def __init__(self, path: Path, opener: Opener) -> None:
        self._path = path
        self._opener = opener
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        try:
            self._open(path)
        except (sqlite3.Error, MemoryError) as error:
            raise trouble.told(error, path) from error

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """Run it to its end, or undo it. Raises OSError for what the disk refuses."""
        try:
            # Again: by no means a new, empty one, should the file be gone.
            connection = self._connection or self._open(f"{self._path.as_uri()}?mode=rw")
            self._prepare(connection)
            connection.execute(self.begin)
            result = work(self._statements)
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            told = trouble.told(error, self._path)
            if told is error:
                raise
            raise told from error
        return result

    def snapshot(self, target: sqlite3.Connection, query: Callable[[Connection], T]) -> T:
        """Copy everything into an empty database, and ask a question of the very same state."""

        def find_and_copy(c: Connection) -> T:
            found = query(c)
            assert self._connection is not None
            self._connection.backup(target, pages=SNAPSHOT_STEP)
            return found

        # One transaction around all steps: without it a step that finds a newer state begins anew,
        # and beside a busy writer would never end.
        return self.transaction(find_and_copy)

    def close(self) -> None:
        """For good."""
        self._closed = True
        self._drop()

    def _prepare(self, connection: sqlite3.Connection) -> None:
        pass

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self, name: Path | str) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("the catalogue was closed")
        connection = self._opener(name)
        self._statements = Statements(connection)
        self._connection = connection
        return connection

    def _undo(self, error: BaseException) -> None:
        connection = self._connection
        if connection is None:
            return
        trusted = not trouble.lost(error)
        if trusted and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except (sqlite3.Error, MemoryError):
                trusted = False
        # What is not rolled back would hold the lock that all other writers wait for. Closing does.
        if not trusted:
            with suppress(sqlite3.Error):
                self._drop()


class Writer(Session):
    """For changes. It keeps the log itself, which SQLite does without telling what went wrong.

    IMMEDIATE, since a transaction that reads first and then writes fails when another process wrote
    in between.
    """

    begin = "BEGIN IMMEDIATE"

    def __init__(self, path: Path, opener: Opener) -> None:
        self._refused = False  # whether the disk refused a write since the log was begun
        super().__init__(path, opener)

    def transaction(self, work: Callable[[Connection], T]) -> T:
        result = super().transaction(work)
        self._statements.size += _COMMIT
        if self._statements.size >= COPIED_AFTER:
            self._copy_log()
        return result

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """A log of new blocks, if the disk refused a write into the old ones. Raises OSError.

        SQLite would write the next transaction where that one should have been, into the same
        cached pages; see _forget.
        """
        if self._refused:
            if self._checkpoint(connection, "TRUNCATE"):
                raise OSError(errno.EBUSY, "the disk refused a write, and the log is still read")
            self._refused = False

    def _undo(self, error: BaseException) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what is said in addition
        self._refused |= code == sqlite3.SQLITE_IOERR
        super()._undo(error)

    def _copy_log(self) -> None:
        """Into the file, so that its place can be used again.

        SQLite does so by itself, but tells nobody when the disk refused it. Nothing is lost by
        that: what was committed is in the log until it could be copied.
        """
        if self._connection is not None:
            with suppress(sqlite3.OperationalError):
                self._checkpoint(self._connection, "PASSIVE")
                self._statements.size = 0

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> bool:
        """Whether others held it up."""
        try:
            [[held_up, _, _]] = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.OperationalError:
            _forget(self._path)
            raise
        return bool(held_up)


class Statements:
    """Connection. `size` is about how much of its changes is in the log, in bytes."""

    __slots__ = ("_execute", "size")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self.size = 0

    def execute(self, statement: str, *parameters: Value) -> int:
        self.size += sum(len(value) for value in parameters if isinstance(value, bytes))
        return self._execute(statement, parameters).rowcount

    def one(self, statement: str, *parameters: Value) -> Row | None:
        cursor = self._execute(statement, parameters)
        row: Row | None = cursor.fetchone()
        cursor.close()  # a statement half read would hold up COMMIT
        return row

    def all(self, statement: str, *parameters: Value) -> list[Row]:
        return self._execute(statement, parameters).fetchall()


def _forget(path: Path) -> None:
    """Let the kernel read a file anew that is open here, when the disk refused a write of it.

    The kernel goes on to show the refused bytes. Worse, ext4 leaves the new blocks of a file that
    grew unwritten, and takes what is written into the same cached pages later for overwriting: its
    fsync succeeds, and after a power cut there is nothing.
    """
    with suppress(FileNotFoundError):
        found = os.stat(path)
        # Not opened anew: to close it would give up the locks that others here have on it.
        for file in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):  # it was open when they were listed
                if os.path.samestat(os.fstat(file), found):
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
