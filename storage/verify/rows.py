"""The database as such, and every row against its seal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from storage.records import damage, seals
from storage.records.database import Connection
from storage.store import Store
from storage.verify.findings import (
    PAGE,
    RESTORE,
    Finding,
    Gravity,
    Notes,
    Position,
    packed,
)

_LOOK: Final = "look at it, and restore a backup or take it as it is: spindle verify --accept"


class Rows:
    """`accept`: rows that do not fit their seals are taken as they are."""

    def __init__(self, store: Store, notes: Notes, accept: bool) -> None:
        self._database = store.database
        self._notes = notes
        self._accept = accept

    # The database as such

    async def structure(self, position: Position) -> AsyncIterator[Position]:
        wrong = await self._database.scan(seals.structure)
        for reason in wrong:
            await self._notes.record("database", "records.db", reason, RESTORE)
        if not wrong:
            await self._notes.cleared("database", "record", "edges")
        yield None

    async def records(self, position: Position) -> AsyncIterator[Position]:
        """Every row but those of manifests, which have a stage of their own.

        The position is the table's name, and a key if it was begun.
        """
        found = await self._database.scan(seals.tables)
        # What has no seals was not there when the definitions were sealed, and was found by that.
        tables = [table for table in found if table.sealed and table.name != "manifests"]
        for at, table in enumerate(tables):
            after = None
            if position:
                if table.name < str(position[0]):
                    continue
                if table.name == position[0]:
                    after = position[1:] or None
            if after is None:
                await self._recheck(table)
            while True:
                page = await self._database.scan(
                    partial(seals.page, table=table, after=after, limit=PAGE)
                )
                self._notes.report.rows += page.rows
                for key in page.broken:
                    await self._broken(table, key)
                after = page.last
                if after is None:
                    break
                yield (table.name, *after)
            yield (tables[at + 1].name,) if at + 1 < len(tables) else None

    async def _broken(self, table: seals.Table, key: seals.Key) -> None:
        where = f"{table.name} {seals.shown(key)}".rstrip()
        reason = "the row is not what was written"
        if not self._accept:
            mark = (table.name, *key)
            return await self._notes.record("record", where, reason, _LOOK, mark=mark)

        def change(c: Connection) -> None:
            seals.reseal(c, table, key)
            damage.heal(c, damage.RECORD, damage.NOWHERE, packed((table.name, *key)))

        await self._database.write(change)
        return self._notes.tell(Finding(Gravity.MENDED, "record", where, reason, "it was accepted"))

    async def _recheck(self, table: seals.Table) -> None:
        """Rows of a table that were marked and are right again, or gone, or accepted."""

        marks = [mark for mark in await self._notes.marks() if mark[0] == table.name]

        def change(c: Connection) -> None:
            for mark in marks:
                if seals.fits(c, table, mark[1:]):
                    damage.heal(c, damage.RECORD, damage.NOWHERE, packed(mark))

        if marks:
            await self._database.write(change)
