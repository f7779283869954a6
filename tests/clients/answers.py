"""What the registry itself says about a repository, to compare with what a client says."""

from __future__ import annotations

import json
from typing import Any

from tests.servers import Spindle, get


def tags(server: Spindle, repository: str) -> list[str]:
    found: list[str] = _json(server, f"{repository}/tags/list")["tags"]
    return found


def manifest(server: Spindle, repository: str, reference: str) -> dict[str, Any]:
    return _json(server, f"{repository}/manifests/{reference}")


def layers(server: Spindle, repository: str, reference: str) -> list[str]:
    """The digests of an image's layers."""
    return [layer["digest"] for layer in manifest(server, repository, reference)["layers"]]


def referrers(server: Spindle, repository: str, digest: str) -> list[str]:
    """The artifact types of what refers to it."""
    found = _json(server, f"{repository}/referrers/{digest}")["manifests"]
    return [descriptor["artifactType"] for descriptor in found]


def _json(server: Spindle, path: str) -> dict[str, Any]:
    status, body = get(f"http://{server.registry}/v2/{path}")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found
