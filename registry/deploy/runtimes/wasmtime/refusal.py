"""Why an application cannot run here, in a sentence with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.deploy.runtimes.wasmtime.anatomy import HANDLER, Anatomy, NotWasm, anatomy
from registry.deploy.runtimes.wasmtime.outbound import HostPatternInvalid, Outbound

_WASI_0_2_SDKS = "for Python spin-sdk 3.4.1, for JavaScript @spinframework/build-tools 1.x"

_RESOURCES = {
    "key_value_stores": "key-value stores",
    "databases": "SQLite databases",
    "ai_models": "AI models",
}


def refusal(locked: Mapping[str, Any], wasm: Mapping[str, Path]) -> str | None:
    """Reads a few kilobytes of each component: run it off the event loop."""
    for trigger in locked.get("triggers", ()):
        if trigger.get("trigger_type") != "http":
            continue
        executor = trigger.get("trigger_config", {}).get("executor") or {}
        if executor.get("type", "http") not in ("http", "spin"):
            return (
                f"trigger {trigger.get('id')} has the executor `{executor['type']}`, which the"
                " embedded runtime does not have: build a component that handles wasi:http instead"
            )
    used = {
        trigger.get("trigger_config", {}).get("component")
        for trigger in locked.get("triggers", ())
        if trigger.get("trigger_type") == "http"
    }
    for component in locked.get("components", ()):
        reason = _of_declaration(component)
        if reason is None and component["id"] in used:
            reason = _of_file(component["id"], wasm[component["id"]])
        if reason is not None:
            return reason
    return None


def _of_declaration(component: Mapping[str, Any]) -> str | None:
    name, metadata = component["id"], component.get("metadata", {})
    if component.get("dependencies"):
        return (
            f"component {name} has dependencies that are not composed into it: push with"
            " `spin registry push` of Spin 3.2 or later, which composes them by default"
        )
    for key, what in _RESOURCES.items():
        if metadata.get(key):
            wanted = ", ".join(str(label) for label in metadata[key])
            return (
                f"component {name} uses {what} ({wanted}), which the embedded runtime does not"
                f" provide: remove `{key}` from spin.toml, or deploy with another runtime"
            )
    try:
        _outbound(metadata)
    except HostPatternInvalid as error:
        return f"component {name}: {error}"
    return None


def _outbound(metadata: Mapping[str, Any]) -> Outbound:
    # Templates are filled in when the app starts; only what is plain can be judged now.
    def plain(key: str) -> list[str]:
        return [text for text in metadata.get(key) or () if "{{" not in text]

    return Outbound.parse(plain("allowed_outbound_hosts"), plain("allowed_http_hosts"))


def _of_file(name: str, path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            found = anatomy(file)
    except NotWasm as error:
        return f"component {name} is not a WebAssembly component: {error}"
    return _of_anatomy(name, found)


def _of_anatomy(name: str, found: Anatomy) -> str | None:
    if not found.component:
        return (
            f"component {name} is a core WebAssembly module, and the embedded runtime runs"
            " components: build it with a Spin SDK, or turn it into one with `wasm-tools component"
            " new`"
        )
    if any(export.startswith(HANDLER) for export in found.exports):
        return None
    newer = [e for e in found.exports if e.startswith("wasi:http/handler@")]
    if newer:
        return (
            f"component {name} exports {newer[0]}, which is WASI 0.3, and the embedded runtime"
            f" serves WASI 0.2: build it with a WASI 0.2 SDK ({_WASI_0_2_SDKS}), or deploy with"
            " another runtime"
        )
    return (
        f"component {name} does not export wasi:http/incoming-handler@0.2, so it cannot answer"
        f" HTTP requests: build it with a WASI 0.2 HTTP SDK ({_WASI_0_2_SDKS})"
    )
