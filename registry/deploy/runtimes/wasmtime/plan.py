"""What a worker is told to run: made by the runtime, sent as JSON, trusted from there on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from registry.deploy.runtimes import Limits, StartFailed, Workload
from registry.deploy.runtimes.wasmtime.outbound import HostPatternInvalid, Outbound

_TEMPLATE = re.compile(r"\{\{\s*([^{}\s]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Component:
    id: str
    wasm: str
    """Path of the staged component."""
    native: str = ""
    """Path of the compiled one."""
    assets: str | None = None
    """Directory that the guest sees as `/`."""
    env: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    legacy_hosts: tuple[str, ...] = ()
    buffer: int = 1 << 20
    """Bytes of a body that wait in the host."""
    private_networks: bool = False
    """Whether allowed hosts may resolve to loopback and private addresses."""

    def outbound(self) -> Outbound:
        return Outbound.parse(self.hosts, self.legacy_hosts)


@dataclass(frozen=True, slots=True)
class Plan:
    app: str
    name: str
    version: str | None
    digest: str | None
    revision: int
    components: tuple[Component, ...]
    triggers: tuple[Mapping[str, Any], ...]
    limits: Limits
    workers: int
    log: str
    cache: str
    """Directory of compiled components; nothing outside it is loaded."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        components = tuple(
            Component(
                **{
                    **item,
                    "hosts": tuple(item["hosts"]),
                    "legacy_hosts": tuple(item["legacy_hosts"]),
                }
            )
            for item in data["components"]
        )
        return cls(
            **{
                **data,
                "components": components,
                "triggers": tuple(data["triggers"]),
                "limits": Limits(**data["limits"]),
            }
        )


def resolve(template: str, variables: Mapping[str, str], where: str) -> str:
    """Fill in `{{ name }}`. Raises StartFailed for a variable without a value."""

    def value(found: re.Match[str]) -> str:
        try:
            return variables[found[1]]
        except KeyError:
            raise StartFailed(
                f"{where} uses the variable `{found[1]}`, which has no value:"
                " set it for the app, or give it a default in spin.toml"
            ) from None

    return _TEMPLATE.sub(value, template)


def file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise StartFailed(f"{url} is not a staged file")
    return Path(unquote(parts.path))


def plan(
    locked: Mapping[str, Any], workload: Workload, *, cache: Path, private_networks: bool
) -> Plan:
    """The plan of a staged lock file, without the paths of compiled code. Raises StartFailed."""
    metadata = locked.get("metadata", {})
    triggers = [item for item in locked["triggers"] if item.get("trigger_type") == "http"]
    used = {item.get("trigger_config", {}).get("component") for item in triggers}
    return Plan(
        app=workload.app,
        name=metadata.get("name", workload.name),
        version=metadata.get("version"),
        digest=metadata.get("oci_image_digest"),
        revision=workload.revision,
        # What no HTTP trigger names cannot be reached, and need not even be an HTTP component.
        components=tuple(
            _component(item, workload, private_networks)
            for item in locked["components"]
            if item["id"] in used
        ),
        triggers=tuple(triggers),
        limits=workload.limits,
        workers=max(1, workload.workers),
        log=str(workload.log),
        cache=str(cache),
    )


def _component(item: Mapping[str, Any], workload: Workload, private_networks: bool) -> Component:
    name = item["id"]
    metadata = item.get("metadata", {})

    def filled(texts: Any, what: str) -> tuple[str, ...]:
        return tuple(
            resolve(text, workload.variables, f"{what} of component {name}") for text in texts or ()
        )

    mounts = [entry for entry in item.get("files", ()) if entry.get("source")]
    if len(mounts) > 1 or any(entry.get("path") != "/" for entry in mounts):
        raise StartFailed(f"component {name} has files that were not staged as one directory")
    component = Component(
        id=name,
        wasm=str(file_path(item["source"]["source"])),
        assets=str(file_path(mounts[0]["source"])) if mounts else None,
        env=dict(item.get("env", {})),
        config={
            key: resolve(text, workload.variables, f"config `{key}` of component {name}")
            for key, text in item.get("config", {}).items()
        },
        hosts=filled(metadata.get("allowed_outbound_hosts"), "allowed_outbound_hosts"),
        legacy_hosts=filled(metadata.get("allowed_http_hosts"), "allowed_http_hosts"),
        buffer=workload.limits.body,
        private_networks=private_networks,
    )
    try:
        component.outbound()
    except HostPatternInvalid as error:
        raise StartFailed(f"component {name}: {error}") from None
    return component
