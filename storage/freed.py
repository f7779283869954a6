"""How many bytes become free when something is deleted: told beforehand, from rows.

Only what certainly goes is counted: a blob that nothing else in its repository names and no other
repository has. Whoever pushes meanwhile can still keep it, so a forecast says when at the earliest.
The work is bounded; where that ends it, there may be more, and the answer says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from storage.digest import Digest
from storage.names import RepositoryName
from storage.records import statements
from storage.records.database import Connection, Row
from storage.records.statements import text, whole
from storage.store import Store

STEPS: Final = 20_000  # rows: some tens of milliseconds


@dataclass(slots=True)
class Freed:
    """What goes with what was deleted, at least."""

    manifests: set[str] = field(default_factory=set)
    blobs: dict[str, int] = field(default_factory=dict)
    """The size in bytes of each."""
    complete: bool = True
    """False: there may be more, it was not looked for to the end."""

    @property
    def bytes(self) -> int:
        return sum(self.blobs.values())


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the collector of a store will make of a deletion. Times are seconds."""

    store: Store
    untagged: Callable[[RepositoryName], float | None]
    """As the collector has it: how long manifests stay that nothing keeps; None: for ever."""
    quarantine: float

    async def released(
        self, name: RepositoryName, digests: Iterable[Digest]
    ) -> tuple[Freed, float]:
        """After something that referred to these was deleted: what goes, and when at the earliest.

        That time is in seconds since 1970.
        """
        found = await self.store.database.scan(
            lambda c: freed(
                c,
                statements.find(c, name),
                (digest.text for digest in digests),
                manifests=self.untagged(name) is not None,
            )
        )
        return found, self.store.now() + self.store.grace + self.quarantine

    async def unlinked(self, digest: Digest) -> tuple[Freed, float]:
        """The same after a repository let go of a blob."""
        row = await self.store.database.read(
            # What a repository has may be there too, from when it was new: see Collector.strays.
            lambda c: c.one(
                "SELECT size FROM trash WHERE digest = ?"
                " AND NOT EXISTS (SELECT 1 FROM links WHERE links.digest = trash.digest)",
                digest.text,
            )
        )
        blobs = {} if row is None else {digest.text: whole(row[0])}
        return Freed(blobs=blobs), self.store.now() + self.quarantine


def freed(
    c: Connection,
    repository: int,
    loosened: Iterable[str],
    *,
    manifests: bool,
    leaving: Set[str] = frozenset(),
    steps: int = STEPS,
) -> Freed:
    """What nothing keeps of these digests, which have just lost something that referred to them.

    And what goes with that in turn. `manifests`: whether those go that nothing keeps. `leaving` are
    tags that are still there, and will not be.
    """
    walk = _Walk(c, repository, leaving, steps // 2)
    queue = deque(loosened)
    touched = dict.fromkeys(queue)
    while queue and walk.steps > 0:
        digest = queue.popleft()
        # One that something keeps is asked about again when the next of its parents goes.
        if digest not in walk.found.manifests and manifests and walk.manifest_goes(digest):
            walk.found.manifests.add(digest)
            children = walk.some(_CHILDREN, digest, max(walk.steps, 1))
            touched |= dict.fromkeys(children)
            queue += children
    walk.found.complete = not queue and walk.steps > 0
    walk.steps = steps - steps // 2  # whatever that took, some bytes are to be told of
    for digest in touched:  # once, since a layer may have very many parents
        if walk.steps <= 0:
            walk.found.complete = False
            break
        if (size := walk.blob_goes(digest)) is not None:
            walk.found.blobs[digest] = size
    return walk.found


class _Walk:
    def __init__(self, c: Connection, repository: int, leaving: Set[str], steps: int) -> None:
        self.found = Freed()
        self.steps = steps
        self._c = c
        self._repository = repository
        self._leaving = leaving

    def manifest_goes(self, digest: str) -> bool:
        """Whether it is a manifest, and no index, tag, subject or hold keeps it."""
        return (
            self._has(_MANIFEST, digest)
            and self.all_go(_PARENTS, digest)
            and self.all_go(_TAGS, digest, self._leaving)
            and self.all_go(_SUBJECTS, digest)
            and not self._has(_HOLDS, digest)
        )

    def blob_goes(self, digest: str) -> int | None:
        """The size in bytes of what only this repository has, if nothing in it keeps that."""
        row = self._row(_HERE_ALONE, digest)
        return whole(row[0]) if row is not None and self.all_go(_PARENTS, digest) else None

    def all_go(self, statement: str, digest: str, going: Set[str] | None = None) -> bool:
        going = self.found.manifests if going is None else going
        # One more than go tells enough: a layer may have a great many parents.
        return all(found in going for found in self.some(statement, digest, len(going) + 1))

    def _has(self, statement: str, digest: str) -> bool:
        return self._row(statement, digest) is not None

    def _row(self, statement: str, digest: str) -> Row | None:
        self.steps -= 1
        return self._c.one(statement, self._repository, digest)

    def some(self, statement: str, digest: str, limit: int) -> list[str]:
        rows = self._c.all(statement, self._repository, digest, limit)
        self.steps -= 1 + len(rows)
        return [text(found) for (found,) in rows]


_PARENTS: Final = (
    "SELECT parent FROM edges WHERE repository = ? AND child = ? AND relation = 'content' LIMIT ?"
)
_CHILDREN: Final = "SELECT child FROM edges WHERE repository = ? AND parent = ? LIMIT ?"
_SUBJECTS: Final = (
    "SELECT parent FROM edges JOIN manifests ON manifests.repository = edges.repository"
    " AND digest = parent WHERE edges.repository = ? AND child = ? AND relation = 'referrer'"
    " LIMIT ?"
)
_TAGS: Final = "SELECT name FROM tags WHERE repository = ? AND digest = ? LIMIT ?"
_MANIFEST: Final = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?"
_HOLDS: Final = (
    "SELECT 1 FROM holds JOIN repositories ON name = repository_name WHERE id = ? AND digest = ?"
)
_HERE_ALONE: Final = (
    "SELECT size FROM links WHERE repository = ? AND digest = ? AND NOT EXISTS"
    " (SELECT 1 FROM links AS others WHERE others.digest = links.digest"
    " AND others.repository <> links.repository)"
)
