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
        self.path = path
        self._writer = _connect(path, _WRITER)
        self._reader = _connect(path, _READER)
        self._scanner = _connect(path, _READER)
        self._writing = _Statements(self._writer)
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
        # IMMEDIATE, since a transaction that reads first and then writes fails when another
        # process wrote in between.
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = change(self._writing)
            self._writer.execute("COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:  # a full disk ends it by itself
                self._writer.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                # As every other place that writes says it, so that it gets the same answer.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        return result

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        intact = await self.write(_prepare)
        for number, step in enumerate(steps, 1):
            await self.write(partial(_step, room, number, step, intact))
        done = await self.read(lambda c: _done(c, room))
        if done > len(steps):
            raise LayoutUnknown(
                f"the records of {room!r} were written by a newer release (step {done}, this one"
                f" knows {len(steps)}); start that release or restore a backup"
            )
        if intact:  # else `verify` has to find it
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


def _prepare(connection: Connection) -> bool:
    """Whether the tables are those that were made; the one of steps is, from now on."""
    intact = seals.intact(connection)
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (room TEXT PRIMARY KEY, step BIGINT NOT NULL)"
    )
    return intact


def _done(connection: Connection, room: str) -> int:
    row = connection.one("SELECT step FROM migrations WHERE room = ?", room)
    return int(row[0] or 0) if row else 0


def _step(room: str, number: int, step: Step, intact: bool, connection: Connection) -> None:
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
    if intact:
        seals.admit(connection)
