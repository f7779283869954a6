"""The catalogue in SQLite: one file, shared by the processes of one machine.

Reads run on the event loop: a manifest by tag out of the page cache takes some microseconds, a hop
to a thread a hundred. In WAL mode a reader waits for nobody. Writes run in one thread, since SQLite
has one writer at a time anyway; the writers of other processes are waited for.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from storage.errors import LayoutUnknown
from storage.filesystem.layout import Layout
from storage.records import seals
from storage.records.database import Connection, Row, Step, Value
from storage.threads import Threads

T = TypeVar("T")

# The seam of the database: a test puts connections here that fail or die at the n-th statement.
connect: Callable[..., sqlite3.Connection] = sqlite3.connect

COPIED_AFTER: Final = 4 << 20  # bytes in the log, about
_COMMIT: Final = 32 << 10  # bytes: the pages of a usual transaction, without what is in the rows
BUSY: Final = 10.0  # seconds to wait for the writer of another process

# The words of schemas in which SQLite and PostgreSQL differ; see Database.migrate.
DIALECT: Final = {
    "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "{text}": "TEXT",  # compared byte by byte, since that is SQLite's default collation
    "{bytes}": "BLOB",
    "{clustered}": "WITHOUT ROWID",
}

# FULL, since WAL with NORMAL loses the last commits in a power cut.
_WRITER: Final = (
    *("synchronous = FULL", "foreign_keys = ON", "journal_size_limit = 67108864"),
    "wal_autocheckpoint = 0",  # see _copy_log
)
_READER: Final = ("query_only = ON", "cache_size = -32768")
SNAPSHOT_STEP: Final = 256  # pages copied at once: 1 MiB, in less than a millisecond


class SQLite:
    """Database in one file. Only made by `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._path = str(path)
        self._refused = False  # whether the disk refused a write since the log was begun
        self._writer = _connect(path, _WRITER)
        self._reader = _connect(path, _READER)
        self._scanner = _connect(path, _READER)
        self._writing = _Changes(self._writer)
        self._reading = _Statements(self._reader)
        self._scanning = _Statements(self._scanner)
        self._thread = Threads("records", 1)
        self._scans = Threads("scans", 1)

    @staticmethod
    async def open(layout: Layout) -> SQLite:
        """The catalogue of a data directory, made first if there is none."""
        return SQLite(layout.records)

    async def read(self, query: Callable[[Connection], T]) -> T:
        return _read(self._reader, self._reading, query)

    async def scan(self, query: Callable[[Connection], T]) -> T:
        return await self._scans.run(lambda: _read(self._scanner, self._scanning, query))

    async def write(self, change: Callable[[Connection], T]) -> T:
        return await self._thread.run(lambda: self._transaction(change))

    def _transaction(self, change: Callable[[Connection], T]) -> T:
        if self._refused:
            self._begin_log()
        # IMMEDIATE, since a transaction that reads first and then writes fails when another
        # process wrote in between.
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = change(self._writing)
            self._writer.execute("COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:  # a full disk ends it by itself
                self._writer.execute("ROLLBACK")
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what is said in addition
            self._refused |= code == sqlite3.SQLITE_IOERR
            if code == sqlite3.SQLITE_FULL:
                # As every other place that writes says it, so that it gets the same answer.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        self._writing.size += _COMMIT
        if self._writing.size >= COPIED_AFTER:
            self._copy_log()
        return result

    async def snapshot(self, path: str, query: Callable[[Connection], T]) -> T:
        def copy() -> T:
            source = _connect(self.path, _READER)
            target = sqlite3.connect(path, isolation_level=None)

            def find_and_copy(c: Connection) -> T:
                found = query(c)
                source.backup(target, pages=SNAPSHOT_STEP)
                return found

            try:
                # One transaction around all steps: without it a step that finds a newer state
                # begins anew, and beside a busy writer would never end.
                return _read(source, _Statements(source), find_and_copy)
            finally:
                target.close()
                source.close()

        threads = Threads("snapshot", 1)  # its own, or scans would wait for it
        try:
            return await threads.run(copy)
        finally:
            threads.close()

    def _copy_log(self) -> None:
        """Into the file, so that its place can be used again.

        SQLite does so by itself, but tells nobody when the disk refused it. Nothing is lost by
        that: what was committed is in the log until it could be copied.
        """
        with suppress(sqlite3.OperationalError):
            self._checkpoint("PASSIVE")
            self._writing.size = 0

    def _begin_log(self) -> None:
        """A log of new blocks, since the disk refused a write into the old ones. Raises OSError.

        SQLite would write the next transaction where that one should have been, into the same
        cached pages; see _forget.
        """
        if self._checkpoint("TRUNCATE"):
            raise OSError(errno.EBUSY, "the disk refused a write, and the log is still read")
        self._refused = False

    def _checkpoint(self, mode: str) -> bool:
        """Whether others held it up."""
        try:
            [[held_up, _, _]] = self._writer.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.OperationalError:
            _forget(self._path)
            raise
        return bool(held_up)

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        # Looked at first: what is newer is not ours to change, and what is up to date takes no
        # write, so that a store opens on a full disk.
        done = await self.read(partial(_done, room))
        intact = await self.read(seals.intact)
        if done < len(steps):
            await self.write(_make_migrations)
            for number, step in enumerate(steps[done:], done + 1):
                await self.write(partial(_step, room, number, step, intact))
            done = await self.read(partial(_done, room))
        if done > len(steps):
            raise LayoutUnknown(
                f"the records of {room!r} were written by a newer release (step {done}, this one"
                f" knows {len(steps)}); start that release or restore a backup"
            )
        # What is not intact `verify` has to find.
        if intact and not await self.read(seals.complete):
            await self.write(seals.seal)

    async def close(self) -> None:
        self._reader.close()
        await self._scans.run(self._scanner.close)
        self._scans.close()
        # In its thread, since the last one to close writes the log back into the file.
        await self._thread.run(self._writer.close)
        self._thread.close()


def _read(
    connection: sqlite3.Connection, statements: Connection, query: Callable[[Connection], T]
) -> T:
    # Without a transaction every statement would see a state of its own.
    connection.execute("BEGIN")
    try:
        return query(statements)
    finally:
        connection.execute("COMMIT")


class _Statements:
    """Connection."""

    __slots__ = ("_execute",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def execute(self, statement: str, *parameters: Value) -> int:
        return self._execute(statement, parameters).rowcount

    def one(self, statement: str, *parameters: Value) -> Row | None:
        cursor = self._execute(statement, parameters)
        row: Row | None = cursor.fetchone()
        cursor.close()  # a statement half read would hold up COMMIT
        return row

    def all(self, statement: str, *parameters: Value) -> list[Row]:
        return self._execute(statement, parameters).fetchall()


class _Changes(_Statements):
    """Those of the writer. `size` is about how much of them is in the log, in bytes."""

    __slots__ = ("size",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.size = 0

    def execute(self, statement: str, *parameters: Value) -> int:
        self.size += sum(len(value) for value in parameters if isinstance(value, bytes))
        return super().execute(statement, *parameters)


def _forget(path: str) -> None:
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


def _connect(path: Path, pragmas: Sequence[str]) -> sqlite3.Connection:
    connection = connect(
        path,
        timeout=BUSY,
        isolation_level=None,  # BEGIN and COMMIT are ours; nothing is begun behind our back
        check_same_thread=False,  # one at a time is seen to above
        cached_statements=512,
    )
    seals.register(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _make_migrations(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (room TEXT PRIMARY KEY, step BIGINT NOT NULL)"
    )
    seals.admit(connection)


def _done(room: str, connection: Connection) -> int:
    if not connection.one("SELECT 1 FROM sqlite_master WHERE name = 'migrations'"):
        return 0
    row = connection.one("SELECT step FROM migrations WHERE room = ?", room)
    return int(row[0] or 0) if row else 0


def _step(room: str, number: int, step: Step, intact: bool, connection: Connection) -> None:
    """One step, unless it is done: another process may have started beside us."""
    if _done(room, connection) >= number:
        return
    for statement in step:
        if callable(statement):
            statement(connection)
            continue
        for word, meaning in DIALECT.items():
            statement = statement.replace(word, meaning)
        connection.execute(statement)
    connection.execute(
        "INSERT INTO migrations (room, step) VALUES (?, ?)"
        " ON CONFLICT (room) DO UPDATE SET step = excluded.step",
        room,
        number,
    )
    if intact:
        seals.admit(connection)
