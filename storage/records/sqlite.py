"""The catalogue in SQLite: one file, shared by the processes of one machine.

Reads run on the event loop: a manifest by tag out of the page cache takes some microseconds, a hop
to a thread a hundred. In WAL mode a reader waits for nobody. Writes run in one thread, since SQLite
has one writer at a time anyway; the writers of other processes are waited for.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from storage.errors import LayoutUnknown
from storage.filesystem.layout import Layout
from storage.records import seals
from storage.records.database import Connection, Step
from storage.records.sessions import Session, Writer
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
_WRITER: Final = (
    *("synchronous = FULL", "foreign_keys = ON", "journal_size_limit = 67108864"),
    "wal_autocheckpoint = 0",  # Writer does that
)
_READER: Final = ("query_only = ON", "cache_size = -32768")


class SQLite:
    """Database in one file. Only made by `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as opened:
            self._writer = Writer(path, partial(_connect, _WRITER))
            opened.callback(self._writer.close)
            self._reader = Session(path, partial(_connect, _READER))
            opened.callback(self._reader.close)
            self._scanner = Session(path, partial(_connect, _READER))
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

    async def snapshot(self, path: str, query: Callable[[Connection], T]) -> T:
        def copy() -> T:
            source = Session(self.path, partial(_connect, _READER))
            target = sqlite3.connect(path, isolation_level=None)
            try:
                return source.snapshot(target, query)
            finally:
                target.close()
                source.close()

        threads = Threads("snapshot", 1)  # its own, or scans would wait for it
        try:
            return await threads.run(copy)
        finally:
            threads.close()

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


def _connect(pragmas: Sequence[str], name: Path | str) -> sqlite3.Connection:
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
        seals.register(connection)
        _write_ahead(connection)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """WAL mode. SQLite does not wait for others that change to it at the same time, so we do."""
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


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
