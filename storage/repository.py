"""Repository: links, mounts, manifests, tags, referrers. All meaning, once.

A repository sees a blob or manifest only through rows of its own. The order of writes is always:
bytes durable, one transaction, return; of deletes: one transaction, return, and the bytes are
collected later. So a crash leaves at worst bytes to which no row leads.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from storage.blobs import Blob
from storage.damage import Watched, condemn
from storage.digest import SHA256, Algorithm, Digest
from storage.errors import (
    BlobUnknown,
    Damaged,
    Held,
    Immutable,
    ManifestUnknown,
    RepositoryUnknown,
    StorageError,
)
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records import damage, references, statements
from storage.records.database import Connection, Row, Value
from storage.records.statements import Mover, text, whole
from storage.uploads import UploadSession, upload_key

if TYPE_CHECKING:
    from storage.store import Store

__all__ = ["Mover", "Referrer", "Repository", "StoredManifest", "UploadSession"]


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed. `body` is empty where only its existence was asked for."""

    digest: Digest
    media_type: str
    size: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names another as its subject, as the referrers list shows it."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str | None
    annotations: Mapping[str, str]


class Repository:
    """One repository. Making one costs nothing; it exists once something was pushed to it."""

    __slots__ = (
        "_blobs",
        "_database",
        "_grace",
        "_immutable",
        "_now",
        "_open_uploads",
        "_pushed",
        "_token",
        "name",
    )

    def __init__(self, name: RepositoryName, store: Store) -> None:
        self.name = name
        self._database = store.database
        self._pushed = store.pushed
        self._blobs = store.blobs
        self._now = store.now
        self._grace = store.grace
        self._immutable = store.immutable
        self._token = store.token
        self._open_uploads = store.open_uploads

    # Blobs

    async def has_blob(self, digest: Digest) -> int | None:
        """The size of a blob that this repository holds, in bytes. Does not look at the disk.

        Whoever is told so may rely on it: a blob that nothing refers to is kept for a while.
        """
        row = await self._linked(digest)
        # One that is damaged has to be pushed again, and clients ask before they do.
        if row is None or row[2] is not None:
            return None
        return None if await self._gone(references.BLOB, digest, row[1]) else whole(row[0])

    async def _gone(self, kind: str, digest: Digest, since: Value) -> bool:
        """Renew a lease that runs since then, if it is not new; whether it was over just now."""
        now = self._now()
        if since is None or float(since) > now - self._grace / 4:
            return False

        def change(c: Connection) -> bool:
            repository = statements.find(c, self.name)
            references.renew(c, repository, digest, kind, now)
            return c.one(_HERE[kind], repository, digest.text) is None

        # A disk that cannot be written keeps nobody from reading.
        with suppress(OSError):
            return await self._database.write(change)
        return False

    async def stat_blob(self, digest: Digest) -> int:
        """The same for what has to be here. Raises BlobUnknown or RepositoryUnknown."""
        size = await self.has_blob(digest)
        if size is None:
            raise await self._unknown(BlobUnknown, f"no blob {digest}")
        return size

    async def blob(self, digest: Digest) -> Blob:
        """Open a blob; the caller closes it.

        Raises BlobUnknown or RepositoryUnknown, and Damaged when its bytes are not there or have
        another size.
        """
        row = await self._linked(digest)
        if row is None:
            raise await self._unknown(BlobUnknown, f"no blob {digest}")
        size = whole(row[0])
        if row[2] is not None:
            raise Damaged(f"blob {digest} is damaged ({text(row[2])}); push it again")

        async def found(error: Damaged) -> None:
            await condemn(self._database, self._blobs, digest, str(error), self._now())

        try:
            blob = await self._blobs.open(digest)
        except (BlobUnknown, Damaged) as error:
            if await self._linked(digest) is None:  # collected this very moment
                raise await self._unknown(BlobUnknown, f"no blob {digest}") from None
            wrong = (
                error
                if isinstance(error, Damaged)
                else Damaged(f"the bytes of blob {digest} are gone; push it again")
            )
            with suppress(OSError, sqlite3.Error):
                await found(wrong)
            raise wrong from None
        if blob.size != size:
            wrong = Damaged(f"blob {digest} has {blob.size} bytes and should have {size}")
            await blob.close()
            with suppress(OSError, sqlite3.Error):
                # Unless it is the row that is wrong: then `verify` puts it right.
                if await self._blobs.scrub(digest) is not None:
                    await found(wrong)
            raise wrong
        return Watched(blob, found)

    async def _linked(self, digest: Digest) -> Row | None:
        return await self._database.read(lambda c: statements.linked(c, self.name, digest))

    async def delete_blob(self, digest: Digest) -> None:
        """Take the blob out of this repository. Raises BlobUnknown or RepositoryUnknown."""

        def change(c: Connection) -> bool:
            return statements.unlink(c, statements.find(c, self.name), digest, self._now())

        if not await self._database.write(change):
            raise await self._unknown(BlobUnknown, f"no blob {digest}")

    async def mount(self, digest: Digest, source: RepositoryName | None) -> bool:
        """Show a blob of `source`, or of any repository, in this one too.

        False when it is not there, which is no error: the client uploads it then. Nothing is
        copied, and what is deleted in one stays in the other.
        """

        def find(c: Connection) -> Row | None:
            if source is not None:
                row = statements.linked(c, source, digest)
                return None if row is None or row[2] is not None else row
            return c.one(_ANYWHERE, digest.text)

        def change(c: Connection) -> bool:
            found = find(c)
            if found is not None:
                statements.link(
                    c, statements.ensure(c, self.name), digest, whole(found[0]), self._now()
                )
            return found is not None

        # Asked first, so that a miss, the usual case, waits for no writer.
        if await self._database.read(find) is None:
            return False
        return await self._pushed.write(change)

    async def holders(self, digest: Digest, limit: int) -> list[RepositoryName]:
        """Repositories that link a blob, if it is not known to be damaged; some of many."""
        rows = await self._database.read(lambda c: c.all(_HOLDERS, digest.text, limit))
        return [RepositoryName.parse(text(name)) for (name,) in rows]

    # Uploads

    async def start_upload(
        self, algorithm: Algorithm = SHA256, *, announced: int = 0, principal: str = ""
    ) -> UploadSession:
        """Open a session; `algorithm` is the one its digest will probably have.

        The repository does not exist by this alone: nothing has been pushed yet. `announced` are
        the bytes that come at once. Only `principal` finds the session again; with the empty one,
        whoever knows its id. Raises UploadsTooMany.
        """
        await self._open_uploads.check(uploads=1, size=announced)
        id = self._token()
        key = upload_key(self.name, principal, id)
        upload = await self._blobs.start_upload(key, algorithm)
        await upload.close()
        self._open_uploads.add(uploads=1)
        return self._session(id, key, 0)

    async def upload(self, id: str, *, principal: str = "") -> UploadSession:
        """A session of this repository and that principal. Raises UploadUnknown."""
        key = upload_key(self.name, principal, id)
        upload = await self._blobs.resume_upload(key)
        return self._session(id, key, upload.size)

    def _session(self, id: str, key: str, size: int) -> UploadSession:
        async def link(digest: Digest, size: int) -> None:
            def change(c: Connection) -> None:
                statements.link(c, statements.ensure(c, self.name), digest, size, self._now())
                damage.heal(c, damage.BLOB, damage.NOWHERE, digest.text)

            await self._pushed.write(change)

        async def linked(digest: Digest) -> bool:
            return await self._database.read(lambda c: references.is_linked(c, digest))

        return UploadSession(
            id,
            size,
            key=key,
            blobs=self._blobs,
            link=link,
            linked=linked,
            open_uploads=self._open_uploads,
        )

    # Manifests

    async def put_manifest(
        self,
        manifest: Manifest,
        tags: Sequence[Tag] = (),
        *,
        guard: Callable[[Digest | None], None] | None = None,
        overwriting: Callable[[Tag], None] | None = None,
        mover: Mover | None = None,
    ) -> dict[Tag, Digest | None]:
        """Keep a manifest and point `tags` at it, all or nothing; on return it is durable.

        Returns what each of the tags was before.

        What it refers to need not be here. Raises ManifestInvalid when it gives another size for
        something that is. `guard` is called within the transaction with what the first tag, or
        without tags the manifest's own digest, stands for (None: nothing); nothing is kept when it
        raises. `overwriting` likewise, with each of the tags that is something else until now.
        Raises Immutable when one of the tags is something else for good. `mover` is told to whom
        asks for the moves of tags; None: nobody had to sign in.
        """
        reference = tags[0] if tags else manifest.digest

        def change(c: Connection) -> dict[Tag, Digest | None]:
            if guard is not None:
                statement = _MANIFEST_WITHOUT_BODY[type(reference)]
                row = c.one(statement, self.name.text, reference.text)
                here = row is not None and row[4] is None
                guard(Digest.parse(text(row[0])) if row and here else None)
            statements.refuse_moves(
                c, self.name, tags, manifest.digest, self._immutable, overwriting
            )
            repository = statements.ensure(c, self.name)
            statements.check_sizes(c, repository, manifest)
            now = self._now()
            c.execute(
                "INSERT INTO manifests (repository, digest, media_type, subject, artifact_type,"
                " annotations, size, created, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                # The type may have been sent another way; the rest is the same unless damaged.
                " ON CONFLICT (repository, digest) DO UPDATE SET media_type = excluded.media_type,"
                " artifact_type = excluded.artifact_type, subject = excluded.subject,"
                " annotations = excluded.annotations, size = excluded.size, body = excluded.body",
                repository,
                manifest.digest.text,
                *statements.columns(manifest),
                now,
                manifest.body,
            )
            damage.heal_manifest(c, repository, manifest.digest)
            references.refer(c, repository, manifest)
            if tags:
                return statements.move_tags(c, repository, tags, manifest.digest, now, mover)
            references.lease_manifest(c, repository, manifest.digest.text, now)
            return {}

        return await self._pushed.write(change)

    async def refuse_moves(
        self,
        tags: Sequence[Tag],
        digest: Digest,
        *,
        overwriting: Callable[[Tag], None] | None = None,
    ) -> None:
        """Raises what `put_manifest` of that digest with these tags would, as of now."""
        await self._database.read(
            lambda c: statements.refuse_moves(
                c, self.name, tags, digest, self._immutable, overwriting
            )
        )

    async def manifest(self, reference: Tag | Digest) -> StoredManifest:
        """Raises ManifestUnknown or RepositoryUnknown, and Damaged."""
        return await self._stored(reference, _MANIFEST)

    async def stat_manifest(self, reference: Tag | Digest) -> StoredManifest:
        """The same without its body, which is not read."""
        return await self._stored(reference, _MANIFEST_WITHOUT_BODY)

    async def _stored(self, reference: Tag | Digest, selects: Mapping[type, str]) -> StoredManifest:
        statement = selects[type(reference)]
        row = await self._database.read(lambda c: c.one(statement, self.name.text, reference.text))
        if row is None:
            raise await self._unknown(ManifestUnknown, f"no manifest {reference}")
        encoded, media_type, size, since, reason, body = row
        if selects is not _MANIFEST and reason is not None:
            raise await self._unknown(ManifestUnknown, f"no manifest {reference}")
        if isinstance(reference, Digest) and await self._gone(
            references.MANIFEST, reference, since
        ):
            raise await self._unknown(ManifestUnknown, f"no manifest {reference}")
        digest = reference if isinstance(reference, Digest) else Digest.parse(text(encoded))
        if selects is not _MANIFEST:
            return StoredManifest(digest, text(media_type), whole(size), b"")
        if reason is not None or not isinstance(body, bytes) or not await _fits(digest, body):
            if reason is None:
                await self._condemn_manifest(digest)
            raise Damaged(f"manifest {digest} in {self.name} is damaged; push it again")
        return StoredManifest(digest, text(media_type), len(body), body)

    async def _condemn_manifest(self, digest: Digest) -> None:
        """Mark one whose body was wrong, if it still is."""

        def change(c: Connection) -> None:
            row = c.one(f"SELECT r.id, m.body{_FROM_DIGEST}", self.name.text, digest.text)
            if row is not None and not (isinstance(row[1], bytes) and digest.fits(row[1])):
                reason = "its body is not what the digest names"
                damage.mark(c, damage.MANIFEST, whole(row[0]), digest.text, reason, self._now())

        with suppress(OSError, sqlite3.Error):  # it is found again; the error is what counts
            await self._database.write(change)

    async def delete_manifest(self, digest: Digest) -> list[Digest]:
        """Delete it with every tag on it; return what it referred to, or many of that.

        Raises Held, naming who needs it, Immutable, naming a tag on it that may not go, and
        ManifestUnknown or RepositoryUnknown.
        """

        def change(c: Connection) -> list[Digest] | None:
            held = c.one(
                "SELECT holder, reason FROM holds WHERE repository_name = ? AND digest = ?"
                " ORDER BY holder",
                self.name.text,
                digest.text,
            )
            if held is not None:
                raise Held(f"{digest} is needed by {text(held[0])}: {text(held[1])}")
            repository = statements.find(c, self.name)
            for tag in statements.tags_of(c, repository, digest):
                self._refuse_deletion(tag, digest)
            children = references.children(c, repository, digest, _CHILDREN)
            gone = statements.delete_manifest(c, repository, digest, self._now())
            return children if gone else None

        children = await self._database.write(change)
        if children is None:
            raise await self._unknown(ManifestUnknown, f"no manifest {digest}")
        return children

    def _refuse_deletion(self, tag: Tag, digest: Digest) -> None:
        if self._immutable(self.name, tag):
            raise Immutable(
                f"{self.name}:{tag} is {digest} and immutable: it cannot be deleted, unless the"
                " registry's settings name it no longer"
            )

    # Tags

    async def delete_tag(self, tag: Tag) -> Digest:
        """Delete one tag and nothing else; return what it was.

        Raises Immutable, and ManifestUnknown or RepositoryUnknown.
        """

        def change(c: Connection) -> Digest | None:
            gone = statements.delete_tag(c, statements.find(c, self.name), tag, self._now())
            if gone is not None:
                self._refuse_deletion(tag, gone)  # and so it did not happen
            return gone

        gone = await self._database.write(change)
        if gone is None:
            raise await self._unknown(ManifestUnknown, f"no tag {tag}")
        return gone

    async def tags(self, *, after: str | None, limit: int) -> list[Tag]:
        """In byte order, strictly after a tag that need not exist. Raises RepositoryUnknown."""
        rows = await self._database.read(
            lambda c: c.all(
                "SELECT name FROM tags WHERE repository ="
                " (SELECT id FROM repositories WHERE name = ?)"
                " AND name > ? ORDER BY name LIMIT ?",
                self.name.text,
                after or "",
                limit,
            )
        )
        if not rows:
            await self._database.read(lambda c: statements.find(c, self.name))
        return [Tag.parse(text(name)) for (name,) in rows]

    # Referrers

    async def referrers(
        self, subject: Digest, *, artifact_type: str | None, after: str | None, limit: int
    ) -> list[Referrer]:
        """Manifests here that name `subject`, by the text of their digest, strictly after one.

        Empty when there are none, or not even the repository or the subject.
        """
        key = (self.name.text, subject.text, *([] if artifact_type is None else [artifact_type]))
        statement = _REFERRERS if artifact_type is None else _REFERRERS_OF_TYPE
        rows = await self._database.read(lambda c: c.all(statement, *key, after or "", limit))
        return [
            Referrer(
                Digest.parse(text(digest)),
                text(media_type),
                whole(size),
                None if kind is None else text(kind),
                json.loads(text(annotations)),
            )
            for digest, media_type, size, kind, annotations in rows
        ]

    async def _unknown(self, error: type[StorageError], message: str) -> StorageError:
        """The error for something that is not here: the repository itself may be what is not."""
        try:
            await self._database.read(lambda c: statements.find(c, self.name))
        except RepositoryUnknown as unknown:
            return unknown
        return error(f"{message} in {self.name}")


async def _fits(digest: Digest, body: bytes) -> bool:
    if len(body) <= _QUICK:
        return digest.fits(body)
    return await asyncio.to_thread(digest.fits, body)


_QUICK: Final = 1 << 16  # bytes hashed on the event loop: 85 us, less than a hop to a thread
_ANYWHERE: Final = (
    "SELECT size FROM links WHERE digest = ? AND NOT EXISTS (SELECT 1 FROM damaged"
    " WHERE kind = 'blob' AND repository = 0 AND damaged.name = digest) LIMIT 1"
)
_HOLDERS: Final = (
    "SELECT repositories.name FROM links JOIN repositories ON id = repository WHERE digest = ?"
    " AND NOT EXISTS (SELECT 1 FROM damaged WHERE kind = 'blob' AND repository = 0"
    " AND damaged.name = digest) LIMIT ?"
)
_CHILDREN: Final = 20_000  # told of a deleted manifest: as many as storage.freed takes steps
_HERE: Final = {
    references.BLOB: "SELECT 1 FROM links WHERE repository = ? AND digest = ?",
    references.MANIFEST: "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?",
}
_FROM_TAG: Final = (
    " FROM repositories AS r JOIN tags AS t ON t.repository = r.id"
    " JOIN manifests AS m ON m.repository = r.id AND m.digest = t.digest"
    " WHERE r.name = ? AND t.name = ?"
)
_FROM_DIGEST: Final = (
    " FROM repositories AS r JOIN manifests AS m ON m.repository = r.id"
    " WHERE r.name = ? AND m.digest = ?"
)
_COLUMNS: Final = "SELECT m.digest, m.media_type, m.size, "
_SINCE: Final = (
    "(SELECT since FROM leases AS l WHERE l.repository = r.id AND l.digest = m.digest"
    " AND kind = 'manifest'), "
)
_DAMAGED: Final = (
    "(SELECT reason FROM damaged AS d WHERE kind = 'manifest' AND d.repository = r.id"
    " AND d.name = m.digest), "
)
_MANIFEST: Final = {
    Tag: f"{_COLUMNS} NULL, {_DAMAGED} m.body{_FROM_TAG}",
    Digest: f"{_COLUMNS}{_SINCE}{_DAMAGED} m.body{_FROM_DIGEST}",
}
_MANIFEST_WITHOUT_BODY: Final = {
    Tag: f"{_COLUMNS} NULL, {_DAMAGED} NULL{_FROM_TAG}",
    Digest: f"{_COLUMNS}{_SINCE}{_DAMAGED} NULL{_FROM_DIGEST}",
}
_REFERRERS: Final = (
    "SELECT digest, media_type, size, artifact_type, annotations FROM manifests"
    " WHERE repository = (SELECT id FROM repositories WHERE name = ?) AND subject = ?"
    " AND digest > ? ORDER BY digest LIMIT ?"
)
_REFERRERS_OF_TYPE: Final = _REFERRERS.replace(" AND digest", " AND artifact_type = ? AND digest")
