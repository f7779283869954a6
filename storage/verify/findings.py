"""What a pass finds, and how that is kept."""

from __future__ import annotations

import enum
import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from storage.records import damage, seals
from storage.records.database import Connection
from storage.store import Store

PAGE: Final = 200  # rows looked at in one transaction: some milliseconds

Position: TypeAlias = seals.Key | None
"""How far a stage got; None at its beginning and at its end."""

RESTORE: Final = "restore the records from a backup"
PUSH: Final = "push it again"
MENDED: Final = "nothing: it was put right"


class Gravity(enum.IntEnum):
    LOST = 0
    """Content that was acknowledged cannot be served."""
    RECORD = 1
    """A row is not what was written."""
    MENDED = 2
    """It was wrong."""
    ODD = 3
    """Nothing is lost, and somebody should look at it."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something wrong; sorted by how bad it is."""

    gravity: Gravity
    what: str
    """blob, manifest, tag, record, database or file."""
    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} {self.where}: {self.reason}; {self.remedy}"


@dataclass(slots=True)
class Report:
    """What one run saw."""

    findings: list[Finding] = field(default_factory=list)
    blobs: int = 0
    bytes: int = 0
    """That were read."""
    manifests: int = 0
    rows: int = 0
    strays: int = 0
    """Blobs without a row, as a crash leaves them: the collector takes them."""
    seconds: float = 0.0
    finished: bool = False
    """The pass came to its end."""


class Notes:
    """Takes what is found: into the report, to whoever listens, and as rows for the collector."""

    def __init__(self, store: Store, found: Callable[[Finding], None]) -> None:
        self._store = store
        self._found = found
        self.report = Report()

    def tell(self, finding: Finding) -> None:
        self.report.findings.append(finding)
        self._found(finding)

    async def record(
        self, what: str, where: str, reason: str, remedy: str, mark: seals.Key | None = None
    ) -> None:
        """A row is wrong, and the collector must not rely on any until that is over.

        `mark` names it, instead of what and where; a database has one mark for all.
        """
        key = mark or ((what,) if what == "database" else (what, where))
        name, now = packed(key), self._store.now()
        with suppress(OSError, sqlite3.Error):  # it is told all the same
            await self._store.database.write(
                lambda c: damage.mark(c, damage.RECORD, damage.NOWHERE, name, reason, now)
            )
        self.tell(Finding(Gravity.RECORD, what, where, reason, remedy))

    async def cleared(self, *what: str) -> None:
        """Of these kinds nothing is wrong any more, or it is about to be found again."""

        gone = [mark for mark in await self.marks() if mark[0] in what]

        def change(c: Connection) -> None:
            for mark in gone:
                damage.heal(c, damage.RECORD, damage.NOWHERE, packed(mark))

        if gone:
            await self._store.database.write(change)

    async def marks(self) -> list[seals.Key]:
        """The records that are marked: a table and a key, or what `record` was told."""
        rows = await self._store.database.read(
            lambda c: c.all("SELECT name FROM damaged WHERE kind = 'record' AND repository = 0")
        )
        return [mark for (name,) in rows if (mark := unpacked(str(name)))]


def packed(key: Position) -> str:
    """As JSON."""
    parts = [{"hex": part.hex()} if isinstance(part, bytes) else part for part in key or ()]
    return json.dumps(None if key is None else parts)


def unpacked(text: str) -> Position:
    """Of `packed`."""
    parts = json.loads(text)
    if parts is None:
        return None
    return tuple(bytes.fromhex(part["hex"]) if isinstance(part, dict) else part for part in parts)


def shown(value: object) -> str:
    """Text that may not be text any more."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def onward(before: Position, after: Position) -> Position:
    """Where to go on. Rows that are out of order must not lead round in a circle."""
    return after if seals.ahead(before, after) else None
