"""Rows held against what they should say: manifests against their bodies, tags against their moves.

Everything is read as bytes, since what a bit was flipped in may be no text any more. What a body
proves is put right from it; what it cannot prove is marked, and a push puts it right.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from storage.digest import Digest
from storage.document import parse_object
from storage.errors import DigestInvalid, ManifestInvalid
from storage.manifest import Manifest
from storage.records import references, seals, statements
from storage.records.database import Connection, Row


class Cure(enum.Enum):
    MEND = enum.auto()
    """The body proves what the rows have to say."""
    PUSH = enum.auto()
    """It is not what was pushed, or not provably: only a push of the same can tell."""
    NONE = enum.auto()
    """The row is not where it was, or its body cannot be read by this release."""


@dataclass(frozen=True, slots=True)
class ManifestFlaw:
    reason: str
    cure: Cure
    manifest: Manifest | None = None
    """What the rows have to say, if it can be mended."""


def check_manifest(c: Connection, row: int, fits: bool) -> ManifestFlaw | None:
    """One row of manifests by its number; `fits`: it is as its seal says."""
    found = c.one(_MANIFEST, row)
    if found is None:
        return None
    repository, encoded, sent, subject, kind, annotations, size, body, stored_as = found
    assert isinstance(body, bytes)
    digest = _digest(encoded)
    if digest is None or not isinstance(repository, int) or not _is_at(c, repository, digest, row):
        return ManifestFlaw("its digest or repository is not what was written", Cure.NONE)
    if stored_as != "blob" or not digest.fits(body):
        return ManifestFlaw("its body is not what the digest names", Cure.PUSH)
    media_type = _text(sent)
    try:
        manifest = Manifest.parse(body, digest=digest, content_type=_named(body) or media_type)
    except ManifestInvalid as error:
        if fits:
            return ManifestFlaw(f"it cannot be read: {error}", Cure.NONE)
        return ManifestFlaw("its media type is not what was sent", Cure.PUSH)
    said = (media_type, _text(subject), _text(kind), _text(annotations), size)
    if said != statements.columns(manifest):
        return ManifestFlaw("its row does not say what its body says", Cure.MEND, manifest)
    if not fits:
        if _named(body) is None:
            return ManifestFlaw("its row is not what was written", Cure.PUSH)
        return ManifestFlaw("its row is not what was written", Cure.MEND, manifest)
    if _edges(c, repository, digest) != _wanted(manifest):
        return ManifestFlaw("what it refers to is noted wrongly", Cure.MEND, manifest)
    return None


def mend_manifest(c: Connection, table: seals.Table, row: int, manifest: Manifest) -> None:
    """Write what its body says into its row, and its edges."""
    c.execute(
        "UPDATE manifests SET media_type = ?, subject = ?, artifact_type = ?, annotations = ?,"
        " size = ? WHERE rowid = ?",
        *(*statements.columns(manifest), row),
    )
    seals.reseal(c, table, (row,))
    found = c.one("SELECT repository FROM manifests WHERE rowid = ?", row)
    assert found is not None
    assert isinstance(found[0], int)
    if _edges(c, found[0], manifest.digest) != _wanted(manifest):
        references.forget(c, found[0], manifest.digest)
        references.refer(c, found[0], manifest)


def loose_edges(c: Connection, after: seals.Key | None, limit: int) -> tuple[list[Row], int]:
    """Edges strictly after one that come from no manifest; and how many rows were looked at.

    Each as (repository, parent, child, relation, whether it is loose).
    """
    where = ""
    if after is not None:
        where = (
            " WHERE (repository, parent, child, relation)"
            " > (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))"
        )
    rows = c.all(
        f"SELECT repository, {_BYTES_OF_EDGE}, {_HAS_NO_MANIFEST} FROM edges{where}"
        " ORDER BY repository, parent, child, relation LIMIT ?",
        *(*(after or ()), limit),
    )
    return rows, len(rows)


def remove_edge(c: Connection, edge: Row) -> None:
    """If it still comes from no manifest."""
    c.execute(
        "DELETE FROM edges WHERE repository = ? AND parent = CAST(? AS TEXT)"
        f" AND child = CAST(? AS TEXT) AND relation = CAST(? AS TEXT) AND {_HAS_NO_MANIFEST}",
        *edge[:4],
    )


def wrong_tags(c: Connection, after: seals.Key | None, limit: int) -> tuple[list[Row], list[Row]]:
    """Tags strictly after one: all of the page, and those that are not as they were moved last.

    Each as (repository, name, the repository's name). That they point to manifests is for the
    database to see to, and for `seals.structure` to look at.
    """
    where = "" if after is None else " WHERE (t.repository, t.name) > (?, CAST(? AS TEXT))"
    rows = c.all(
        "SELECT t.repository, CAST(t.name AS BLOB), CAST(r.name AS BLOB),"
        " m.digest IS t.digest AND m.tag IS t.name AND m.repository IS t.repository"
        " FROM tags AS t LEFT JOIN tag_moves AS m ON m.generation = t.generation"
        f" LEFT JOIN repositories AS r ON r.id = t.repository{where}"
        " ORDER BY t.repository, t.name LIMIT ?",
        *(*(after or ()), limit),
    )
    return rows, [row for row in rows if not row[3]]


def later_moves(c: Connection, after: int, limit: int) -> tuple[list[Row], list[Row]]:
    """Moves above a generation: all of the page, and those that a tag is behind."""
    rows = c.all(
        "SELECT m.generation, CAST(m.tag AS BLOB), t.generation < m.generation"
        " OR m.generation > (SELECT max(generation) FROM tag_clock)"
        " FROM tag_moves AS m LEFT JOIN tags AS t"
        " ON t.repository = m.repository AND t.name = m.tag"
        " WHERE m.generation > ? ORDER BY m.generation LIMIT ?",
        *(after, limit),
    )
    return rows, [row for row in rows if row[2]]


def _is_at(c: Connection, repository: int, digest: Digest, row: int) -> bool:
    """Whether the index leads there, too."""
    statement = "SELECT rowid FROM manifests WHERE repository = ? AND digest = ?"
    return c.one(statement, repository, digest.text) == (row,)


def _edges(c: Connection, repository: int, digest: Digest) -> set[Row]:
    return set(
        c.all(
            # Two questions: for one with OR, SQLite reads all edges of the repository.
            f"SELECT {_BYTES_OF_EDGE} FROM edges"
            " WHERE repository = ? AND parent = ? AND relation = 'content' UNION ALL"
            f" SELECT {_BYTES_OF_EDGE} FROM edges"
            " WHERE repository = ? AND child = ? AND relation = 'referrer'",
            *(repository, digest.text, repository, digest.text),
        )
    )


def _wanted(manifest: Manifest) -> set[Row]:
    this = manifest.digest.text.encode()
    wanted: set[Row] = {
        (this, found.digest.text.encode(), b"content")
        for found in references.content(manifest)
        if found.digest
    }
    if manifest.subject is not None and manifest.subject.digest is not None:
        wanted.add((manifest.subject.digest.text.encode(), this, b"referrer"))
    return wanted


def _digest(value: object) -> Digest | None:
    text = _text(value)
    try:
        return None if text is None else Digest.parse(text)
    except DigestInvalid:
        return None


def _text(value: object) -> str | None:
    """None also for what is no text; no row has such where it could be right."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _named(body: bytes) -> str | None:
    """The type that a body gives itself. Raises ManifestInvalid."""
    named = parse_object(body, what="the manifest").get("mediaType")
    return named if isinstance(named, str) and named else None


_MANIFEST: Final = (
    "SELECT repository, CAST(digest AS BLOB), CAST(media_type AS BLOB), CAST(subject AS BLOB),"
    " CAST(artifact_type AS BLOB), CAST(annotations AS BLOB), size, CAST(body AS BLOB),"
    " typeof(body) FROM manifests WHERE rowid = ?"
)
_BYTES_OF_EDGE: Final = "CAST(parent AS BLOB), CAST(child AS BLOB), CAST(relation AS BLOB)"
_HAS_NO_MANIFEST: Final = (
    "NOT EXISTS (SELECT 1 FROM manifests AS m WHERE m.repository = edges.repository"
    " AND m.digest = CASE edges.relation WHEN 'content' THEN edges.parent"
    " WHEN 'referrer' THEN edges.child END)"
)
