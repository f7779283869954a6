"""Store: everything that is kept, seen from above its repositories."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypedDict, Unpack

from storage.blobs import BlobStore
from storage.digest import Digest
from storage.names import RepositoryName, Tag
from storage.open_uploads import OpenUploads
from storage.records.database import Connection, Database
from storage.records.schema import STEPS
from storage.records.statements import Mover, text, whole
from storage.repository import Repository
from storage.reserve import Boundless, Reserve, Reserved

SCANNED: Final = 500  # names looked at in one go, which takes a millisecond or two
GRACE: Final = 24 * 3600.0  # seconds; longer than any push takes

_token: Final = partial(secrets.token_urlsafe, 16)


def _movable(name: RepositoryName, tag: Tag) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Move:
    """A tag was pointed at a digest, possibly the one it had; `digest` None: it was deleted.

    `at` is in seconds since 1970, for people; order is by `generation`.
    """

    generation: int
    repository: RepositoryName
    tag: Tag
    digest: Digest | None
    at: float
    mover: Mover | None = None
    """None: nobody had to sign in for it, or it is older than signing in."""


class Terms(TypedDict, total=False):
    """What a store can be told beside where things are; see Store."""

    now: Callable[[], float]
    grace: float
    token: Callable[[], str]
    uploads: int | None
    upload_bytes: int | None
    immutable: Callable[[RepositoryName, Tag], bool]
    reserve: Reserve | None


class Store:
    """Everything that is kept. Made by `open`; closes the database and the blob store it is given.

    `now` is the clock, in seconds since 1970. What a client was told is there stays for at least
    three quarters of `grace` seconds, even if nothing refers to it. `token` makes what nobody can
    guess: 128 random bits as text. `uploads` and `upload_bytes` limit what may be open at a time.
    `immutable` tells which tags may neither move nor go once they are there; it is asked within
    transactions, so it must be quick and know no other thing. What `pushed` writes may not use the
    `reserve`; all else may.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        now: Callable[[], float] = time.time,
        grace: float = GRACE,
        token: Callable[[], str] = _token,
        uploads: int | None = None,
        upload_bytes: int | None = None,
        immutable: Callable[[RepositoryName, Tag], bool] = _movable,
        reserve: Reserve | None = None,
    ) -> None:
        self.reserve = reserve or Boundless()
        self.pushed = database
        self.database = Reserved(database, self.reserve)
        self.blobs = blobs
        self.now = now
        self.grace = grace
        self.token = token
        self.open_uploads = OpenUploads(blobs, most=uploads, most_bytes=upload_bytes)
        self.immutable = immutable

    @staticmethod
    async def open(database: Database, blobs: BlobStore, **terms: Unpack[Terms]) -> Store:
        """A store whose tables are up to date. Raises LayoutUnknown."""
        store = Store(database, blobs, **terms)
        await store.database.migrate("storage", STEPS)
        return store

    def repository(self, name: RepositoryName) -> Repository:
        return Repository(name, self)

    async def repositories(self, *, after: str | None, limit: int) -> list[RepositoryName]:
        """Those that hold something, in byte order, strictly after a name that need not exist."""
        return await self.database.read(partial(_named, after or "", limit))

    async def repositories_among(
        self, shown: Callable[[str], bool], *, after: str | None, limit: int
    ) -> list[RepositoryName]:
        """Those of `repositories` whose name is to be shown, however few they are among them.

        `shown` is called for some names at a time, and whoever else waits goes on between: who may
        see three of 100,000 has them all looked at. It must be quick.
        """
        found: list[RepositoryName] = []
        size = min(limit, SCANNED)
        while len(found) < limit:
            names = await self.database.scan(partial(_names, after or "", size))
            seen = list(filter(shown, names))
            if seen:
                found += await self.database.read(partial(_listed, seen))
            if len(names) < size:
                break
            after, size = names[-1], min(size * 4, SCANNED)
        return found[:limit]

    async def moves(self, *, after: int, limit: int) -> list[Move]:
        """Moves of tags with a generation above `after`, in order."""
        rows = await self.database.read(
            lambda c: c.all(
                "SELECT m.generation, name, tag, digest, at, principal, may_deploy"
                " FROM tag_moves AS m JOIN repositories ON id = repository"
                " LEFT JOIN movers AS w ON w.generation = m.generation"
                " WHERE m.generation > ? ORDER BY m.generation LIMIT ?",
                after,
                limit,
            )
        )
        return [
            Move(
                whole(generation),
                RepositoryName.parse(text(name)),
                Tag.parse(text(tag)),
                None if digest is None else Digest.parse(text(digest)),
                float(at or 0),
                None if principal is None else Mover(text(principal), bool(may_deploy)),
            )
            for generation, name, tag, digest, at, principal, may_deploy in rows
        ]

    async def newest_move(self) -> int:
        """The generation of the newest move; 0 before the first."""
        row = await self.database.read(lambda c: c.one("SELECT generation FROM tag_clock"))
        return whole(row[0]) if row else 0

    async def close(self) -> None:
        await self.blobs.close()
        await self.database.close()


def _named(after: str, limit: int, c: Connection) -> list[RepositoryName]:
    rows = c.all(_NAMED, after, limit)
    return [RepositoryName.parse(text(name)) for (name,) in rows]


def _names(after: str, limit: int, c: Connection) -> list[str]:
    """Also of those that hold nothing: to ask that costs three times as much as the name."""
    statement = "SELECT name FROM repositories WHERE name > ? ORDER BY name LIMIT ?"
    return [text(name) for (name,) in c.all(statement, after, limit)]


def _listed(names: Sequence[str], c: Connection) -> list[RepositoryName]:
    return [RepositoryName.parse(name) for name in names if c.one(_IS_LISTED, name)]


_LISTED: Final = (
    " AND (EXISTS (SELECT 1 FROM links WHERE repository = id)"
    " OR EXISTS (SELECT 1 FROM manifests WHERE repository = id))"
)
_NAMED: Final = f"SELECT name FROM repositories WHERE name > ?{_LISTED} ORDER BY name LIMIT ?"  # noqa: S608 - a constant
_IS_LISTED: Final = f"SELECT 1 FROM repositories WHERE name = ?{_LISTED}"  # noqa: S608 - a constant
