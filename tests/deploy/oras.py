"""Spin applications pushed with oras: nothing of ours touches them on the way."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.servers import Spindle
from tests.tools import require, run

SPIN_APP = "application/vnd.fermyon.spin.application.v1+config"
WASM = "application/vnd.wasm.content.layer.v1+wasm"
DATA = "application/vnd.wasm.content.layer.v1+data"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def locked_app(name: str, wasm: bytes, *, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """The locked app of one component that answers on every path. `more` goes into the component,
    save for `variables`, which belong to the app."""
    variables = more.pop("variables", None)
    return {
        "spin_lock_version": 0,
        "metadata": {"name": name, "version": version, "trigger": {"type": "http"}},
        **({"variables": variables} if variables else {}),
        "triggers": [
            {
                "id": "trigger--main",
                "trigger_type": "http",
                "trigger_config": {"component": "main", "route": "/..."},
            }
        ],
        "components": [
            {
                "id": "main",
                "source": {"content_type": "application/wasm", "digest": digest_of(wasm)},
                **more,
            }
        ],
    }


def push(
    server: Spindle,
    directory: Path,
    reference: str,
    locked: dict[str, Any],
    wasm: bytes,
    files: dict[str, bytes] | None = None,
) -> str:
    """Push with oras; returns the digest that oras printed."""
    require("oras")
    directory.mkdir(parents=True, exist_ok=True)
    app = json.dumps(locked, separators=(",", ":")).encode()
    config = {
        "architecture": "wasm",
        "os": "wasip1",
        "config": {"Labels": {"com.fermyon.spin.lockedAppDigest": digest_of(app)}},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "app.json").write_bytes(app)
    (directory / "main.wasm").write_bytes(wasm)
    layers = [f"main.wasm:{WASM}"]
    for at, data in enumerate((files or {}).values()):
        (directory / f"file{at}").write_bytes(data)
        layers.append(f"file{at}:{DATA}")
    printed = run(
        *("oras", "push", "--plain-http", "--no-tty", "--format", "go-template={{.digest}}"),
        *("--config", f"config.json:{OCI_CONFIG}", f"{server.registry}/{reference}"),
        *(*layers, f"app.json:{SPIN_APP}"),
        cwd=directory,
    )
    return printed.strip().splitlines()[-1]
