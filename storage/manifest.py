"""Manifests: bytes that are kept exactly, and what was read from them.

OCI image manifest and index (image-spec manifest.md, image-index.md), Docker schema 2 and list, the
artifact manifest that image-spec 1.1 withdrew, and any other type whose name says that it is JSON.
Lenient where clients are: config blobs are not looked into, empty lists are fine, unknown fields
are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.descriptor import Descriptor, optional_text, parse_annotations
from storage.digest import SHA256, Digest
from storage.document import Object, parse_object, refuse_twins
from storage.errors import DigestMismatch, ManifestInvalid

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_ARTIFACT: Final = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

IMAGES: Final = frozenset({OCI_IMAGE, DOCKER_IMAGE})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})

# Served as it was sent, so it must be nothing that a browser would run.
_JSON = re.compile(r"application/([a-z0-9][a-z0-9!#$&^_.+-]{0,120}\+)?json", re.ASCII)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_NO_SCHEMA_1 = "Docker schema 1 is not kept; push schema 2 or an OCI manifest"

# Keys that decide what a manifest is. Go's decoder, in most clients, ignores their case.
_KEYS = (
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs"),
    *("subject", "annotations", "fsLayers"),
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Only made by `parse`. `body` is what was pushed, and `digest` is its digest."""

    media_type: str
    digest: Digest
    body: bytes
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    """Also the blobs of an artifact manifest."""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    """As the referrers list shows it: the field, else an image's config type, else nothing."""
    annotations: Mapping[str, str]

    @staticmethod
    def parse(
        body: bytes, *, content_type: str | None = None, digest: Digest | None = None
    ) -> Manifest:
        """Read a manifest that came with a Content-Type, for a digest if it was pushed by one.

        Raises DigestMismatch when the body is not what the digest names, and ManifestInvalid.
        """
        actual = (digest.algorithm if digest else SHA256).digest(body)
        if digest is not None and actual != digest:
            raise DigestMismatch(f"the manifest's digest is {actual}, not {digest}")
        content = parse_object(body, what="the manifest")
        refuse_twins(content, _KEYS, "the manifest")
        media_type = _media_type(content, content_type)
        _check_shape(content, media_type)
        config = _optional(content, "config")
        artifact_type = optional_text(content, "artifactType", "the manifest")
        if artifact_type is None and config is not None:
            artifact_type = config.media_type or None
        return Manifest(
            media_type,
            actual,
            body,
            config,
            _listed(content, "layers") or _listed(content, "blobs"),
            _listed(content, "manifests"),
            _optional(content, "subject"),
            artifact_type,
            parse_annotations(content, "the manifest"),
        )


def _media_type(content: Object, content_type: str | None) -> str:
    """What was sent counts, without its parameters; a body that names another type is refused.

    Image-spec: "the mediaType field … MUST match" the type it is served with (CVE-2021-41190).
    """
    sent = content_type.partition(";")[0].strip().lower() if content_type else ""
    named = optional_text(content, "mediaType", "the manifest")
    if named and sent and named != sent:
        raise ManifestInvalid(f"sent as {sent[:120]}, but mediaType in the body is {named[:120]}")
    media_type = named or sent
    if not media_type:
        # Some clients send no Content-Type when they cannot tell: the shape decides then.
        return OCI_INDEX if "manifests" in content else OCI_IMAGE
    if media_type.startswith(_SCHEMA_1):
        raise ManifestInvalid(_NO_SCHEMA_1)
    if not _JSON.fullmatch(media_type):
        raise ManifestInvalid(
            f"{media_type[:120]!r} is not the type of a manifest: those are JSON, and named"
            " application/…+json"
        )
    return media_type


def _check_shape(content: Object, media_type: str) -> None:
    """No body may be readable as two kinds of manifest."""
    if "fsLayers" in content:
        raise ManifestInvalid(_NO_SCHEMA_1)
    known = media_type in IMAGES | INDEXES
    version = content.get("schemaVersion")
    if known and (type(version) is not int or version != 2):
        raise ManifestInvalid("schemaVersion must be 2")
    if media_type in INDEXES and not isinstance(content.get("manifests"), list):
        raise ManifestInvalid("an index must have a list of manifests, which may be empty")
    if media_type in IMAGES and not isinstance(content.get("layers"), list):
        raise ManifestInvalid("an image manifest must have a list of layers, which may be empty")
    for key in _refused(content, media_type):
        if key in content:
            raise ManifestInvalid(
                f"{media_type} must not have {key!r}: readers would disagree on it"
            )


def _refused(content: Object, media_type: str) -> tuple[str, ...]:
    """The keys of other kinds of manifest."""
    if media_type in INDEXES:
        return ("config", "layers", "blobs")
    if media_type in IMAGES:
        return ("manifests", "blobs")
    if media_type == OCI_ARTIFACT:
        return ("manifests", "layers", "config")
    # Of a type that nobody here knows, its keys tell the kind.
    if "manifests" in content:
        return ("config", "layers", "blobs")
    return ("blobs",) if "layers" in content else ()


def _optional(content: Object, key: str) -> Descriptor | None:
    value = content.get(key)
    return None if value is None else Descriptor.parse(value, key)


def _listed(content: Object, key: str) -> tuple[Descriptor, ...]:
    value = content.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestInvalid(f"{key} must be a list of descriptors")
    return tuple(Descriptor.parse(entry, f"{key}[{at}]") for at, entry in enumerate(value))
