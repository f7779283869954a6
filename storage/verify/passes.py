"""One pass through all stages, or a part of one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from storage.blobs import Pace, at_once
from storage.records import seals
from storage.store import Store
from storage.verify.blobs import Blobs
from storage.verify.findings import (
    RESTORE,
    Finding,
    Notes,
    Position,
    Report,
    packed,
    unpacked,
)
from storage.verify.manifests import Manifests
from storage.verify.rows import Rows

SAVE: Final = 30.0  # seconds of work that a crash may cost


class Verifier:
    """Verifies one store; several, in any process, do no harm to each other.

    `read`: the bytes of every blob are hashed, `pace` says how fast. `accept`: rows that do not fit
    their seals are taken as they are. `found` is told of each finding at once. `clock`: seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        read: bool = False,
        accept: bool = False,
        pace: Pace = at_once,
        found: Callable[[Finding], None] = lambda finding: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._database = store.database
        self._clock = clock
        self._notes = Notes(store, found)
        rows = Rows(store, self._notes, accept)
        manifests = Manifests(store, self._notes)
        blobs = Blobs(store, self._notes, read, pace)
        self._stages: dict[str, Callable[[Position], AsyncIterator[Position]]] = {
            "database": rows.structure,
            "records": rows.records,
            "manifests": manifests.manifests,
            "edges": manifests.edges,
            "tags": manifests.tags,
            "moves": manifests.moves,
            "blobs": blobs.blobs,
            "files": blobs.files,
        }

    async def run(self, name: str | None = None, within: float | None = None) -> Report:
        """One pass, or as much of it as can be done `within` so many seconds, but something.

        With a name the pass goes on where the last one of that name stopped, also after a crash.
        """
        report = self._notes.report = Report()
        began = saved = self._clock()
        first, position = await self._resumed(name)
        stages = list(self._stages)
        for stage in stages[stages.index(first) :]:
            async with aclosing(self._pieces(stage, position)) as pieces:
                async for position in pieces:
                    if position is None:  # the stage is at its end: it goes on with the next
                        continue
                    now = self._clock()
                    over = within is not None and now - began >= within
                    if name is not None and (over or now - saved >= SAVE):
                        await self._save(name, stage, position)
                        saved = now
                    if over:
                        return self._told(report, now - began)
            position = None
        if name is not None:
            await self._save(name, "", None)
        report.finished = True
        return self._told(report, self._clock() - began)

    def _told(self, report: Report, seconds: float) -> Report:
        report.seconds = seconds
        report.findings.sort()
        return report

    async def _pieces(self, stage: str, position: Position) -> AsyncGenerator[Position, None]:
        """A stage; rows that cannot be read end it, and are found."""
        try:
            async for done in self._stages[stage](position):
                yield done
        except seals.Unreadable as error:
            busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if busy or isinstance(error, sqlite3.ProgrammingError):
                raise
            await self._notes.record("database", f"{stage} cannot be read", str(error), RESTORE)

    async def _resumed(self, name: str | None) -> tuple[str, Position]:
        row = None
        if name is not None:
            row = await self._database.read(
                lambda c: c.one("SELECT stage, position FROM verifications WHERE name = ?", name)
            )
        if row is not None and row[0] in self._stages:
            return str(row[0]), unpacked(str(row[1]))
        if name is not None:
            await self._save(name, next(iter(self._stages)), None)
        return next(iter(self._stages)), None

    async def _save(self, name: str, stage: str, position: Position) -> None:
        now = self._store.now()
        first = position is None and stage == next(iter(self._stages))
        await self._database.write(
            lambda c: c.execute(
                "INSERT INTO verifications (name, stage, position, began) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET stage = excluded.stage,"
                " position = excluded.position, began = CASE WHEN ? THEN excluded.began"
                " ELSE verifications.began END",
                *(name, stage, packed(position), now, first),
            )
        )


async def last_began(store: Store, name: str) -> tuple[float, bool] | None:
    """When the last pass of that name began (seconds since 1970), and whether it has ended."""
    row = await store.database.read(
        lambda c: c.one("SELECT began, stage FROM verifications WHERE name = ?", name)
    )
    return None if row is None else (float(row[0] or 0), row[1] == "")
