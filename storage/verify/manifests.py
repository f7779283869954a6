"""Manifests, tags, and what else is rows with a meaning of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from storage.records import audit, damage, seals
from storage.records.audit import Cure
from storage.records.database import Connection
from storage.store import Store
from storage.verify.findings import (
    MENDED,
    PAGE,
    PUSH,
    RESTORE,
    Finding,
    Gravity,
    Notes,
    Position,
    onward,
    shown,
)

_AGAIN: Final = "push the tag again"


class Manifests:
    def __init__(self, store: Store, notes: Notes) -> None:
        self._store = store
        self._database = store.database
        self._notes = notes

    # Manifests

    async def manifests(self, position: Position) -> AsyncIterator[Position]:
        """By the numbers of their rows."""
        tables = await self._database.scan(seals.tables)
        table = next(table for table in tables if table.name == "manifests")
        after = position
        while True:
            page, wrong, healed = await self._database.scan(
                partial(_look, table=table, after=after)
            )
            self._notes.report.manifests += page.rows
            for row, flaw in wrong:
                await self._flawed(table, row, flaw)
            for row in healed:
                await self._database.write(partial(_heal, row=row))
            after = page.last
            yield after
            if after is None:
                break

    async def _flawed(self, table: seals.Table, row: int, flaw: audit.ManifestFlaw) -> None:
        """Again, and for good, in a transaction that writes: it may have been pushed meanwhile."""
        now = self._store.now()

        def change(c: Connection) -> tuple[str, audit.ManifestFlaw] | None:
            again = audit.check_manifest(c, row, seals.fits(c, table, (row,)))
            if again is None:
                return None
            found = c.one(_WHERE, row)
            assert found is not None
            repository, name, digest = found
            where = f"{shown(name)}@{shown(digest)}"
            if again.cure is Cure.MEND and again.manifest is not None:
                audit.mend_manifest(c, table, row, again.manifest)
            elif isinstance(repository, int):
                kind = damage.MANIFEST if again.cure is Cure.PUSH else damage.RECORD
                damage.mark(c, kind, repository, shown(digest), again.reason, now)
            return where, again

        try:
            settled = await self._database.write(change)
        except seals.Unreadable as error:  # what leads to the row is broken, too
            where = f"manifests {row}"
            return await self._notes.record("record", where, f"{flaw.reason} ({error})", RESTORE)
        if settled is None:
            return None
        where, flaw = settled
        match flaw.cure:
            case Cure.MEND:
                found = Finding(Gravity.MENDED, "manifest", where, flaw.reason, MENDED)
            case Cure.PUSH:
                found = Finding(Gravity.LOST, "manifest", where, flaw.reason, PUSH)
            case Cure.NONE:
                found = Finding(Gravity.RECORD, "manifest", where, flaw.reason, RESTORE)
        return self._notes.tell(found)

    async def edges(self, position: Position) -> AsyncIterator[Position]:
        """Those that no manifest has; the others were compared with the manifests."""
        after = position
        while True:
            rows, count = await self._database.scan(
                partial(audit.loose_edges, after=after, limit=PAGE)
            )
            for edge in rows:
                if edge[4]:
                    where = seals.shown(edge[:4])
                    reason = "it says what no manifest says"
                    try:
                        await self._database.write(partial(audit.remove_edge, edge=edge))
                    except seals.Unreadable as error:
                        await self._notes.record("record", f"edges {where}", str(error), RESTORE)
                    else:
                        self._notes.tell(
                            Finding(Gravity.MENDED, "record", f"edges {where}", reason, MENDED)
                        )
            after = onward(after, rows[-1][:4] if count == PAGE else None)
            yield after
            if after is None:
                break

    # Tags

    async def tags(self, position: Position) -> AsyncIterator[Position]:
        """Where they point, and where they were moved to last."""
        if position is None:
            await self._notes.cleared("tag")
        after = position
        while True:
            rows, wrong = await self._database.scan(
                partial(audit.wrong_tags, after=after, limit=PAGE)
            )
            for _, tag, name, _ in wrong:
                where = f"{shown(name)}:{shown(tag)}"
                reason = "it is not where it was last moved to"
                await self._notes.record("tag", where, reason, _AGAIN)
            after = onward(after, rows[-1][:2] if len(rows) == PAGE else None)
            yield after
            if after is None:
                break

    async def moves(self, position: Position) -> AsyncIterator[Position]:
        after = position[0] if position else 0
        assert isinstance(after, int)
        while True:
            rows, wrong = await self._database.scan(
                partial(audit.later_moves, after=after, limit=PAGE)
            )
            for generation, tag, _ in wrong:
                where = f"{shown(tag)} (move {generation!r})"
                reason = "it was moved later than the tag or the clock knows"
                await self._notes.record("tag", where, reason, _AGAIN)
            if len(rows) < PAGE or not isinstance(rows[-1][0], int):
                yield None
                break
            after = rows[-1][0]
            yield (after,)


def _look(
    c: Connection, table: seals.Table, after: Position
) -> tuple[seals.Page, list[tuple[int, audit.ManifestFlaw]], list[int]]:
    """A page of manifests: those that are wrong, and those that are marked and are not."""
    page = seals.page(c, table, after, PAGE)
    broken = set(page.broken)
    rows = c.all(
        "SELECT rowid FROM manifests WHERE rowid > ? ORDER BY rowid LIMIT ?",
        *(-1 if after is None else after[0], PAGE),
    )
    here = {row for (row,) in rows if isinstance(row, int)}
    wrong = [
        (row, flaw)
        for row in sorted(here)
        if (flaw := audit.check_manifest(c, row, (row,) not in broken)) is not None
    ]
    marked = {row for (row,) in c.all(_MARKED) if isinstance(row, int)}
    return page, wrong, sorted(marked & here - {row for row, _ in wrong})


def _heal(c: Connection, row: int) -> None:
    c.execute(
        "DELETE FROM damaged WHERE kind IN ('manifest', 'record') AND repository ="
        " (SELECT repository FROM manifests WHERE rowid = ?)"
        " AND name = (SELECT digest FROM manifests WHERE rowid = ?)",
        *(row, row),
    )


_MARKED: Final = (
    "SELECT m.rowid FROM damaged AS d JOIN manifests AS m"
    " ON m.repository = d.repository AND m.digest = d.name WHERE d.kind IN ('manifest', 'record')"
)
_WHERE: Final = (
    "SELECT m.repository, CAST(r.name AS BLOB), CAST(m.digest AS BLOB) FROM manifests AS m"
    " LEFT JOIN repositories AS r ON r.id = m.repository WHERE m.rowid = ?"
)
