"""An OCI image layout, pushed into a repository as a client would.

Every manifest is parsed at the same door, every blob is uploaded, hashed and linked as ever,
children are kept before their parents, and a tag moves last, so that deployment sees it. Before
anything of an entry is kept as a manifest all its blobs are there: an entry is taken wholly or
refused. A platform that an index names and the layout lacks is no reason to refuse it, since many
programs that save images leave some out; it is said.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from storage.blobs import PIECE
from storage.descriptor import Descriptor
from storage.digest import Digest
from storage.document import parse_object
from storage.errors import Invalid, LayoutRefused, ManifestInvalid, TagInvalid
from storage.export import KNOWN, REF_NAME
from storage.filesystem.imagelayout import INDEX_FILE, VERSION, VERSION_FILE, Piece, Source
from storage.manifest import INDEXES, OCI_INDEX, Manifest
from storage.names import Tag
from storage.repository import Repository
from storage.threads import Threads

MANIFEST_LIMIT: Final = 4 << 20  # bytes
INDEX_LIMIT: Final = 32 << 20  # bytes of index.json: some 100,000 entries
_TITLE_LIMIT: Final = 1 << 10  # bytes of oci-layout

# Distribution spec, "Referrers Tag Schema": a list for registries that keep none themselves.
_REFERRERS_TAG: Final = re.compile(r"sha(?:256-[a-f0-9]{64}|512-[a-f0-9]{128})", re.ASCII)


@dataclass(slots=True)
class BroughtIn:
    tags: list[tuple[Tag, Digest]] = field(default_factory=list)
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    """Of the blobs that were not here before."""
    absent: list[str] = field(default_factory=list)
    """Manifests that an index names and the layout lacks, as sentences."""
    refused: list[str] = field(default_factory=list)
    """Why entries were not taken, as sentences."""


class _Refused(Exception):
    """An entry of the layout cannot be taken."""


async def bring_in(
    repository: Repository, source: Source, *, manifest_limit: int = MANIFEST_LIMIT
) -> BroughtIn:
    """Push all of a layout; `manifest_limit` is in bytes.

    Raises LayoutRefused when it is no layout, or one that tries to lead out of itself; and OSError
    when the store cannot be written to. Doing it again goes on where it ended.
    """
    threads = Threads("import", 1)
    coming = _Import(repository, source, threads, manifest_limit)
    try:
        for entry in await threads.run(lambda: _entries(source)):
            try:
                await coming.entry(entry)
            except (_Refused, Invalid) as error:
                coming.done.refused.append(f"{_shown(entry)}: {error}")
    finally:
        threads.close()
    return coming.done


@dataclass(slots=True)
class _Plan:
    """What one entry leads to, children before their parents."""

    manifests: list[Manifest] = field(default_factory=list)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


class _Import:
    def __init__(
        self, repository: Repository, source: Source, threads: Threads, manifest_limit: int
    ) -> None:
        self._repository = repository
        self._source = source
        self._threads = threads
        self._manifest_limit = manifest_limit
        self._kept: set[Digest] = set()
        self.done = BroughtIn()

    async def entry(self, entry: Descriptor) -> None:
        """Raises _Refused, Invalid."""
        tags = _tags(entry)
        plan = await self._threads.run(lambda: self._plan(entry))
        for blob in plan.blobs.values():
            await self._bring(blob)
        root = plan.manifests[-1]
        if tags and _REFERRERS_TAG.fullmatch(tags[0].text) and root.media_type in INDEXES:
            # What the registry answers from its own rows; only what it lists is kept.
            plan.manifests, tags = plan.manifests[:-1], []
        for manifest in plan.manifests:
            own = tags if manifest is root else []
            if own or manifest.digest not in self._kept:
                await self._repository.put_manifest(manifest, own)
                self.done.manifests += manifest.digest not in self._kept
                self._kept.add(manifest.digest)
        self.done.tags += [(tag, root.digest) for tag in tags]
        self.done.absent += plan.absent

    def _plan(self, root: Descriptor) -> _Plan:
        plan = _Plan()
        seen: set[Digest] = set()
        # Twice for each: to look into it, and, when its children are done, to take it.
        left: list[Descriptor | Manifest] = [root]
        while left:
            match left.pop():
                case Manifest() as manifest:
                    plan.manifests.append(manifest)
                case Descriptor() as entry:
                    if entry.digest is None or entry.digest in seen:
                        continue
                    if entry.digest in self._kept and entry is not root:
                        continue
                    seen.add(entry.digest)
                    found = self._manifest(entry)
                    if found is None and entry is root:
                        raise _Refused("it is not in the layout")
                    if found is None:
                        plan.absent.append(f"{root.digest} leads to {entry.digest}")
                        continue
                    left.append(found)
                    if entry.digest not in self._kept:
                        left += self._look_into(found, plan)
        return plan

    def _look_into(self, manifest: Manifest, plan: _Plan) -> list[Descriptor]:
        """Take down its blobs; its children that are manifests."""
        children = []
        config = [] if manifest.config is None else [manifest.config]
        for descriptor in (*config, *manifest.layers, *manifest.manifests):
            if manifest.manifests and descriptor.media_type in KNOWN:
                children.append(descriptor)
            elif descriptor.digest is not None:
                plan.blobs.setdefault(descriptor.digest, descriptor)
            elif not descriptor.elsewhere:
                raise _Refused(f"{manifest.digest} names content by a digest that is not kept here")
        return children

    def _manifest(self, entry: Descriptor) -> Manifest | None:
        """Raises _Refused, Invalid, LayoutRefused."""
        assert entry.digest is not None
        with self._source.blob(entry.digest) as piece:
            if piece is None:
                return None
            if piece.size != entry.size:
                raise _Refused(f"{entry.digest} has {piece.size} bytes, and not {entry.size}")
            if piece.size > self._manifest_limit:
                raise _Refused(
                    f"the manifest {entry.digest} has {piece.size} bytes, and at most"
                    f" {self._manifest_limit} are kept"
                )
            body = _all(piece)
        return Manifest.parse(body, content_type=entry.media_type, digest=entry.digest)

    async def _bring(self, blob: Descriptor) -> None:
        """Raises _Refused, Invalid, LayoutRefused."""
        assert blob.digest is not None
        there = await self._repository.has_blob(blob.digest)
        if there is not None:
            if there != blob.size:
                raise _Refused(f"blob {blob.digest} has {there} bytes, and not {blob.size}")
            return
        with self._source.blob(blob.digest) as piece:
            if piece is None:
                if blob.elsewhere:
                    return
                raise _Refused(f"blob {blob.digest} is not in the layout")
            if piece.size != blob.size:
                raise _Refused(f"blob {blob.digest} has {piece.size} bytes, and not {blob.size}")
            session = await self._repository.start_upload(blob.digest.algorithm)
            try:
                await session.append(self._stream(piece), length=piece.size)
                await session.commit(blob.digest)
            except BaseException:
                await session.cancel()
                raise
        self.done.blobs += 1
        self.done.bytes += blob.size

    async def _stream(self, piece: Piece) -> AsyncIterator[bytes]:
        at = 0
        while data := await self._threads.run(partial(piece.read, at, PIECE)):
            yield data
            at += len(data)


def _entries(source: Source) -> Sequence[Descriptor]:
    """Raises LayoutRefused."""
    title = _document(source, VERSION_FILE, _TITLE_LIMIT)
    try:
        version = parse_object(title, what=VERSION_FILE).get("imageLayoutVersion")
        if version != VERSION:
            raise LayoutRefused(
                f"this is an image layout of version {str(version)[:20]!r}, and {VERSION} can be"
                " read"
            )
        index = Manifest.parse(_document(source, INDEX_FILE, INDEX_LIMIT), content_type=OCI_INDEX)
    except ManifestInvalid as error:
        raise LayoutRefused(f"this is no image layout: {error}") from None
    return index.manifests


def _document(source: Source, name: str, limit: int) -> bytes:
    with source.file(name) as piece:
        if piece is None:
            raise LayoutRefused(f"this is no image layout: there is no {name} in it")
        if piece.size > limit:
            raise LayoutRefused(f"{name} has {piece.size} bytes, and at most {limit} are read")
        return _all(piece)


def _all(piece: Piece) -> bytes:
    parts, at = [], 0
    while part := piece.read(at, piece.size):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _tags(entry: Descriptor) -> list[Tag]:
    """None or one. Raises TagInvalid."""
    name = entry.annotations.get(REF_NAME)
    if not name:
        return []
    # Some write "docker.io/library/alpine:3": a tag at the end, behind the last slash.
    host, _, last = name.rpartition("/")
    try:
        return [Tag.parse(last.partition(":")[2] if host and ":" in last else name)]
    except TagInvalid as error:
        raise TagInvalid(f"{REF_NAME}: {error}") from None


def _shown(entry: Descriptor) -> str:
    name = entry.annotations.get(REF_NAME)
    digest = entry.digest.text if entry.digest else "an entry"
    return f"{digest} ({name[:140]})" if name else digest
