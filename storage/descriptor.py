"""Descriptors: what points from a manifest to content (image-spec, descriptor.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from storage.digest import Digest
from storage.document import Object, refuse_twins
from storage.errors import DigestInvalid, DigestUnsupported, ManifestInvalid

_KEYS = ("mediaType", "digest", "size", "urls", "data", "artifactType", "annotations")
SIZE_LIMIT = 1 << 53  # the integers that every JSON reader keeps exact


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`digest` is None for an algorithm not kept here: such content can only be elsewhere."""

    media_type: str
    digest: Digest | None
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    elsewhere: bool = False
    """Has `urls` or a type that must not be distributed: its bytes need not be pushed."""

    @staticmethod
    def parse(value: Any, where: str) -> Descriptor:
        """`where` names the place in the manifest. Raises ManifestInvalid."""
        if not isinstance(value, dict):
            raise ManifestInvalid(f"{where} is not a descriptor: it must be a JSON object")
        refuse_twins(value, _KEYS, where)
        media_type = optional_text(value, "mediaType", where) or ""
        size = value.get("size")
        # `is int`, since True is an int for isinstance and 1.0 equals 1.
        if type(size) is not int or not 0 <= size <= SIZE_LIMIT:
            raise ManifestInvalid(f"{where}.size must be a whole number of bytes, 0 to 2^53")
        return Descriptor(
            media_type,
            _digest(value.get("digest"), where),
            size,
            optional_text(value, "artifactType", where),
            parse_annotations(value, where),
            bool(value.get("urls")) or "nondistributable" in media_type or "foreign" in media_type,
        )


def _digest(value: Any, where: str) -> Digest | None:
    if not isinstance(value, str):
        raise ManifestInvalid(f"{where}.digest is missing")
    try:
        return Digest.parse(value)
    except DigestUnsupported:
        return None
    except DigestInvalid as error:
        raise ManifestInvalid(f"{where}.digest: {error}") from None


def optional_text(value: Object, key: str, where: str) -> str | None:
    """An optional string; the empty one counts as absent. Raises ManifestInvalid."""
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise ManifestInvalid(f"{where}.{key} must be a string")
    return found or None


def parse_annotations(value: Object, where: str) -> Mapping[str, str]:
    """An optional map of strings to strings. Raises ManifestInvalid."""
    found = value.get("annotations")
    if found is None:
        return MappingProxyType({})
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ManifestInvalid(f"{where}.annotations must map strings to strings")
    return MappingProxyType(found)
