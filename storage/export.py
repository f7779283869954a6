"""A repository, or what one of its tags or digests leads to, as an OCI image layout.

Manifests with their children, their blobs and their referrers. Tags are annotations in
`index.json`; a manifest that is there without a tag, and is nobody's child, is an entry without
one, and so is a referrer: readers find it by its subject. The rows are read as of one moment, and
the collector pauses (storage.pause) until the bytes are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged, ManifestUnknown
from storage.filesystem.imagelayout import INDEX_FILE, VERSION, VERSION_FILE, Target
from storage.manifest import IMAGES, INDEXES, OCI_ARTIFACT, OCI_INDEX, Manifest
from storage.names import RepositoryName, Tag
from storage.pause import pause
from storage.records import references, statements
from storage.records.database import Connection
from storage.records.statements import text
from storage.snapshot import Loss
from storage.store import Store
from storage.threads import Threads

KNOWN: Final = IMAGES | INDEXES | {OCI_ARTIFACT}  # the types that say "this is a manifest"
REF_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass(slots=True)
class Exported:
    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    """Of the blobs."""
    absent: list[str] = field(default_factory=list)
    """What manifests name and was never pushed here, as sentences: a client chose so."""
    lost: list[Loss] = field(default_factory=list)
    """What should have been there."""


async def export(
    store: Store, name: RepositoryName, reference: Tag | Digest | None, target: Target
) -> Exported:
    """Write a repository, or what one tag or digest leads to; durable on return.

    Raises RepositoryUnknown, ManifestUnknown, and OSError when it cannot be written.
    """
    threads = Threads("export", 1)
    done = Exported()
    try:
        async with pause(store):
            chosen = await store.database.scan(lambda c: _choose(c, name, reference))
            for digest in chosen.blobs:
                try:
                    blob = await store.blobs.open(digest)
                except BlobUnknown:
                    done.lost.append(Loss(digest, "its bytes are gone"))
                    continue
                try:
                    file = await blob.fileno()
                    size = await threads.run(partial(target.copy, file, digest))
                    done.blobs += 1
                    done.bytes += size
                except Damaged as error:
                    done.lost.append(Loss(digest, str(error)))
                finally:
                    await blob.close()

        def finish() -> None:
            for manifest in chosen.manifests.values():
                target.write_blob(manifest.digest, manifest.body)
            target.write(VERSION_FILE, json.dumps({"imageLayoutVersion": VERSION}).encode())
            target.write(INDEX_FILE, chosen.index())
            target.publish()

        await threads.run(finish)
    except BaseException:
        await threads.run(target.abandon)
        raise
    finally:
        threads.close()
    done.tags, done.manifests = len(chosen.tags), len(chosen.manifests)
    done.absent = chosen.absent
    return done


@dataclass(slots=True)
class _Chosen:
    tags: list[tuple[Tag, Digest]]
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, None] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    def index(self) -> bytes:
        tagged = {digest for _, digest in self.tags}
        # Of a type that only we keep as a manifest, readers would take a child for a blob.
        children = {
            child.digest
            for parent in self.manifests.values()
            for child in parent.manifests
            if child.media_type in KNOWN
        }
        alone = [digest for digest in self.manifests if digest not in tagged | children]
        entries = [
            *(
                {**self._entry(digest), "annotations": {REF_NAME: tag.text}}
                for tag, digest in self.tags
            ),
            *(self._entry(digest) for digest in alone),
        ]
        content = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return json.dumps(content, indent=1).encode() + b"\n"

    def _entry(self, digest: Digest) -> dict[str, Any]:
        manifest = self.manifests[digest]
        return {
            "mediaType": manifest.media_type,
            "digest": digest.text,
            "size": len(manifest.body),
        }


def _choose(c: Connection, name: RepositoryName, reference: Tag | Digest | None) -> _Chosen:
    repository = statements.find(c, name)
    rows = c.all("SELECT name, digest FROM tags WHERE repository = ? ORDER BY name", repository)
    tags = [(Tag.parse(text(tag)), Digest.parse(text(digest))) for tag, digest in rows]
    match reference:
        case None:
            chosen = _Chosen(tags)
            rows = c.all(
                "SELECT digest FROM manifests WHERE repository = ? ORDER BY digest", repository
            )
            wanted = [Digest.parse(text(digest)) for (digest,) in rows]
        case Tag():
            chosen = _Chosen([(tag, digest) for tag, digest in tags if tag == reference])
            wanted = [digest for _, digest in chosen.tags]
        case Digest():
            chosen = _Chosen([])
            wanted = [reference]
    while wanted:
        digest = wanted.pop()
        if digest not in chosen.manifests:
            wanted += _add(c, repository, digest, chosen)
    if reference is not None and not chosen.manifests:
        raise ManifestUnknown(f"no manifest {reference} in {name}")
    return chosen


def _add(c: Connection, repository: int, digest: Digest, chosen: _Chosen) -> Iterable[Digest]:
    """The manifest if it is here, and what it names; returns manifests that belong to it."""
    row = c.one(
        "SELECT media_type, body FROM manifests WHERE repository = ? AND digest = ?",
        *(repository, digest.text),
    )
    if row is None:
        return
    assert isinstance(row[1], bytes)
    manifest = Manifest.parse(row[1], content_type=text(row[0]), digest=digest)
    chosen.manifests[digest] = manifest
    for child in references.content(manifest):
        if child.digest is None:
            continue
        key = (repository, child.digest.text)
        if c.one("SELECT 1 FROM links WHERE repository = ? AND digest = ?", *key):
            chosen.blobs[child.digest] = None
        elif c.one("SELECT 1 FROM manifests WHERE repository = ? AND digest = ?", *key):
            yield child.digest
        elif not child.elsewhere:
            chosen.absent.append(f"{digest} names {child.digest}, which was never pushed here")
    for (referrer,) in c.all(
        "SELECT digest FROM manifests WHERE repository = ? AND subject = ?",
        *(repository, digest.text),
    ):
        yield Digest.parse(text(referrer))
