"""Statements that several changes of the catalogue are made of, and what its columns hold.

Written in the subset that SQLite and PostgreSQL share. Each is given the connection of the
transaction that it is a part of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from storage.digest import Digest
from storage.errors import Immutable, ManifestInvalid, RepositoryUnknown
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records import damage, references
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
    """Size, since when nothing refers to it (null: something does), and why it is damaged."""
    return c.one(
        "SELECT size, (SELECT since FROM leases WHERE repository = id AND digest = ?"
        " AND kind = 'blob'), (SELECT reason FROM damaged WHERE kind = 'blob' AND repository = 0"
        " AND name = ?) FROM repositories JOIN links ON repository = id"
        " WHERE name = ? AND digest = ?",
        *(digest.text, digest.text, name.text, digest.text),
    )


def link(c: Connection, repository: int, digest: Digest, size: int, now: float) -> None:
    """Show a blob in a repository, with a lease if nothing there refers to it yet."""
    c.execute(
        "INSERT INTO links (repository, digest, size, created) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository, digest) DO UPDATE SET size = excluded.size"
        " WHERE size <> excluded.size",  # it was damaged
        repository,
        digest.text,
        size,
        now,
    )
    references.lease_blob(c, repository, digest.text, now)


@dataclass(frozen=True, slots=True)
class Mover:
    """Who points tags at a digest, and what may come of it."""

    principal: str
    may_deploy: bool


def move_tags(
    c: Connection,
    repository: int,
    tags: Sequence[Tag],
    digest: Digest,
    now: float,
    mover: Mover | None,
) -> dict[Tag, Digest | None]:
    """What each of them was before."""
    before: dict[Tag, Digest | None] = {}
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
        if mover is not None:
            c.execute(
                "INSERT INTO movers (generation, principal, may_deploy) VALUES (?, ?, ?)",
                *(generation, mover.principal, int(mover.may_deploy)),
            )
        before[tag] = Digest.parse(text(left[0])) if left is not None else None
        if left is not None and left[0] != digest.text:
            references.lease_manifest(c, repository, text(left[0]), now)
    references.unlease_manifest(c, repository, digest)
    return before


def columns(manifest: Manifest) -> tuple[str, str | None, str | None, str, int]:
    """Media type, subject, type of artifact, annotations and size, as a row says them."""
    subject = manifest.subject
    return (
        manifest.media_type,
        subject.digest.text if subject and subject.digest else None,
        manifest.artifact_type,
        json.dumps(dict(manifest.annotations), ensure_ascii=False),
        len(manifest.body),
    )


def refuse_moves(
    c: Connection,
    name: RepositoryName,
    tags: Iterable[Tag],
    digest: Digest,
    immutable: Callable[[RepositoryName, Tag], bool],
    overwriting: Callable[[Tag], None] | None,
) -> None:
    """Raises Immutable when one of the tags may not be pointed at that digest.

    `overwriting` is called before with each that is something else, and may raise, too.
    """
    for tag in tags:
        fixed = immutable(name, tag)
        if overwriting is None and not fixed:
            continue
        row = c.one(
            "SELECT digest FROM tags JOIN repositories ON repository = id"
            " WHERE repositories.name = ? AND tags.name = ?",
            *(name.text, tag.text),
        )
        if row is None or row[0] == digest.text:
            continue
        if overwriting is not None:
            overwriting(tag)
        if fixed:
            raise Immutable(
                f"{name}:{tag} is {text(row[0])} and immutable: it cannot become {digest}; push"
                " under another tag"
            )


def delete_tag(
    c: Connection, repository: int, tag: Tag, now: float, *, generation: int | None = None
) -> Digest | None:
    """Return what it was; None: it is not here, or not of that generation any more."""
    gone = c.one(
        "DELETE FROM tags WHERE repository = ? AND name = ?"
        " AND generation = coalesce(?, generation) RETURNING digest",
        *(repository, tag.text, generation),
    )
    if gone is None:
        return None
    record_moves(c, repository, {tag: None}, now)
    references.lease_manifest(c, repository, text(gone[0]), now)
    return Digest.parse(text(gone[0]))


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
        damage.heal(c, damage.MANIFEST, repository, digest.text)
    return bool(gone)


def tags_of(c: Connection, repository: int, digest: Digest) -> list[Tag]:
    rows = c.all(
        "SELECT name FROM tags WHERE repository = ? AND digest = ? ORDER BY name",
        *(repository, digest.text),
    )
    return [Tag.parse(text(name)) for (name,) in rows]


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
        "DELETE FROM damaged WHERE kind = 'blob' AND repository = 0 AND name = ?"
        " AND NOT EXISTS (SELECT 1 FROM links WHERE digest = ?)",
        *(digest.text, digest.text),
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
