"""Blobs: that they are there, and that their bytes are right."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from storage.blobs import Flaw, Pace
from storage.damage import condemn
from storage.digest import Digest
from storage.errors import DigestInvalid
from storage.records import damage, references
from storage.records.database import Connection, Row, Value
from storage.store import Store
from storage.verify.findings import (
    MENDED,
    PAGE,
    PUSH,
    Finding,
    Gravity,
    Notes,
    Position,
    onward,
    shown,
)


class Blobs:
    """`read`: all bytes are hashed, and `pace` says how fast."""

    def __init__(self, store: Store, notes: Notes, read: bool, pace: Pace) -> None:
        self._store = store
        self._database = store.database
        self._notes = notes
        self._read = read
        self._pace = pace

    # Blobs

    async def blobs(self, position: Position) -> AsyncIterator[Position]:
        """By digest."""
        after: Position = position or (b"",)
        while True:
            rows = await self._database.scan(partial(_linked, after=after))
            blobs = {
                digest: (_size(least), _size(most), reason)
                for encoded, least, most, reason in rows
                if (digest := _digest(encoded)) is not None
            }
            flaws = dict(
                await self._store.blobs.survey(
                    [(digest, most) for digest, (_, most, _) in blobs.items()]
                )
            )
            for digest, (least, most, reason) in blobs.items():
                self._notes.report.blobs += 1
                flaw = flaws.get(digest)
                if reason is not None:
                    if flaw is not None or not self._read or not await self._is_right(digest):
                        found = Finding(Gravity.LOST, "blob", str(digest), str(reason), PUSH)
                        self._notes.tell(found)
                else:
                    doubted = least != most or (flaw is not None and flaw.lost)
                    if self._read or doubted:
                        flaw = await self._scrub(digest, doubted) or _unless_lost(flaw)
                    if flaw is not None and not flaw.lost:
                        remedy = f"`chown` or `chmod 400` it, or {PUSH}"
                        self._notes.tell(
                            Finding(Gravity.ODD, "blob", str(digest), flaw.reason, remedy)
                        )
                # What was read need not be read again after a stop.
                yield (digest.text.encode(),)
            if len(rows) < PAGE:
                break
            after = onward(after, rows[-1][:1])
            if after is None:
                break
        yield None

    async def _scrub(self, digest: Digest, doubted: bool) -> Flaw | None:
        """Read a blob, and put aside what is wrong; None when that was told, or nothing is."""
        store = self._store
        for _ in range(2):  # a second time when a push came between
            flaw = await store.blobs.scrub(digest, self._counted)
            if flaw is None:
                if doubted:
                    await self._resize(digest)
                return None
            # A disk that gives nothing today must not empty the store: the bytes stay.
            try:
                if await condemn(
                    *(self._database, store.blobs, digest, flaw.reason, store.now()),
                    leave=flaw.unread,
                ):
                    break
            except OSError as error:  # a full disk must not hide what is wrong
                reason = f"{flaw.reason}, and that could not be marked ({error.strerror})"
                self._notes.tell(Finding(Gravity.LOST, "blob", str(digest), reason, PUSH))
                return None
        else:
            return None  # what is pushed without end is new each time
        if await self._database.read(partial(damage.of_blob, digest=digest)) is not None:
            remedy = PUSH if flaw.unread else f"{PUSH} (what was there is in quarantine)"
            self._notes.tell(Finding(Gravity.LOST, "blob", str(digest), flaw.reason, remedy))
        return None

    async def _is_right(self, digest: Digest) -> bool:
        """Whether the bytes of a blob that is marked can be read after all; then it is no more."""
        if await self._store.blobs.scrub(digest, self._counted) is not None:
            return False
        await self._database.write(
            lambda c: damage.heal(c, damage.BLOB, damage.NOWHERE, digest.text)
        )
        return True

    async def _resize(self, digest: Digest) -> None:
        """The bytes are right, so a link that gives another size is not."""
        blob = await self._store.blobs.open(digest)
        size = blob.size
        await blob.close()
        gone = await self._database.write(
            lambda c: c.execute(
                "UPDATE links SET size = ? WHERE digest = ? AND size <> ?",
                *(size, digest.text, size),
            )
        )
        if gone:
            reason = f"{gone} of its links gave it another size than {size} bytes"
            self._notes.tell(Finding(Gravity.MENDED, "blob", str(digest), reason, MENDED))

    async def _counted(self, count: int) -> None:
        self._notes.report.bytes += count
        await self._pace(count)

    async def files(self, position: Position) -> AsyncIterator[Position]:
        """What lies where blobs do. The position is the number of a part."""
        blobs = self._store.blobs
        first = position[0] if position else 0
        assert isinstance(first, int)
        for part in range(first, blobs.parts):
            for path in await blobs.strangers(part):
                self._notes.tell(
                    Finding(Gravity.ODD, "file", path, "no blob has such a name", "take it away")
                )
            names = await blobs.kept(part)
            if names:
                unknown = partial(_unknown, names=names)
                self._notes.report.strays += await self._database.scan(unknown)
            yield (part + 1,)


def _linked(c: Connection, after: Position) -> list[Row]:
    """Digest, smallest and largest size that a link gives it, and why it is damaged."""
    return c.all(
        "SELECT CAST(l.digest AS BLOB), min(l.size), max(l.size), (SELECT reason FROM damaged"
        " WHERE kind = 'blob' AND repository = 0 AND name = l.digest) FROM links AS l"
        " WHERE l.digest > CAST(? AS TEXT) GROUP BY l.digest ORDER BY l.digest LIMIT ?",
        *(*(after or ()), PAGE),
    )


def _unknown(c: Connection, names: list[tuple[Digest, int]]) -> int:
    """How many of them no row leads to."""
    return sum(not references.is_known(c, digest) for digest, _ in names)


def _unless_lost(flaw: Flaw | None) -> Flaw | None:
    return None if flaw is None or flaw.lost else flaw


def _size(value: Value) -> int:
    """One that may not be one any more."""
    return value if isinstance(value, int) else -1


def _digest(value: Value) -> Digest | None:
    try:
        return Digest.parse(shown(value))
    except DigestInvalid:
        return None
