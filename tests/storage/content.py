"""Bytes and manifests to push."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from storage.blobs import Blob
from storage.digest import SHA256, Digest
from storage.manifest import OCI_IMAGE, OCI_INDEX, Manifest
from storage.names import Tag
from storage.repository import Repository

# On a busy machine making examples may be slow; how long anything takes is no test's business.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EMPTY = "application/vnd.oci.empty.v1+json"


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Vanished(Exception):
    """The client went away."""


async def cut_off(*pieces: bytes) -> AsyncIterator[bytes]:
    """A stream that breaks off after its pieces."""
    for piece in pieces:
        yield piece
    raise Vanished


async def push(repository: Repository, data: bytes, digest: Digest | None = None) -> Digest:
    digest = digest or SHA256.digest(data)
    session = await repository.start_upload(digest.algorithm)
    await session.append(stream(data))
    await session.commit(digest)
    return digest


async def pull(blob: Blob, start: int = 0, end: int | None = None) -> bytes:
    """Read and close it."""
    try:
        return b"".join([piece async for piece in blob.chunks(start, end)])
    finally:
        await blob.close()


def descriptor(digest: Digest | str, size: int, media_type: str = EMPTY) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def image(note: str = "", **fields: Any) -> Manifest:
    """An image manifest; a different one for each note. Fields are added to it or replaced."""
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor(SHA256.digest(b"{}"), 2),
        "layers": [],
        "annotations": {"note": note},
    }
    return Manifest.parse(json.dumps(content | fields).encode())


def index(*manifests: dict[str, Any], **fields: Any) -> Manifest:
    content = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
    return Manifest.parse(json.dumps(content | fields).encode())


def tags(*names: str) -> list[Tag]:
    return [Tag.parse(name) for name in names]


def empty(root: Path) -> None:
    """Make a data directory as good as new; its 512 directories are left."""
    for directory in (root / "uploads", root / "quarantine", *root.glob("blobs/*/??")):
        for path in directory.iterdir():
            path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    for path in root.glob("records.db*"):
        path.unlink()
