"""What keeps what: the edges between manifests and content, and the leases of what nothing keeps.

A digest can only be named by what was made after it, so edges never run in a circle, and counting
them is enough: a blob or a manifest that no edge, tag or hold leads to is garbage, after a while.
That while begins with the row in `leases`: made in the transaction that took the last reference
away (or uploaded something that has none yet), renewed when a client asks and is told that it is
there, and gone in the transaction that refers to it. So nobody ever has to walk the store to know
what may go.
"""

from __future__ import annotations

from typing import Final

from storage.descriptor import Descriptor
from storage.digest import Digest
from storage.manifest import Manifest
from storage.records.database import Connection, Row, Value

BLOB: Final = "blob"
MANIFEST: Final = "manifest"
_CONTENT: Final = "content"
_REFERRER: Final = "referrer"


def content(manifest: Manifest) -> list[Descriptor]:
    """Everything a client pulls with a manifest."""
    config = [] if manifest.config is None else [manifest.config]
    return [*config, *manifest.layers, *manifest.manifests]


def refer(c: Connection, repository: int, manifest: Manifest) -> None:
    """The edges of a manifest that was just put, and the end of the leases of what it names."""
    parent = manifest.digest.text
    for child in {found.digest.text for found in content(manifest) if found.digest}:
        _connect(c, repository, parent, child, _CONTENT)
    if manifest.subject is not None and manifest.subject.digest is not None:
        _connect(c, repository, manifest.subject.digest.text, parent, _REFERRER)
    # What it has for content; and, if it is a subject, what came to it before it was here.
    c.execute(
        "DELETE FROM leases WHERE repository = ? AND digest IN"
        " (SELECT child FROM edges WHERE repository = ? AND parent = ?)",
        *(repository, repository, parent),
    )


def release(c: Connection, repository: int, digest: Digest, now: float) -> None:
    """The edges of a manifest that was just deleted go, and what they kept has a lease from now."""
    unlease_manifest(c, repository, digest)
    children = c.all(
        "SELECT child, relation FROM edges WHERE repository = ? AND parent = ?",
        *(repository, digest.text),
    )
    forget(c, repository, digest)
    for child, relation in children:
        assert isinstance(child, str)
        if relation == _CONTENT:
            lease_blob(c, repository, child, now)
        lease_manifest(c, repository, child, now)


def children(c: Connection, repository: int, digest: Digest, limit: int) -> list[Digest]:
    """What it keeps: its content, and what refers to it."""
    rows = c.all(
        "SELECT child FROM edges WHERE repository = ? AND parent = ? LIMIT ?",
        *(repository, digest.text, limit),
    )
    return [Digest.parse(str(child)) for (child,) in rows]


def forget(c: Connection, repository: int, digest: Digest) -> None:
    """The edges that come from a manifest's body."""
    # Two statements: for one with OR, SQLite reads all edges of the repository.
    c.execute(
        "DELETE FROM edges WHERE repository = ? AND parent = ? AND relation = 'content'",
        *(repository, digest.text),
    )
    c.execute(
        "DELETE FROM edges WHERE repository = ? AND child = ? AND relation = 'referrer'",
        *(repository, digest.text),
    )


def lease_blob(c: Connection, repository: int, digest: str, now: float) -> None:
    """A lease from now for a blob, if it is here and nothing keeps it."""
    _lease(c, repository, digest, BLOB, now)


def lease_manifest(c: Connection, repository: int, digest: str, now: float) -> None:
    """The same for a manifest; one without a tag that nothing else keeps."""
    _lease(c, repository, digest, MANIFEST, now)


def unlease_manifest(c: Connection, repository: int, digest: Digest) -> None:
    c.execute(
        "DELETE FROM leases WHERE repository = ? AND digest = ? AND kind = 'manifest'",
        *(repository, digest.text),
    )


def renew(c: Connection, repository: int, digest: Digest, kind: str, now: float) -> None:
    """Who was just told that it is here can rely on that for a while."""
    c.execute(
        "UPDATE leases SET since = ? WHERE repository = ? AND digest = ? AND kind = ?"
        " AND since < ?",
        *(now, repository, digest.text, kind, now),
    )


def expired(c: Connection, kind: str, before: float, after: Row, limit: int) -> list[Row]:
    """Leases older than that, in order of age: (since, repository, digest), strictly after one."""
    return c.all(
        "SELECT since, repository, digest FROM leases WHERE kind = ? AND since < ?"
        " AND (since, repository, digest) > (?, ?, ?)"
        " ORDER BY since, repository, digest LIMIT ?",
        *(kind, before, *after, limit),
    )


def loose(c: Connection, repository: int, digest: str, kind: str, before: float) -> bool:
    """Whether it is garbage: its lease is over, and nothing has come to keep it."""
    row = c.one(
        _OVER[kind],
        *(repository, digest, kind, before),
        *_loose_parameters(kind, repository, digest),
    )
    return row is not None


def is_linked(c: Connection, digest: Digest) -> bool:
    """Whether any repository has the blob."""
    return c.one("SELECT 1 FROM links WHERE digest = ? LIMIT 1", digest.text) is not None


def is_known(c: Connection, digest: Digest) -> bool:
    """Whether any row leads to its bytes."""
    row = c.one(
        "SELECT 1 FROM links WHERE digest = ? UNION ALL SELECT 1 FROM trash WHERE digest = ?",
        *(digest.text, digest.text),
    )
    return row is not None


def read_all(c: Connection) -> None:
    """The edges and leases of what was kept before there were any. A step of the schema."""
    after: tuple[Value, Value] = (0, "")
    while row := c.one(
        "SELECT repository, digest, media_type, body FROM manifests"
        " WHERE (repository, digest) > (?, ?) ORDER BY repository, digest LIMIT 1",
        *after,
    ):
        repository, digest, media_type, body = row
        after = (repository, digest)
        assert isinstance(repository, int)
        assert isinstance(body, bytes)
        manifest = Manifest.parse(
            body, content_type=str(media_type), digest=Digest.parse(str(digest))
        )
        refer(c, repository, manifest)
    # Of unknown age, so of none.
    c.execute(
        "INSERT INTO leases (repository, digest, kind, since)"
        " SELECT repository, digest, 'blob', created FROM links WHERE NOT EXISTS"
        " (SELECT 1 FROM edges WHERE edges.repository = links.repository"
        " AND child = links.digest AND relation = 'content')"
    )
    for repository, digest, created in c.all("SELECT repository, digest, created FROM manifests"):
        assert isinstance(repository, int)
        lease_manifest(c, repository, str(digest), float(created or 0))


def _connect(c: Connection, repository: int, parent: str, child: str, relation: str) -> None:
    c.execute(
        "INSERT INTO edges (repository, parent, child, relation) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository, parent, child, relation) DO NOTHING",
        *(repository, parent, child, relation),
    )


def _lease(c: Connection, repository: int, digest: str, kind: str, now: float) -> None:
    c.execute(
        _LEASE[kind],
        *(repository, digest, kind, now),
        *_loose_parameters(kind, repository, digest),
    )


def _loose_parameters(kind: str, repository: int, digest: str) -> tuple[Value, ...]:
    return (repository, digest) * (2 if kind == BLOB else 5)


_LOOSE_BLOB: Final = (
    "EXISTS (SELECT 1 FROM links WHERE repository = ? AND digest = ?)"
    " AND NOT EXISTS (SELECT 1 FROM edges WHERE repository = ? AND child = ?"
    " AND relation = 'content')"
)
# A referrer is kept by a subject that is here, and by no other.
_LOOSE_MANIFEST: Final = (
    "EXISTS (SELECT 1 FROM manifests WHERE repository = ? AND digest = ?)"
    " AND NOT EXISTS (SELECT 1 FROM tags WHERE repository = ? AND digest = ?)"
    " AND NOT EXISTS (SELECT 1 FROM edges WHERE repository = ? AND child = ?"
    " AND relation = 'content')"
    " AND NOT EXISTS (SELECT 1 FROM edges JOIN manifests ON manifests.repository ="
    " edges.repository AND digest = parent WHERE edges.repository = ? AND child = ?"
    " AND relation = 'referrer')"
    " AND NOT EXISTS (SELECT 1 FROM holds JOIN repositories ON name = repository_name"
    " WHERE id = ? AND digest = ?)"
)
_LOOSE: Final = {BLOB: _LOOSE_BLOB, MANIFEST: _LOOSE_MANIFEST}
_LEASE: Final = {
    kind: "INSERT INTO leases (repository, digest, kind, since) SELECT ?, ?, ?, ? WHERE "
    + condition
    + " ON CONFLICT (repository, digest, kind) DO UPDATE SET since = excluded.since"
    for kind, condition in _LOOSE.items()
}
_LEASE_OVER: Final = (
    "SELECT 1 FROM leases WHERE repository = ? AND digest = ? AND kind = ? AND since < ?"
)
_OVER: Final = {kind: f"{_LEASE_OVER} AND {condition}" for kind, condition in _LOOSE.items()}
