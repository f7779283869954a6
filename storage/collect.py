"""Garbage: what it is, and how it goes while others push.

Two steps. First a row goes: a manifest that nothing keeps, where the rules do not want such ones
kept; then the link of a blob that no manifest of its repository names, once its lease is over
(storage.records.references). Later, when no repository has had the blob for `quarantine` seconds,
its bytes go. Every decision is one short transaction over at most PAGE rows that asks again, so a
push that came between is seen; and bytes are removed only under the lock that a commit shares
(BlobStore.discard), and none while somebody reads by a list made earlier (storage.pause). Nothing
is ever locked for longer than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from storage.digest import Digest
from storage.names import RepositoryName
from storage.pause import paused
from storage.records import damage, references, statements
from storage.records.database import Connection, Row
from storage.records.statements import text, whole
from storage.store import Store

T = TypeVar("T")

PAGE: Final = 200  # rows asked about in one transaction: some milliseconds
QUARANTINE: Final = 3600.0  # seconds
UPLOAD_AGE: Final = 24 * 3600.0  # seconds without a byte, after which an upload is abandoned

_BEGIN: Final[Row] = (-1.0, -1, "")


@dataclass(slots=True)
class Collected:
    """What one cycle did, or would do."""

    manifests: list[tuple[RepositoryName, Digest]] = field(default_factory=list)
    links: list[tuple[RepositoryName, Digest]] = field(default_factory=list)
    blobs: list[tuple[Digest, int]] = field(default_factory=list)
    """Whose bytes are gone, and how many each had."""
    uploads: list[int] = field(default_factory=list)
    """The sizes of abandoned uploads, in bytes."""
    doubts: list[str] = field(default_factory=list)
    """Why nothing was done: manifests and records that are damaged, so that nobody knows what is
    needed; and what to do."""

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(size for _, size in self.blobs) + sum(self.uploads)

    def __bool__(self) -> bool:
        return bool(self.manifests or self.links or self.blobs or self.uploads)


class Collector:
    """Collects the garbage of one store; several, in any process, do no harm to each other.

    `untagged` tells how many seconds a manifest that nothing keeps stays in a repository; None:
    for ever. Without it all stay, and none is looked at. Times are seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        untagged: Callable[[RepositoryName], float | None] | None = None,
        quarantine: float = QUARANTINE,
        upload_age: float = UPLOAD_AGE,
    ) -> None:
        self._store = store
        self._database = store.database
        self._untagged = untagged
        self._quarantine = quarantine
        self._upload_age = upload_age

    async def cycle(self) -> Collected:
        """Everything that is due now; nothing while a manifest or a record is damaged."""
        done = Collected()
        now = self._store.now()
        done.doubts = await self._database.read(_doubts)
        if done.doubts:
            return done
        await self._each(references.MANIFEST, now, done.manifests, statements.delete_manifest)
        await self._each(references.BLOB, now, done.links, statements.unlink)
        await self._bytes(done, now)
        done.uploads = await self._store.blobs.expire_uploads(now - self._upload_age)
        return done

    async def preview(self) -> Collected:
        """What a cycle would do now, without its consequences: nothing is changed."""
        due = Collected()
        now = self._store.now()

        def look(c: Connection) -> None:
            due.doubts = _doubts(c)
            if due.doubts:
                return
            for kind, found in (
                (references.MANIFEST, due.manifests),
                (references.BLOB, due.links),
            ):
                for row, name in self._due(c, kind, now):
                    if references.loose(c, *row, kind, self._before(kind, name, now)):
                        found.append((name, Digest.parse(row[1])))
            due.blobs += _trash(c, now - self._quarantine)

        await self._database.scan(look)
        return due

    async def strays(self) -> int:
        """Put blobs that no row leads to into the quarantine; how many there were.

        A crash may leave such bytes. Reads all names in the store, part by part.
        """
        store, found = self._store, 0
        if await self._database.read(_doubts):  # the row may be there, and be wrong
            return found
        for part in range(store.blobs.parts):
            for names in _pages(await store.blobs.kept(part)):
                unknown = [
                    (digest, size)
                    for digest, size in names
                    if not await self._database.read(partial(references.is_known, digest=digest))
                ]
                if unknown:
                    await self._database.write(partial(_quarantine, unknown, store.now()))
                    found += len(unknown)
        return found

    def _before(self, kind: str, name: RepositoryName, now: float) -> float:
        """Leases that began before this are over. Never, where such things are kept."""
        if kind == references.BLOB:
            return now - self._store.grace
        kept = self._untagged(name) if self._untagged else None
        return float("-inf") if kept is None else now - max(kept, self._store.grace)

    def _due(
        self, c: Connection, kind: str, now: float
    ) -> Iterator[tuple[tuple[int, str], RepositoryName]]:
        """What has a lease that is over: (repository, digest), and the repository's name."""
        if kind == references.MANIFEST and self._untagged is None:
            return
        names: dict[int, RepositoryName] = {}
        after = _BEGIN
        while page := references.expired(c, kind, now - self._store.grace, after, PAGE):
            after = page[-1]
            for since, repository, digest in page:
                id = whole(repository)
                if id not in names:
                    names[id] = statements.name(c, id)
                if float(since or 0) < self._before(kind, names[id], now):
                    yield (id, text(digest)), names[id]

    async def _each(
        self,
        kind: str,
        now: float,
        done: list[tuple[RepositoryName, Digest]],
        remove: Callable[[Connection, int, Digest, float], bool],
    ) -> None:
        due = await self._database.scan(lambda c: list(self._due(c, kind, now)))
        for page in _pages(due):

            def change(
                c: Connection, page: Sequence[tuple[tuple[int, str], RepositoryName]] = page
            ) -> list[tuple[RepositoryName, Digest]]:
                gone: list[tuple[RepositoryName, Digest]] = []
                if damage.doubts(c):  # since the cycle began
                    return gone
                for (repository, encoded), name in page:
                    digest = Digest.parse(encoded)
                    if references.loose(
                        c, repository, encoded, kind, self._before(kind, name, now)
                    ) and remove(c, repository, digest, self._store.now()):
                        gone.append((name, digest))
                return gone

            done += await self._database.write(change)

    async def _bytes(self, done: Collected, now: float) -> None:
        before = now - self._quarantine
        if await self._database.read(partial(paused, now)):
            return
        for page in _pages(await self._database.scan(lambda c: _trash(c, before))):
            settled = []
            for digest, size in page:
                needed = _Needed(self._store, digest)
                if await self._store.blobs.discard(digest, needed) and not needed.paused:
                    settled.append(digest)
                    if not needed.answer:
                        done.blobs.append((digest, size))
            await self._database.write(partial(_settle, settled, before))


class _Needed:
    """Whether a repository has the blob, or the collector is to pause; keeps the answers."""

    def __init__(self, store: Store, digest: Digest) -> None:
        self._store = store
        self._digest = digest
        self.answer = True
        self.paused = False

    async def __call__(self) -> bool:
        def look(c: Connection) -> tuple[bool, bool]:
            needed = references.is_linked(c, self._digest) or bool(damage.doubts(c))
            return needed, paused(self._store.now(), c)

        self.answer, self.paused = await self._store.database.read(look)
        return self.answer or self.paused


def _doubts(c: Connection) -> list[str]:
    return [
        f"manifest {text(name)}@{text(digest)} is damaged ({text(reason)}); push it again or"
        " delete it"
        if name is not None
        else f"a record is damaged ({text(reason)}); see `spindle verify`"
        for name, digest, reason in damage.doubts(c)
    ]


def _trash(c: Connection, before: float) -> list[tuple[Digest, int]]:
    """What has been in quarantine since before then, with sizes in bytes."""
    rows = c.all("SELECT digest, size FROM trash WHERE since < ? ORDER BY since", before)
    return [(Digest.parse(text(digest)), whole(size)) for digest, size in rows]


def _quarantine(found: list[tuple[Digest, int]], now: float, c: Connection) -> None:
    for digest, size in found:
        c.execute(
            "INSERT INTO trash (digest, size, since) VALUES (?, ?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            *(digest.text, size, now),
        )


def _settle(digests: list[Digest], before: float, c: Connection) -> None:
    for digest in digests:  # one that came back and went again meanwhile is not so old
        c.execute("DELETE FROM trash WHERE digest = ? AND since < ?", digest.text, before)


def _pages(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE]
