"""What keeps what, found from manifests themselves and not from what the store notes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Key = tuple[int, str]
"""A repository, and a digest in it."""


def blobs_of(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptors of the blobs in an image; none in an index."""
    return [*manifest.get("layers", []), *([manifest["config"]] if "config" in manifest else [])]


def reached(roots: Iterable[Key], manifests: Mapping[Key, Mapping[str, Any]]) -> set[Key]:
    """The manifests that roots lead to: as children, or as what has one of them for a subject."""
    waiting, found = list(roots), set()
    while waiting:
        key = waiting.pop()
        if key in found or key not in manifests:
            continue
        found.add(key)
        where, digest = key
        waiting += [(where, part["digest"]) for part in manifests[key].get("manifests", [])]
        waiting += [
            other
            for other, content in manifests.items()
            if other[0] == where and content.get("subject", {}).get("digest") == digest
        ]
    return found
