"""Artifacts that refer to an image: attached, found, fetched and copied along with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.answers import referrers
from tests.layouts import Layout
from tests.servers import Spindle, get
from tests.tools import require, run

SBOM = "application/vnd.example.sbom"
NOTE = "application/vnd.example.note"
SIGNATURE = "application/vnd.example.signature"


def oras(*words: str | Path, cwd: Path | None = None) -> str:
    return run("oras", *words, cwd=cwd)


def regctl(server: Spindle, *words: str | Path) -> str:
    return run("regctl", "--host", f"reg={server.registry},tls=disabled", *words)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """One image in it, called `v1`; both clients are there to push it."""
    for program in ("oras", "regctl"):
        require(program)
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=31), "v1")
    return layout


def pushed(layout: Layout, ref: str) -> str:
    """Push the image; returns its digest."""
    oras("cp", "--from-oci-layout", f"{layout.directory}:v1", "--to-plain-http", ref)
    return str(layout.entries[0]["digest"])


def attach(ref: str, artifact_type: str, file: Path) -> str:
    """With oras; returns the digest of the artifact's manifest."""
    written = oras(
        *("attach", "--plain-http", "--artifact-type", artifact_type, "--format", "json"),
        *(ref, file.name),
        cwd=file.parent,
    )
    return str(json.loads(written)["digest"])


def put(server: Spindle, ref: str, artifact_type: str, file: Path) -> None:
    """The same with regctl."""
    regctl(
        server,
        *("artifact", "put", "--artifact-type", artifact_type, "--subject", ref, "--file", file),
    )


def discovered(ref: str) -> dict[str, list[str]]:
    """What oras says refers to a manifest: artifact types by digest, each with those of its own."""
    found = json.loads(oras("discover", "--plain-http", "--format", "json", ref))
    return {
        one["digest"]: [one["artifactType"], *(more["artifactType"] for more in one["referrers"])]
        for one in found["referrers"]
    }


def test_oras_discovers_what_it_attached_to_an_image_and_to_what_is_attached(
    layout: Layout, server: Spindle, tmp_path: Path
) -> None:
    name = f"{server.registry}/referring/oras"
    digest = pushed(layout, f"{name}:v1")
    (tmp_path / "sbom.json").write_text('{"packages": []}')
    (tmp_path / "signature").write_text("signed")
    sbom = attach(f"{name}:v1", SBOM, tmp_path / "sbom.json")
    attach(f"{name}@{sbom}", SIGNATURE, tmp_path / "signature")

    assert discovered(f"{name}:v1") == {sbom: [SBOM, SIGNATURE]}
    assert referrers(server, "referring/oras", digest) == [SBOM]
    oras("pull", "--plain-http", "--output", tmp_path / "out", f"{name}@{sbom}")
    assert (tmp_path / "out" / "sbom.json").read_text() == '{"packages": []}'


def test_regctl_lists_and_fetches_what_it_put_beside_an_image(
    layout: Layout, server: Spindle, tmp_path: Path
) -> None:
    ref = f"{server.registry}/referring/regctl:v1"
    digest = pushed(layout, ref)
    for artifact_type, text in (SBOM, "packages"), (NOTE, "a note"):
        (tmp_path / "file").write_text(text)
        put(server, ref, artifact_type, tmp_path / "file")

    asked = f"http://{server.registry}/v2/referring/regctl/referrers/{digest}"
    listed = regctl(server, "artifact", "list", "--format", "body", ref)
    assert listed.encode() == get(asked)[1]
    tree = regctl(server, "artifact", "tree", ref)
    assert {line.split()[-1] for line in tree.splitlines() if " - " in line} == {SBOM, NOTE}
    only = ("--filter-artifact-type", NOTE)
    listed = regctl(server, "artifact", "list", *only, ref)
    assert NOTE in listed
    assert SBOM not in listed
    assert regctl(server, "artifact", "get", *only, "--subject", ref) == "a note"


def test_each_client_finds_what_the_other_attached(
    layout: Layout, server: Spindle, tmp_path: Path
) -> None:
    ref = f"{server.registry}/referring/both:v1"
    pushed(layout, ref)
    (tmp_path / "file").write_text("from oras")
    attach(ref, SBOM, tmp_path / "file")
    (tmp_path / "file").write_text("from regctl")
    put(server, ref, NOTE, tmp_path / "file")
    assert sorted(discovered(ref).values()) == [[NOTE], [SBOM]]
    only = ("--filter-artifact-type", SBOM)
    assert regctl(server, "artifact", "get", *only, "--subject", ref) == "from oras"


def test_a_copy_carries_referrers_to_another_repository_when_asked_to(
    layout: Layout, server: Spindle, tmp_path: Path
) -> None:
    source = f"{server.registry}/referring/source:v1"
    pushed(layout, source)
    (tmp_path / "sbom.json").write_text('{"packages": []}')
    (tmp_path / "signature").write_text("signed")
    sbom = attach(source, SBOM, tmp_path / "sbom.json")
    attach(f"{server.registry}/referring/source@{sbom}", SIGNATURE, tmp_path / "signature")

    with_oras, with_regctl, without = (
        f"{server.registry}/referring/{name}:v1" for name in ("copied-1", "copied-2", "copied-3")
    )
    plain = ("--from-plain-http", "--to-plain-http")
    oras("cp", "--recursive", *plain, source, with_oras)
    regctl(server, "image", "copy", "--referrers", source, with_regctl)
    oras("cp", *plain, source, without)

    assert discovered(with_oras) == discovered(with_regctl) == {sbom: [SBOM, SIGNATURE]}
    assert discovered(without) == {}
    for copied in (with_oras, with_regctl):
        out = tmp_path / copied.rpartition("/")[2]
        artifact = f"{copied.removesuffix(':v1')}@{sbom}"
        oras("pull", "--plain-http", "--output", out, artifact)
        assert (out / "sbom.json").read_text() == '{"packages": []}'


def test_an_artifact_that_is_deleted_no_longer_refers(
    layout: Layout, server: Spindle, tmp_path: Path
) -> None:
    name = f"{server.registry}/referring/deleted"
    digest = pushed(layout, f"{name}:v1")
    attached = {}
    for artifact_type in (SBOM, NOTE, SIGNATURE):
        (tmp_path / "file").write_text(artifact_type)
        attached[artifact_type] = attach(f"{name}:v1", artifact_type, tmp_path / "file")

    # With that option regctl would also mend the tag that stands in for the referrers API.
    regctl(server, "manifest", "delete", "--referrers", f"{name}@{attached[NOTE]}")
    oras("manifest", "delete", "--plain-http", "--force", f"{name}@{attached[SBOM]}")

    assert discovered(f"{name}:v1") == {attached[SIGNATURE]: [SIGNATURE]}
    assert referrers(server, "referring/deleted", digest) == [SIGNATURE]
