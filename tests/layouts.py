"""OCI layouts on disk, for clients to push from and pull into (image-spec, image-layout.md)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class Layout:
    """A directory with blobs by digest and an index of tagged manifests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: list[dict[str, Any]] = []
        (directory / "blobs" / "sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Keep it; returns its descriptor."""
        encoded = hashlib.sha256(data).hexdigest()
        (self.directory / "blobs" / "sha256" / encoded).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(data)}

    def path(self, digest: str) -> Path:
        """Where the blob is."""
        return self.directory / "blobs" / "sha256" / digest.partition(":")[2]

    def image(self, *, seed: int, layers: int = 2, size: int = 70_000) -> dict[str, Any]:
        """An image whose layers are gzip of noise; returns the descriptor of its manifest."""
        noise = random.Random(seed)
        blobs = [
            self.blob(gzip.compress(noise.randbytes(size), mtime=0), OCI_LAYER)
            for _ in range(layers)
        ]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [blob["digest"] for blob in blobs]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": self.blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": blobs,
            # Blanks and a trailing newline would not survive a registry that writes its own JSON.
            "annotations": {"org.example.note": "kept  exactly"},
        }
        return self.blob((json.dumps(manifest, indent=3) + "\n").encode(), OCI_IMAGE)

    def filesystem(self, *, seed: int, layers: int = 2, size: int = 70_000) -> dict[str, Any]:
        """An image that engines can unpack: each layer holds one file of noise."""
        noise = (random.Random(seed * 100 + at).randbytes(size) for at in range(layers))
        return self.files(*({f"srv/{seed}-{at}": data} for at, data in enumerate(noise)))

    def files(self, *layers: dict[str, bytes]) -> dict[str, Any]:
        """The same of given files by name, layer by layer."""
        tars = [_tar(layer) for layer in layers]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
            },
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": self.blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [self.blob(gzip.compress(tar, mtime=0), OCI_LAYER) for tar in tars],
        }
        return self.blob(json.dumps(manifest, indent=3).encode(), OCI_IMAGE)

    def index(self, *, seed: int, images: int = 2) -> dict[str, Any]:
        """An index of images for as many platforms; returns its descriptor."""
        manifests = [
            {
                **self.image(seed=seed * 100 + at),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for at, architecture in enumerate(["amd64", "arm64", "riscv64"][:images])
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self.blob(json.dumps(index, indent=1).encode(), OCI_INDEX)

    def tag(self, descriptor: dict[str, Any], name: str) -> str:
        """Name a manifest in the layout's index; returns its digest."""
        self.entries.append(
            {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
        )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.entries}
        (self.directory / "index.json").write_text(json.dumps(index))
        return str(descriptor["digest"])


def contents(directory: Path) -> dict[str, bytes]:
    """Every blob of a layout, by the hexadecimal part of its digest, checked against it."""
    found = {path.name: path.read_bytes() for path in (directory / "blobs" / "sha256").iterdir()}
    for encoded, data in found.items():
        assert hashlib.sha256(data).hexdigest() == encoded
    return found


def archived_layers(archive: Path) -> list[str]:
    """The digests of the uncompressed layers in what `docker save` and its kin write, in order."""
    with tarfile.open(archive) as saved:

        def member(name: str) -> bytes:
            # podman writes a layer once and names it a second time by a symbolic link
            file = saved.extractfile(name)
            assert file is not None
            return file.read()

        [image] = json.loads(member("manifest.json"))
        layers = [member(name) for name in image["Layers"]]
    plain = [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data for data in layers]
    return [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain]


def _tar(files: dict[str, bytes]) -> bytes:
    """A tar that is the same every time."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        end = tar.offset + 2 * tarfile.BLOCKSIZE
    return kept.getvalue()[:end]  # podman's zstd:chunked stumbles over padding to a whole record
