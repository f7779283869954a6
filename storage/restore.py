"""Restoring: a snapshot becomes a data directory, whole before anybody can open it.

Everything is hashed while it is copied. What is damaged or missing in the backup is said and left
out: pulls of it say that the bytes are gone, and a push heals it. A restore that was cut short left
a directory that no server starts on, and that the same restore goes on with.

After it, times begin anew: what nothing refers to yet has the whole grace before it is garbage, as
it had when clients were told that it is there. What belonged to the machine that was is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.digest import Digest
from storage.errors import Damaged, LayoutRefused
from storage.filesystem import durable
from storage.filesystem.backups import Backups
from storage.filesystem.layout import Layout
from storage.records import damage
from storage.records.database import Connection, Database
from storage.records.schema import STEPS
from storage.records.statements import text
from storage.snapshot import Loss, Snapshot
from storage.threads import Threads

COPIERS: Final = 4


@dataclass(frozen=True, slots=True)
class Restored:
    snapshot: Snapshot
    blobs: int
    bytes: int
    lost: tuple[Loss, ...]
    """Blobs that are not there now, whether the snapshot lacked them or the backup lost them."""


async def nothing_else(database: Database) -> None:
    """For a store that is alone in its records."""


async def restore(
    backups: Backups,
    root: Path,
    *,
    open_records: Callable[[Layout], Awaitable[Database]],
    id: str | None = None,
    settle: Callable[[Database], Awaitable[None]] = nothing_else,
    now: Callable[[], float] = time.time,
) -> Restored:
    """Make `root` a data directory out of a snapshot, by default the newest; durable on return.

    `settle` brings the rows of others up to date, and forgets what was true of another machine
    only. Raises LayoutRefused when `root` is neither new nor empty or there is no such snapshot,
    LayoutUnknown when a newer release made it, Damaged when its records cannot be read, and Held
    while snapshots are removed.
    """
    with backups.locked():
        snapshot = backups.snapshot(id if id is not None else _newest(backups))
        backups.check_records(snapshot)
        with Layout.restoring(root, snapshot.id) as layout:
            threads = Threads("restore", COPIERS)
            try:
                await threads.run(lambda: backups.restore_records(snapshot, layout))
                await threads.run(lambda: backups.restore_others(snapshot, layout))
                database = await open_records(layout)
                try:
                    await database.migrate("storage", STEPS)
                    await settle(database)
                    await database.write(lambda c: _begin_anew(c, now()))
                    work = _Copying(backups, layout, threads)
                    await threads.each(await database.scan(_linked), work.one)
                    await database.write(lambda c: _mark(c, work.lost, now()))
                finally:
                    await database.close()
                await threads.run(lambda: _sync(layout, work.places))
            finally:
                threads.close()
    why = {loss.digest: loss for loss in snapshot.lost}
    lost = sorted(work.lost, key=lambda loss: loss.digest.text)
    return Restored(
        snapshot, work.blobs, work.bytes, tuple(why.get(loss.digest, loss) for loss in lost)
    )


class _Copying:
    def __init__(self, backups: Backups, layout: Layout, threads: Threads) -> None:
        self._backups = backups
        self._layout = layout
        self._threads = threads
        self.blobs = 0
        self.bytes = 0
        self.places: set[str] = set()
        """The directories whose names have to last."""
        self.lost: list[Loss] = []

    async def one(self, digest: Digest) -> None:
        try:
            size = await self._threads.run(lambda: self._backups.restore_blob(digest, self._layout))
            self.places.add(self._layout.blob_directory(digest))
            self.bytes += size
            self.blobs += 1
        except Damaged as error:
            self.lost.append(Loss(digest, str(error)))


def _newest(backups: Backups) -> str:
    ids = backups.ids()
    if not ids:
        raise LayoutRefused(f"there is no snapshot in {backups.root}")
    return ids[-1]


def _linked(c: Connection) -> list[Digest]:
    rows = c.all("SELECT DISTINCT digest FROM links ORDER BY digest")
    return [Digest.parse(text(digest)) for (digest,) in rows]


def _begin_anew(c: Connection, now: float) -> None:
    c.execute("UPDATE leases SET since = ?", now)
    c.execute("DELETE FROM trash")  # its bytes were not in the backup
    c.execute("DELETE FROM pauses")
    c.execute("DELETE FROM verifications")


def _mark(c: Connection, lost: list[Loss], now: float) -> None:
    """What was damaged may be whole in the backup, and what is lost must not be said to be here."""
    c.execute("DELETE FROM damaged WHERE kind = 'blob'")
    for loss in lost:
        damage.mark_blob(c, loss.digest, loss.why, now)


def _sync(layout: Layout, places: set[str]) -> None:
    for place in sorted(places):
        durable.sync_directory(place)
    durable.sync_directory(str(layout.root))  # the records' name
