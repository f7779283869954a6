"""Rows about what is known to be wrong: it is not served, and a push of the same puts it right.

While such a row is there, GET is an error, and HEAD and mounting do as if it were not there: so a
client that asks first pushes it again. As long as a manifest or a record is among them the
collector deletes nothing, since what leads to what is not certain.
"""

from __future__ import annotations

from typing import Final

from storage.digest import Digest
from storage.records import references
from storage.records.database import Connection, Row

BLOB: Final = "blob"
MANIFEST: Final = "manifest"
RECORD: Final = "record"
NOWHERE: Final = 0
"""In place of a repository."""


def mark(c: Connection, kind: str, repository: int, name: str, reason: str, now: float) -> None:
    c.execute(
        "INSERT INTO damaged (kind, repository, name, reason, since) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (kind, repository, name) DO NOTHING",
        *(kind, repository, name, reason, now),
    )


def mark_blob(c: Connection, digest: Digest, reason: str, now: float) -> None:
    """If any repository has it: what none has is garbage, and wrong or not, it goes."""
    if references.is_linked(c, digest):
        mark(c, BLOB, NOWHERE, digest.text, reason, now)


def of_blob(c: Connection, digest: Digest) -> Row | None:
    """Why it is marked, if it is."""
    return c.one(
        "SELECT reason FROM damaged WHERE kind = 'blob' AND repository = 0 AND name = ?",
        digest.text,
    )


def heal(c: Connection, kind: str, repository: int, name: str) -> bool:
    """Whether it was marked."""
    gone = c.execute(
        "DELETE FROM damaged WHERE kind = ? AND repository = ? AND name = ?",
        *(kind, repository, name),
    )
    return gone > 0


def heal_manifest(c: Connection, repository: int, digest: Digest) -> None:
    """It is about to be written anew; its edges, too, if it was marked."""
    if heal(c, MANIFEST, repository, digest.text):
        references.forget(c, repository, digest)


def doubts(c: Connection) -> list[Row]:
    """What keeps the collector from deleting: repository's name (null for a record), name, reason.

    Some ten of them are enough for anybody.
    """
    return c.all(
        "SELECT r.name, d.name, d.reason FROM damaged AS d"
        " LEFT JOIN repositories AS r ON r.id = d.repository"
        " WHERE d.kind IN ('manifest', 'record') ORDER BY d.kind, d.repository, d.name LIMIT 10"
    )
