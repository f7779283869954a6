"""What was pushed, read from the registry: the manifest, its locked app and its config."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass

from registry.deploy import spin
from registry.deploy.locked import LockedApp
from registry.deploy.refusal import NotRunnable
from storage.descriptor import Descriptor
from storage.digest import Digest
from storage.errors import Damaged
from storage.manifest import Manifest
from storage.repository import Repository


@dataclass(frozen=True, slots=True)
class Artifact:
    manifest: Manifest
    app: LockedApp


async def read_manifest(repository: Repository, digest: Digest) -> Manifest:
    """Raises ManifestUnknown or RepositoryUnknown when it was deleted meanwhile."""
    stored = await repository.manifest(digest)
    return Manifest.parse(stored.body, content_type=stored.media_type, digest=digest)


async def read_artifact(
    repository: Repository, digest: Digest, met: Set[str] = frozenset()
) -> Artifact:
    """Everything about an application that can be told before its layers are read.

    `met` are the host requirements that the runtime meets. Raises NotRunnable, and storage errors
    when something is missing or damaged.
    """
    manifest = await read_manifest(repository, digest)
    marker = spin.recognise(manifest)
    if marker is None:
        raise NotRunnable("the manifest is no Spin application; push one with `spin registry push`")
    label = spin.config_label(manifest)
    config = await _read(repository, label) if label is not None else None
    data = await _read(repository, marker)

    def read() -> LockedApp:
        app = LockedApp.parse(data)
        spin.check(app, manifest, config=config, met=met)
        return app

    # Some 100 ms for the largest one, so not on the event loop.
    return Artifact(manifest, await asyncio.to_thread(read))


async def _read(repository: Repository, descriptor: Descriptor) -> bytes:
    """A blob of a size that was found small enough, held against its digest."""
    digest = descriptor.digest
    assert digest is not None, "what is recognised has a digest of ours"
    blob = await repository.blob(digest)
    try:
        if blob.size != descriptor.size:
            raise NotRunnable(
                f"the manifest says that {digest} has {descriptor.size} bytes, and it has"
                f" {blob.size}; push it again"
            )
        data = b"".join([piece async for piece in blob.chunks()])
    finally:
        await blob.close()
    if digest.algorithm.digest(data) != digest:
        raise Damaged(f"the bytes of {digest} on the disk are damaged; push it again")
    return data
