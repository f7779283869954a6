"""cosign and notation: signatures beside an image, found again by tag or by referrers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.answers import referrers, tags
from tests.layouts import Layout
from tests.servers import Spindle
from tests.tools import require, run

COSIGN_REFERRERS = "application/vnd.dev.cosign.artifact.sig.v1+json"
NOTATION = "application/vnd.cncf.notary.signature"


def pushed(server: Spindle, repository: str, into: Path) -> str:
    """Push an image as `v1`; returns its digest."""
    layout = Layout(into / "in")
    digest = layout.tag(layout.image(seed=7), "v1")
    run(
        *("crane", "push", "--insecure", layout.directory),
        f"{server.registry}/{repository}:v1",
    )
    return digest


@pytest.fixture
def cosign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a pair of keys of its own."""
    require("cosign")
    require("crane")
    keys = tmp_path / "keys"
    keys.mkdir()
    monkeypatch.setenv("HOME", str(keys))
    monkeypatch.setenv("COSIGN_PASSWORD", "a password")
    run("cosign", "generate-key-pair", cwd=keys)
    return keys


def cosign_sign(keys: Path, ref: str, *more: str) -> None:
    run(
        *("cosign", "sign", "--yes", "--tlog-upload=false", "--allow-http-registry"),
        *(f"--key={keys}/cosign.key", *more, ref),
    )


def cosign_verify(keys: Path, ref: str, *more: str, ok: bool = True) -> str:
    return run(
        *("cosign", "verify", "--insecure-ignore-tlog", "--allow-http-registry"),
        *(f"--key={keys}/cosign.pub", *more, ref),
        ok=ok,
    )


def test_cosign_signs_under_a_tag_copies_with_the_signature_and_cleans_it_away(
    cosign: Path, server: Spindle, tmp_path: Path
) -> None:
    digest = pushed(server, "cosign/tag", tmp_path)
    name = f"{server.registry}/cosign/tag"
    signature = digest.replace(":", "-") + ".sig"
    cosign_verify(cosign, f"{name}:v1", ok=False)
    cosign_sign(cosign, f"{name}@{digest}")
    assert digest in cosign_verify(cosign, f"{name}:v1")
    assert tags(server, "cosign/tag") == [signature, "v1"]

    copy = f"{server.registry}/cosign/copy"
    run("cosign", "copy", "--allow-http-registry", f"{name}:v1", f"{copy}:v2")
    run("cosign", "clean", "--force", "--allow-http-registry", f"{name}:v1")

    assert tags(server, "cosign/tag") == ["v1"]
    assert "no signatures" in cosign_verify(cosign, f"{name}:v1", ok=False)
    assert digest in cosign_verify(cosign, f"{copy}:v2")


def test_cosign_finds_by_referrers_what_it_signed_without_a_tag(
    cosign: Path, server: Spindle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COSIGN_EXPERIMENTAL", "1")
    digest = pushed(server, "cosign/referrers", tmp_path)
    name = f"{server.registry}/cosign/referrers"
    cosign_sign(cosign, f"{name}@{digest}", "--registry-referrers-mode=oci-1-1")
    assert digest in cosign_verify(cosign, f"{name}:v1", "--experimental-oci11")
    assert tags(server, "cosign/referrers") == ["v1"]
    assert referrers(server, "cosign/referrers", digest) == [COSIGN_REFERRERS]


@pytest.fixture
def notation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of its own that it trusts."""
    require("notation")
    require("crane")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    run("notation", "cert", "generate-test", "--default", "signer.example")
    policy = {
        "name": "all",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:signer.example"],
        "trustedIdentities": ["*"],
    }
    (tmp_path / "policy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [policy]}))
    run("notation", "policy", "import", tmp_path / "policy.json")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("false", ["v1"]),  # asks whether the registry has referrers, and relies on them
        ("true", ["sha256-{}", "v1"]),  # its default: keeps an index under a tag besides
    ],
    ids=["referrers", "tag"],
)
@pytest.mark.usefixtures("notation")
def test_notation_verifies_and_lists_what_it_signed(
    server: Spindle, tmp_path: Path, mode: str, expected: list[str]
) -> None:
    repository = f"notation/{mode}"
    digest = pushed(server, repository, tmp_path)
    image = f"{server.registry}/{repository}@{digest}"
    run("notation", "verify", "--insecure-registry", image, ok=False)
    run("notation", "sign", "--insecure-registry", f"--force-referrers-tag={mode}", image)
    run("notation", "verify", "--insecure-registry", image)
    assert NOTATION in run("notation", "list", "--insecure-registry", image)
    encoded = digest.partition(":")[2]
    assert tags(server, repository) == [tag.format(encoded) for tag in expected]
    assert referrers(server, repository, digest) == [NOTATION]
