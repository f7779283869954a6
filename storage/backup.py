"""Backups: a copy of everything, taken while pushes and collection go on.

The records first, as of one moment; then every blob that those records link. A blob never changes,
and while the collector pauses (storage.pause, taken before the records are read) none goes, so the
copy is closed under references although nobody waits for it. Blobs are shared by all snapshots of
a directory: one that is there already is not copied again, and one that is shown is durable and was
hashed while it was copied. A snapshot shows itself last.

What is damaged or missing in the store is said and left out, and the rest is saved all the same:
the day on which a blob is lost is no day to stop making backups.

Not in a backup, since it is made again out of what is: `apps/` (unpacked by the deployer where a
live revision lacks it; the logs of applications are lost, and applications keep no other state
there) and `compiled/`. Nor `uploads/`: a client that was amid an upload begins it anew. Apps, their
settings, variables and revisions are rows.

A hard link (`link`) shares its bytes with the store: it costs no space and guards against deletion
and mistakes, not against a disk that loses bytes.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged
from storage.filesystem.backups import Backups, Draft
from storage.pause import pause
from storage.records.database import Connection
from storage.records.statements import text, whole
from storage.snapshot import Loss, Snapshot
from storage.store import Store
from storage.threads import Threads

_BROKEN: Final = frozenset({errno.EIO, errno.EUCLEAN})  # the disk's fault, and of one file only
COPIERS: Final = 4  # at once: many blobs are small, and each waits for the disk alone


@dataclass(slots=True)
class Copied:
    """What a backup had to copy, since no snapshot before it had it."""

    blobs: int = 0
    bytes: int = 0


async def backup(
    store: Store, backups: Backups, *, link: bool = False, others: Sequence[Path] = ()
) -> tuple[Snapshot, Copied]:
    """A new snapshot, durable on return. `link`: link to files where that is possible; `others`:
    files of the operator that go with it, where they are.

    Raises Held when somebody removes snapshots at the moment, PauseLost, and OSError when the copy
    cannot be written; nothing is shown then.
    """
    threads = Threads("backup", COPIERS)
    try:
        now = store.now()
        async with _draft(backups, threads, now) as draft:
            async with pause(store):
                # The rows by which the blobs are found are those of the very state that is kept.
                linked = await store.database.snapshot(draft.records, _linked)
                work = _Copying(store, backups, draft, threads, link=link)
                await threads.each(linked, work.one)
            for path in others:
                await threads.run(partial(draft.keep, path))
            # Not if the pause was over too early: what is missing may have been there.
            lost = sorted(work.lost, key=lambda loss: loss.digest.text)
            kept = dict(linked)
            for loss in lost:
                del kept[loss.digest]
            snapshot = await threads.run(
                lambda: draft.publish(
                    time=_moment(now), digests=[*kept], size=sum(kept.values()), lost=lost
                )
            )
        return snapshot, work.copied
    finally:
        threads.close()


@dataclass(frozen=True, slots=True)
class Pruned:
    snapshots: tuple[str, ...]
    blobs: int
    bytes: int


async def prune(backups: Backups, keep: int) -> Pruned:
    """Remove all snapshots but the newest `keep`, and the blobs that none of those needs.

    Snapshots go first and wholly, so whenever this is cut short each that is shown is whole. Raises
    Held while somebody else is at work, and Damaged, with nothing removed, when it cannot be known
    what the others need.
    """
    return await asyncio.to_thread(_prune, backups, keep)


@dataclass(slots=True)
class Verified:
    snapshots: int
    blobs: int
    bytes: int
    wrong: list[str]
    """Sentences; empty: everything is as it was written."""


async def verify(backups: Backups) -> Verified:
    """Read everything. A blob with other bytes is set aside, so that the next backup heals it.

    Raises Held.
    """
    return await asyncio.to_thread(_verify, backups)


class _Copying:
    def __init__(
        self, store: Store, backups: Backups, draft: Draft, threads: Threads, *, link: bool
    ) -> None:
        self._store = store
        self._backups = backups
        self._draft = draft
        self._threads = threads
        self._link = link
        self.copied = Copied()
        self.lost: list[Loss] = []

    async def one(self, linked: tuple[Digest, int]) -> None:
        """A blob and its size in bytes."""
        digest, size = linked
        if await self._threads.run(lambda: self._backups.has(digest, size)):
            return
        try:
            await self._copy(digest, size)
        except BlobUnknown:
            self.lost.append(Loss(digest, "its bytes are gone"))
        except Damaged as error:
            self.lost.append(Loss(digest, str(error)))

    async def _copy(self, digest: Digest, size: int) -> None:
        try:
            blob = await self._store.blobs.open(digest)
        except OSError as error:
            if error.errno not in _BROKEN:
                raise
            raise Damaged(f"blob {digest} cannot be read ({error.strerror})") from error
        try:
            if blob.size != size:
                raise Damaged(f"blob {digest} has {blob.size} bytes and should have {size}")
            file = await blob.fileno()
            await self._threads.run(lambda: self._draft.copy(file, digest, link=self._link))
        finally:
            await blob.close()
        self.copied.blobs += 1
        self.copied.bytes += size


@asynccontextmanager
async def _draft(backups: Backups, threads: Threads, now: float) -> AsyncIterator[Draft]:
    with backups.locked():
        id = _id(now)
        draft = await threads.run(lambda: backups.begin(id))
        try:
            yield draft
        except BaseException:
            await threads.run(draft.abandon)
            raise


def _linked(c: Connection) -> list[tuple[Digest, int]]:
    rows = c.all("SELECT digest, MAX(size) FROM links GROUP BY digest ORDER BY digest")
    return [(Digest.parse(text(digest)), whole(size)) for digest, size in rows]


def _prune(backups: Backups, keep: int) -> Pruned:
    with backups.locked(alone=True):
        ids = backups.ids()
        old, kept = ids[: max(0, len(ids) - keep)], ids[max(0, len(ids) - keep) :]
        needed = {digest for id in kept for digest in backups.blobs(backups.snapshot(id))}
        backups.remove_drafts()
        for id in old:
            backups.remove_snapshot(id)
        gone = backups.remove_blobs(needed)
    return Pruned(tuple(old), len(gone), sum(gone))


def _verify(backups: Backups) -> Verified:
    done = Verified(0, 0, 0, [])
    needed: dict[Digest, list[str]] = {}
    with backups.locked():
        for id in backups.ids():
            done.snapshots += 1
            try:
                snapshot = backups.snapshot(id)
                backups.check_records(snapshot)
                for digest in backups.blobs(snapshot):
                    needed.setdefault(digest, []).append(id)
            except Damaged as error:
                done.wrong.append(str(error))
        damaged = []
        for digest, ids in needed.items():
            done.blobs += 1
            try:
                done.bytes += backups.check_blob(digest)
            except Damaged as error:
                damaged.append(digest)
                done.wrong.append(f"{error}; needed by {', '.join(ids)}")
    if damaged:
        # Not beside a backup, which may have just seen that the blob is there.
        with backups.locked(alone=True):
            for digest in damaged:
                backups.set_aside(digest)
    return done


def _moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _id(now: float) -> str:
    """In the order of time, and different for two of one millisecond."""
    at = datetime.fromtimestamp(now, UTC)
    return f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03}Z-{secrets.token_hex(4)}"
