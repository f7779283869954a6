"""The catalogue in SQLite: one file, shared by the processes of one machine.

Reads run on the event loop: a manifest by tag out of the page cache takes some microseconds, a hop
to a thread a hundred. In WAL mode a reader waits for nobody. Writes run in one thread, since SQLite
has one writer at a time anyway; the writers of other processes are waited for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from storage.errors import LayoutUnknown
from storage.filesystem.layout import Layout
from storage.records import trouble
from storage.records.database import Connection, Row, Step, Value
from storage.threads import Threads

T = TypeVar("T")

# The seam of the database: a test puts connections here that fail or die at the n-th statement.
connect: Callable[..., sqlite3.Connection] = sqlite3.connect

BUSY: Final = 10.0  # seconds to wait for the writer of another process

# The words of schemas in which SQLite and PostgreSQL differ; see Database.migrate.
DIALECT: Final = {
    "{serial}": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "{text}": "TEXT",  # compared byte by byte, since that is SQLite's default collation
    "{bytes}": "BLOB",
    "{clustered}": "WITHOUT ROWID",
}

# FULL, since WAL with NORMAL loses the last commits in a power cut.
_WRITER: Final = ("synchronous = FULL", "foreign_keys = ON", "journal_size_limit = 67108864")
_READER: Final = ("query_only = ON", "cache_size = -32768")


class SQLite:
    """Database in one file. Only made by `open`."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            self._writer = _Session(path, _WRITER, "BEGIN IMMEDIATE")
            opened.callback(self._writer.close)
            self._reader = _Session(path, _READER, "BEGIN")
            opened.callback(self._reader.close)
            self._scanner = _Session(path, _READER, "BEGIN")
            opened.pop_all()
        self._thread = Threads("records", 1)
        self._scans = Threads("scans", 1)

    @staticmethod
    async def open(layout: Layout) -> SQLite:
        """The catalogue of a data directory, made first if there is none."""
        return SQLite(layout.records)

    async def read(self, query: Callable[[Connection], T]) -> T:
        return self._reader.transaction(query)

    async def scan(self, query: Callable[[Connection], T]) -> T:
        return await self._scans.run(lambda: self._scanner.transaction(query))

    async def write(self, change: Callable[[Connection], T]) -> T:
        return await self._thread.run(lambda: self._transaction(change))

    def _transaction(self, change: Callable[[Connection], T]) -> T:
        return self._writer.transaction(change)

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        await self.write(_make_migrations)
        for number, step in enumerate(steps, 1):
            await self.write(partial(_step, room, number, step))
        done = await self.read(lambda c: _done(c, room))
        if done > len(steps):
            raise LayoutUnknown(
                f"the records of {room!r} were written by a newer release (step {done}, this one"
                f" knows {len(steps)}); start that release or restore a backup"
            )

    async def close(self) -> None:
        self._reader.close()
        await self._scans.run(self._scanner.close)
        self._scans.close()
        # In its thread, since the last one to close writes the log back into the file.
        await self._thread.run(self._writer.close)
        self._thread.close()


class _Session:
    """One connection after the other: one that met an error of the disk is closed, and the next
    transaction opens another.

    A reader has transactions too, or every statement would see a state of its own. A writer begins
    IMMEDIATE, since a transaction that reads first and then writes fails when another process wrote
    in between.
    """

    __slots__ = ("_begin", "_closed", "_connection", "_path", "_pragmas", "_statements")

    def __init__(self, path: Path, pragmas: Sequence[str], begin: str) -> None:
        self._path = path
        self._pragmas = pragmas
        self._begin = begin
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
            connection.execute(self._begin)
            result = work(self._statements)
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            told = trouble.told(error, self._path)
            if told is error:
                raise
            raise told from error
        return result

    def close(self) -> None:
        """For good."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self, name: Path | str) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("the catalogue was closed")
        connection = _connect(name, self._pragmas)
        self._statements = _Statements(connection)
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


def _connect(name: Path | str, pragmas: Sequence[str]) -> sqlite3.Connection:
    """`name` is a path, or the URI of a file."""
    connection = connect(
        name,
        uri=isinstance(name, str),
        timeout=BUSY,
        isolation_level=None,  # BEGIN and COMMIT are ours; nothing is begun behind our back
        check_same_thread=False,  # one at a time is seen to above
        cached_statements=512,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_migrations(connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (room TEXT PRIMARY KEY, step BIGINT NOT NULL)"
    )


def _done(connection: Connection, room: str) -> int:
    row = connection.one("SELECT step FROM migrations WHERE room = ?", room)
    return int(row[0] or 0) if row else 0


def _step(room: str, number: int, step: Step, connection: Connection) -> None:
    """One step, unless it is done: another process may have started beside us."""
    if _done(connection, room) >= number:
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
