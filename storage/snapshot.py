"""What a snapshot says of itself: its manifest, as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage.digest import Digest
from storage.errors import Damaged, DigestInvalid, LayoutUnknown

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Loss:
    """A blob that should be there, and is not or has other bytes."""

    digest: Digest
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    time: str
    """When the records were read; UTC, RFC 3339."""
    blobs: int
    size: int
    """Bytes of all its blobs, whether or not they were copied for it."""
    lost: tuple[Loss, ...]
    """What was damaged or missing where the snapshot was taken."""
    files: Mapping[str, Digest]
    """The names and digests of what lies beside the manifest."""

    def to_json(self) -> bytes:
        content = {
            "format": FORMAT,
            "id": self.id,
            "time": self.time,
            "blobs": self.blobs,
            "bytes": self.size,
            "lost": [{"digest": loss.digest.text, "why": loss.why} for loss in self.lost],
            "files": {name: digest.text for name, digest in self.files.items()},
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @staticmethod
    def parse(data: bytes, id: str) -> Snapshot:
        """The manifest of the snapshot `id`. Raises Damaged, or LayoutUnknown for a newer one."""
        try:
            found: dict[str, Any] = json.loads(data)
            if found["format"] > FORMAT:
                raise LayoutUnknown(
                    f"snapshot {id} was made by a newer release (format {found['format']}, this one"
                    f" knows {FORMAT}); use that release"
                )
            snapshot = Snapshot(
                str(found["id"]),
                str(found["time"]),
                int(found["blobs"]),
                int(found["bytes"]),
                tuple(
                    Loss(Digest.parse(loss["digest"]), str(loss["why"])) for loss in found["lost"]
                ),
                {str(name): Digest.parse(digest) for name, digest in found["files"].items()},
            )
            if snapshot.id != id:
                raise ValueError(f"it is that of {snapshot.id}")
        except (ValueError, TypeError, KeyError, AttributeError, DigestInvalid) as error:
            raise Damaged(f"the manifest of snapshot {id} is damaged: {error!r}") from None
        return snapshot
