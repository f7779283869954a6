"""BuildKit: the caches it keeps in a registry, and the attestations it puts beside an image.

A cache is an index whose entries are not manifests but layers, and a config of BuildKit's own;
asked to, BuildKit writes an image manifest around the same blobs.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.answers import layers, manifest
from tests.clients.test_engines import daemon
from tests.clients.test_round_trips import Client
from tests.layouts import OCI_IMAGE, OCI_INDEX, OCI_LAYER, Layout, contents
from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import require, run

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
IN_TOTO = "application/vnd.in-toto+json"
DOCKERFILE = """
FROM scratch AS first
COPY one /one
FROM scratch
COPY --from=first /one /copied
COPY two /two
"""
STEPS = {
    "[first 1/1] COPY one /one",
    "[stage-1 1/2] COPY --from=first /one /copied",
    "[stage-1 2/2] COPY two /two",
}

Build = Callable[..., set[str]]


@contextmanager
def machine(registry: str, source: Path) -> Iterator[Build]:
    """A daemon that has built nothing yet.

    What it yields builds `source` with further options, and returns the steps that it had cached.
    """
    for program in ("buildkitd", "buildctl", "runc"):
        require(program)
    # Not pytest's directory: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="spindle-") as path:
        home = Path(path)
        (home / "config.toml").write_text(f'[registry."{registry}"]\nhttp = true\n')
        address = f"unix://{home / 'sock'}"
        start: list[str | Path] = [
            *("buildkitd", "--config", home / "config.toml", "--addr", address),
            *("--root", home / "root", "--otel-socket-path", home / "otel", "--cdi-disabled"),
            *("--oci-worker-snapshotter=native", "--oci-worker-net=host"),
            "--containerd-worker=false",
        ]
        ask: list[str | Path] = ["buildctl", "--addr", address]
        with daemon(start, home / "sock", ask, ready=("debug", "workers")):

            def build(*options: str) -> set[str]:
                trace = home / "trace"
                run(
                    *(*ask, "build", "--progress=quiet", "--trace", trace),
                    *("--frontend=dockerfile.v0", "--local", f"dockerfile={source}"),
                    *("--local", f"context={source}", *options),
                )
                lines = [json.loads(line) for line in trace.read_text().splitlines()]
                steps = [step for line in lines for step in line.get("vertexes", ())]
                return {step["name"] for step in steps if step.get("cached")}

            yield build


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What to build: no step of it runs a container."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "Dockerfile").write_text(DOCKERFILE)
    noise = random.Random(41)
    for name in ("one", "two"):
        (source / name).write_bytes(noise.randbytes(70_000))
    return source


def reachable(server: Spindle, repository: str, reference: str) -> dict[str, bytes]:
    """A manifest and all that it leads to in that repository, by digest and checked against it."""
    found: dict[str, bytes] = {}

    def visit(kind: str, name: str) -> None:
        status, data = get(f"http://{server.registry}/v2/{repository}/{kind}/{name}")
        assert status == 200, f"{repository} has no {name} among its {kind}"
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert name in (digest, reference)
        found[digest] = data
        if kind == "manifests":
            document = json.loads(data)
            entries = [*document.get("manifests", ()), *document.get("layers", ())]
            for entry in (*entries, *filter(None, [document.get("config")])):
                is_manifest = entry["mediaType"] in (OCI_IMAGE, OCI_INDEX)
                visit("manifests" if is_manifest else "blobs", entry["digest"])

    visit("manifests", reference)
    return found


@pytest.mark.parametrize("form", ["index", "image"])
def test_what_one_machine_exports_as_cache_another_imports_and_builds_nothing(
    form: str, source: Path, server: Spindle
) -> None:
    ref = f"{server.registry}/buildkit/cache:{form}"
    image_manifest = "true" if form == "image" else "false"
    with machine(server.registry, source) as build:
        cached = build(
            *("--export-cache", f"type=registry,ref={ref},mode=max,image-manifest={image_manifest}")
        )
        assert cached == set()
    with machine(server.registry, source) as build:
        image = f"{server.registry}/buildkit/from-{form}:v1"
        cached = build(
            *("--import-cache", f"type=registry,ref={ref}"),
            *("--output", f"type=image,name={image},push=true"),
        )
    assert cached >= STEPS

    document = manifest(server, "buildkit/cache", form)
    if form == "index":
        *kept, config = document["manifests"]
    else:
        kept, config = document["layers"], document["config"]
    assert config["mediaType"] == CACHE_CONFIG
    assert {blob["mediaType"] for blob in kept} == {OCI_LAYER}
    pushed = layers(server, f"buildkit/from-{form}", "v1")
    assert len(pushed) == 2
    assert {*pushed} < {blob["digest"] for blob in kept}


def test_an_attestation_stands_beside_the_image_and_every_client_copies_both(
    client: Client, source: Path, server: Spindle
) -> None:
    repository = f"buildkit/attested/{client.program}"
    ref = f"{server.registry}/{repository}:v1"
    with machine(server.registry, source) as build:
        build(
            *("--opt", "attest:provenance=mode=min"),
            *("--output", f"type=image,name={ref},push=true"),
        )
    image, attestation = manifest(server, repository, "v1")["manifests"]
    assert attestation["platform"] == {"os": "unknown", "architecture": "unknown"}
    assert attestation["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    [statement] = manifest(server, repository, attestation["digest"])["layers"]
    assert statement["mediaType"] == IN_TOTO

    run(*client.copy(ref, f"{server.registry}/buildkit/copied/{client.program}:v1"))

    everything = reachable(server, repository, "v1")
    assert reachable(server, f"buildkit/copied/{client.program}", "v1") == everything
    assert {image["digest"], attestation["digest"], statement["digest"]} < everything.keys()


def crafted(layout: Layout, form: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cache as BuildKit writes it, without BuildKit: its manifest, and the blobs it names."""
    noise = random.Random(form)
    kept = []
    for at in range(3):
        layer = layout.blob(noise.randbytes(70_000), OCI_LAYER)
        annotations = {
            "buildkit/createdat": f"2026-01-01T00:00:0{at}.123456789Z",
            "containerd.io/uncompressed": f"sha256:{noise.randbytes(32).hex()}",
        }
        kept.append({**layer, "annotations": annotations})
    config = {
        "layers": [{"blob": layer["digest"], "parent": at - 1} for at, layer in enumerate(kept)],
        "records": [
            {
                "layers": [{"layer": 2, "createdAt": "2026-01-01T00:00:02.123456789Z"}],
                "digest": f"sha256:{noise.randbytes(32).hex()}",
            }
        ],
    }
    described = layout.blob(json.dumps(config).encode(), CACHE_CONFIG)
    if form == "index":
        entries: dict[str, Any] = {"mediaType": OCI_INDEX, "manifests": [*kept, described]}
    else:
        entries = {"mediaType": OCI_IMAGE, "config": described, "layers": kept}
    document = json.dumps({"schemaVersion": 2, **entries}, indent=2).encode()
    return layout.blob(document, entries["mediaType"]), [*kept, described]


def through_files(*command: str | Path, given: Path | None = None) -> bytes:
    """Run a program that reads a file; returns the bytes that it writes."""
    with tempfile.NamedTemporaryFile() as written:
        words = ("sh", "-c", 'exec <"$0" >"$1" && shift && exec "$@"')
        run(*words, given or Path("/dev/null"), Path(written.name), *command)
        return Path(written.name).read_bytes()


def push(program: str, ref: str, layout: Layout, descriptors: list[dict[str, Any]]) -> None:
    """Push what is in a layout one by one with oras or regctl: blobs, and a manifest last."""
    repository, _, _ = ref.rpartition(":")
    regctl = ("regctl", "--host", f"reg={ref.partition('/')[0]},tls=disabled")
    *blobs, document = [
        (one, layout.directory / "blobs" / "sha256" / one["digest"].partition(":")[2])
        for one in descriptors
    ]
    for blob, file in blobs:
        if program == "oras":
            at = f"{repository}@{blob['digest']}"
            run("oras", "blob", "push", "--plain-http", "--no-tty", at, file)
        else:
            through_files(*regctl, "blob", "put", repository, given=file)
    media_type, file = document[0]["mediaType"], document[1]
    if program == "oras":
        run("oras", "manifest", "push", "--plain-http", "--media-type", media_type, ref, file)
    else:
        put = ("manifest", "put", "--content-type", media_type, ref)
        through_files(*regctl, *put, given=file)


def fetched(program: str, ref: str, blobs: list[dict[str, Any]]) -> list[bytes]:
    """The same in return: the blobs, and the manifest last."""
    repository, _, _ = ref.rpartition(":")
    digests = [blob["digest"] for blob in blobs]
    match program:
        case "oras":
            words = ("--plain-http", "--output", "-")
            commands = [
                *(["oras", "blob", "fetch", *words, f"{repository}@{one}"] for one in digests),
                ["oras", "manifest", "fetch", *words, ref],
            ]
        case "regctl":
            regctl = ("regctl", "--host", f"reg={ref.partition('/')[0]},tls=disabled")
            commands = [
                *([*regctl, "blob", "get", repository, one] for one in digests),
                [*regctl, "manifest", "get", "--format", "raw-body", ref],
            ]
        case _:
            commands = [
                *(["crane", "blob", "--insecure", f"{repository}@{one}"] for one in digests),
                ["crane", "manifest", "--insecure", ref],
            ]
    return [through_files(*command) for command in commands]


@pytest.mark.parametrize("form", ["index", "image"])
@pytest.mark.parametrize("program", ["oras", "regctl"])
def test_a_cache_that_is_pushed_piece_by_piece_is_fetched_byte_for_byte(
    form: str, program: str, server: Spindle, tmp_path: Path
) -> None:
    readers = ("oras", "regctl", "crane")
    for needed in readers:
        require(needed)
    layout = Layout(tmp_path / "in")
    document, blobs = crafted(layout, form)
    ref = f"{server.registry}/buildkit/crafted-{program}:{form}"
    push(program, ref, layout, [*blobs, document])
    kept = contents(layout.directory)
    expected = [kept[one["digest"].partition(":")[2]] for one in [*blobs, document]]
    for reader in readers:
        assert fetched(reader, ref, blobs) == expected, reader


@pytest.mark.parametrize("form", ["index", "image"])
def test_a_cache_is_copied_to_another_repository(
    form: str, client: Client, server: Spindle, tmp_path: Path
) -> None:
    require("oras")
    layout = Layout(tmp_path / "in")
    document, blobs = crafted(layout, form)
    source, target = (f"buildkit/{side}/{client.program}" for side in ("source", "target"))
    refs = [f"{server.registry}/{repository}:{form}" for repository in (source, target)]
    push("oras", refs[0], layout, [*blobs, document])
    if (client.program, form) == ("skopeo", "index"):
        # It takes whatever an index names for a manifest, and is told that the layers are none.
        assert "manifest unknown" in run(*client.copy(*refs), ok=False)
        return
    run(*client.copy(*refs))
    found = reachable(server, target, form)
    assert found == reachable(server, source, form)
    assert {digest.partition(":")[2]: data for digest, data in found.items()} == contents(
        layout.directory
    )


def test_the_layers_that_an_index_names_are_no_garbage_as_long_as_it_is_there(
    tmp_path: Path,
) -> None:
    require("oras")
    layout = Layout(tmp_path / "in")
    document, blobs = crafted(layout, "index")
    data = tmp_path / "data"
    at_once = ("--set", "collect.grace=0.1", "--set", "collect.quarantine=0.1")

    def collected(digest: str) -> Callable[[], bool]:
        return lambda: f"bytes     {digest}" in run(SPINDLE, "collect", "--data", data, *at_once)

    with Spindle(data, "--set", "collect.enabled=false") as server:
        ref = f"{server.registry}/cache:v1"
        push("oras", ref, layout, [*blobs, document])
        # Pushed last, so that whatever else was garbage went before it.
        stray = layout.blob(b"nothing names this", OCI_LAYER)
        address = f"{server.registry}/cache@{stray['digest']}"
        file = layout.directory / "blobs" / "sha256" / stray["digest"].partition(":")[2]
        run("oras", "blob", "push", "--plain-http", "--no-tty", address, file)
        wait_for(collected(stray["digest"]), "what nothing names to be collected")
        assert reachable(server, "cache", "v1").keys() == {
            one["digest"] for one in (*blobs, document)
        }

        by_digest = f"{server.registry}/cache@{document['digest']}"
        run("oras", "manifest", "delete", "--plain-http", "--force", by_digest)
        wait_for(collected(blobs[0]["digest"]), "the layers to go after the cache")
