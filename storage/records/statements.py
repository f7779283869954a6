"""Statements that several changes of the catalogue are made of, and what its columns hold.

Written in the subset that SQLite and PostgreSQL share. Each is given the connection of the
transaction that it is a part of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storage.digest import Digest
from storage.errors import ManifestInvalid, RepositoryUnknown
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records import references
from storage.records.database import Connection, Row, Value


def find(c: Connection, name: RepositoryName) -> int:
    row = c.one("SELECT id FROM repositories WHERE name = ?", name.text)
    if row is None:
        raise RepositoryUnknown(f"nothing was ever pushed to {name}")
    return whole(row[0])


def name(c: Connection, repository: int) -> RepositoryName:
    row = c.one("SELECT name FROM repositories WHERE id = ?", repository)
    assert row is not None
    return RepositoryName.parse(text(row[0]))


def ensure(c: Connection, name: RepositoryName) -> int:
    c.execute("INSERT INTO repositories (name) VALUES (?) ON CONFLICT (name) DO NOTHING", name.text)
    return find(c, name)


def linked(c: Connection, name: RepositoryName, digest: Digest) -> Row | None:
    """Size, and since when nothing refers to it (null: something does)."""
    return c.one(
        "SELECT size, (SELECT since FROM leases WHERE repository = id AND digest = ?"
        " AND kind = 'blob') FROM repositories JOIN links ON repository = id"
        " WHERE name = ? AND digest = ?",
        *(digest.text, name.text, digest.text),
    )


def link(c: Connection, repository: int, digest: Digest, size: int, now: float) -> None:
    """Show a blob in a repository, with a lease if nothing there refers to it yet."""
    c.execute(
        "INSERT INTO links (repository, digest, size, created) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository, digest) DO NOTHING",
        repository,
        digest.text,
        size,
        now,
    )
    references.lease_blob(c, repository, digest.text, now)


def move_tags(
    c: Connection, repository: int, tags: Sequence[Tag], digest: Digest, now: float
) -> None:
    moves = dict.fromkeys(tags, digest)
    for generation, tag in enumerate(moves, record_moves(c, repository, moves, now)):
        left = c.one(
            "SELECT digest FROM tags WHERE repository = ? AND name = ?", repository, tag.text
        )
        c.execute(
            "INSERT INTO tags (repository, name, digest, generation) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest,"
            " generation = excluded.generation",
            repository,
            tag.text,
            digest.text,
            generation,
        )
        if left is not None and left[0] != digest.text:
            references.lease_manifest(c, repository, text(left[0]), now)
    references.unlease_manifest(c, repository, digest)


def delete_manifest(c: Connection, repository: int, digest: Digest, now: float) -> bool:
    """With every tag on it, and what it alone kept left to the collector. False: it is not here."""
    tags = c.all(
        "DELETE FROM tags WHERE repository = ? AND digest = ? RETURNING name",
        *(repository, digest.text),
    )
    record_moves(c, repository, {Tag.parse(text(name)): None for (name,) in tags}, now)
    gone = c.execute(
        "DELETE FROM manifests WHERE repository = ? AND digest = ?", repository, digest.text
    )
    if gone:
        references.release(c, repository, digest, now)
    return bool(gone)


def unlink(c: Connection, repository: int, digest: Digest, now: float) -> bool:
    """Take a blob out of a repository; the last one leaves the bytes to the collector."""
    row = c.one(
        "DELETE FROM links WHERE repository = ? AND digest = ? RETURNING size",
        *(repository, digest.text),
    )
    if row is None:
        return False
    c.execute(
        "DELETE FROM leases WHERE repository = ? AND digest = ? AND kind = 'blob'",
        *(repository, digest.text),
    )
    c.execute(
        "INSERT INTO trash (digest, size, since) SELECT ?, ?, ?"
        " WHERE NOT EXISTS (SELECT 1 FROM links WHERE digest = ?)"
        " ON CONFLICT (digest) DO UPDATE SET since = excluded.since",
        *(digest.text, row[0], now, digest.text),
    )
    return True


def record_moves(
    c: Connection, repository: int, moves: Mapping[Tag, Digest | None], now: float
) -> int:
    """One row per move, in their order; return the generation of the first."""
    if not moves:
        return 0
    row = c.one("UPDATE tag_clock SET generation = generation + ? RETURNING generation", len(moves))
    assert row is not None
    first = whole(row[0]) - len(moves) + 1
    for generation, (tag, digest) in enumerate(moves.items(), first):
        c.execute(
            "INSERT INTO tag_moves (generation, repository, tag, digest, at)"
            " VALUES (?, ?, ?, ?, ?)",
            generation,
            repository,
            tag.text,
            None if digest is None else digest.text,
            now,
        )
    return first


def check_sizes(c: Connection, repository: int, manifest: Manifest) -> None:
    """Raises ManifestInvalid for a descriptor whose size is not that of what it names here.

    A subject is not asked about: it is no part of what a client pulls with the manifest.
    """
    for descriptor in references.content(manifest):
        if descriptor.digest is None:
            continue
        digest = descriptor.digest.text
        for (size,) in c.all(
            "SELECT size FROM links WHERE repository = ? AND digest = ?"
            " UNION ALL SELECT size FROM manifests WHERE repository = ? AND digest = ?",
            *(repository, digest, repository, digest),
        ):
            if size != descriptor.size:
                raise ManifestInvalid(
                    f"the manifest says that {digest} has {descriptor.size} bytes, and it has"
                    f" {whole(size)}"
                )


# What a column holds, which a row does not say


def text(value: Value) -> str:
    assert isinstance(value, str)
    return value


def whole(value: Value) -> int:
    assert isinstance(value, int)
    return value
