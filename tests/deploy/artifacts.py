"""Spin applications as every generation of Spin pushes them, made here byte for byte.

`Artifact` collects blobs and makes the manifest; `layer_app` and `config_app` are the two places
for the locked app. Nothing here knows how they are read.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

from storage.digest import SHA256, Digest
from storage.manifest import OCI_IMAGE, Manifest

SPIN_APP = "application/vnd.fermyon.spin.application.v1+config"
WASM = "application/vnd.wasm.content.layer.v1+wasm"
DATA = "application/vnd.wasm.content.layer.v1+data"
ARCHIVE = "application/vnd.wasm.content.bundle.v1.tar+gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
INLINE = 128  # bytes up to which Spin puts a file into the locked app


def digest_of(data: bytes) -> str:
    return str(SHA256.digest(data))


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


@dataclass
class Artifact:
    """Blobs and the manifest that names them."""

    layers: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def layer(self, data: bytes, media_type: str) -> str:
        """Spin keeps the first of equal layers."""
        descriptor = self.blob(data, media_type)
        if descriptor not in self.layers:
            self.layers.append(descriptor)
        return str(descriptor["digest"])

    def body(self) -> bytes:
        document: dict[str, Any] = {
            "config": self.config,
            "layers": self.layers,
            "schemaVersion": 2,
        }
        if self.annotations:
            document["annotations"] = self.annotations
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    def manifest(self) -> Manifest:
        return Manifest.parse(self.body(), content_type=OCI_IMAGE)

    @property
    def digest(self) -> Digest:
        return SHA256.digest(self.body())

    @property
    def locked(self) -> bytes:
        """The locked app, wherever it is."""
        for descriptor in (*self.layers, self.config):
            if descriptor["mediaType"] == SPIN_APP:
                return self.blobs[descriptor["digest"]]
        raise AssertionError("no locked app")

    @property
    def config_blob(self) -> bytes:
        return self.blobs[self.config["digest"]]


def http_trigger(component: str = "main", route: str = "/...") -> dict[str, Any]:
    return {
        "id": f"{component}-http-trigger",
        "trigger_type": "http",
        "trigger_config": {"component": component, "route": route},
    }


def locked_app(
    wasm: bytes = b"\0asm", name: str = "hello", version: str = "0.1.0", **more: Any
) -> dict[str, Any]:
    """One component `main` behind every route. `more` replaces top-level fields."""
    return {
        "spin_lock_version": 0,
        "metadata": {
            "name": name,
            "version": version,
            "trigger": {"type": "http"},
            "triggers": {},
        },
        "triggers": [http_trigger()],
        "components": [
            {
                "id": "main",
                "source": {"content_type": "application/wasm", "digest": digest_of(wasm)},
            }
        ],
        **more,
    }


def files_of(artifact: Artifact, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Simple mode: short files inline, the others as layers."""
    listed = []
    for path, data in files.items():
        entry = {"path": path, "digest": digest_of(data)}
        if len(data) <= INLINE:
            entry["inline"] = unpadded(data)
        else:
            artifact.layer(data, DATA)
        listed.append(entry)
    return listed


def archived_files(artifact: Artifact, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Archive mode: one tar of all, and the digests of the unpacked files."""
    artifact.layer(tar_gz(files), ARCHIVE)
    return [{"path": path, "digest": digest_of(data)} for path, data in files.items()]


def tar_gz(files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    return gzip.compress(tar(files, format), mtime=0)


def tar(files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as archive:
        directory = tarfile.TarInfo("./")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for path, data in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def layer_app(
    locked: dict[str, Any] | bytes,
    wasm: bytes = b"\0asm",
    *,
    artifact: Artifact | None = None,
    os: str = "wasip1",
    label: bool = True,
) -> Artifact:
    """As Spin 2.0 and later push it; `label` since 2.3.1, `os` "Wasip1" since 4.1."""
    artifact = artifact or Artifact()
    artifact.layers.insert(0, artifact.blob(wasm, WASM))
    data = locked if isinstance(locked, bytes) else _json(locked)
    marker = artifact.layer(data, SPIN_APP)
    config: dict[str, Any] = {"architecture": "wasm", "os": os}
    if label:
        config["config"] = {"Labels": {"com.fermyon.spin.lockedAppDigest": marker}}
    config["rootfs"] = {"type": "layers", "diff_ids": []}
    artifact.config = artifact.blob(_json(config), OCI_CONFIG)
    return artifact


def config_app(locked: dict[str, Any], wasm: bytes = b"\0asm") -> Artifact:
    """As Spin up to 1.5 pushed it."""
    artifact = Artifact()
    artifact.layer(wasm, WASM)
    artifact.config = artifact.blob(_json(locked), SPIN_APP)
    return artifact


def container() -> Artifact:
    """No Spin application at all."""
    artifact = Artifact()
    artifact.layer(gzip.compress(b"", mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    artifact.config = artifact.blob(
        _json({"architecture": "amd64", "os": "linux", "config": {}}), OCI_CONFIG
    )
    return artifact


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
