"""Spin applications as `spin registry push` makes them (Spin 2.3.1 to 4.0). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.digest import SHA256

APP_TYPE = "application/vnd.fermyon.spin.application.v1+config"
WASM_TYPE = "application/vnd.wasm.content.layer.v1+wasm"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Artifact:
    blobs: tuple[bytes, ...]
    manifest: bytes

    @property
    def digest(self) -> str:
        return str(SHA256.digest(self.manifest))


def http_app(name: str, wasm: bytes, *, version: str = "1.0.0") -> Artifact:
    """An application of one component that takes every route. The same input, the same digest."""
    return package(
        {
            "spin_lock_version": 0,
            "metadata": {
                "name": name,
                "trigger": {"type": "http"},
                "triggers": {},
                "version": version,
            },
            "triggers": [
                {
                    "id": f"{name}-http-trigger",
                    "trigger_type": "http",
                    "trigger_config": {"component": name, "route": "/..."},
                }
            ],
            "components": [
                {
                    "id": name,
                    "source": {
                        "content_type": "application/wasm",
                        "digest": str(SHA256.digest(wasm)),
                    },
                }
            ],
        },
        (wasm,),
    )


def package(locked_app: Mapping[str, Any], wasm: tuple[bytes, ...]) -> Artifact:
    """A locked app and the Wasm it names; the locked app is the last layer, as from Spin."""
    locked = _compact(locked_app)
    config = _compact(
        {
            "architecture": "wasm",
            "os": "wasip1",
            "config": {"Labels": {"com.fermyon.spin.lockedAppDigest": str(SHA256.digest(locked))}},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    )
    manifest = {
        "schemaVersion": 2,  # and no mediaType: Spin leaves it out of the body
        "config": _descriptor(CONFIG_TYPE, config),
        "layers": [*(_descriptor(WASM_TYPE, blob) for blob in wasm), _descriptor(APP_TYPE, locked)],
    }
    return Artifact((*wasm, locked, config), _compact(manifest, sort_keys=True))


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(SHA256.digest(blob)), "size": len(blob)}


def _compact(value: object, *, sort_keys: bool = False) -> bytes:
    return json.dumps(
        value, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False
    ).encode()
