"""The crate with which Spin's command line talks to registries.

It asks for nothing before it uploads, sends each blob in pieces of 4 MiB, ends with an empty PUT,
and writes a manifest without `mediaType`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clients.answers import manifest, tags
from tests.servers import Spindle
from tests.tools import require, run

PIECE = 4 << 20


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A config, and layers of less than a piece, of exactly one, and of one and a byte."""
    require("oci-client")
    noise = random.Random(9)
    (tmp_path / "config.json").write_bytes(b'{"entrypoint": null}')
    for name, size in ("small", 1000), ("even", PIECE), ("odd", PIECE + 1):
        (tmp_path / name).write_bytes(noise.randbytes(size))
    return [tmp_path / name for name in ("config.json", "small", "even", "odd")]


def pulled(ref: str, into: Path) -> set[Path]:
    run("oci-client", "pull", ref, into)
    return set(into.iterdir())


def contents(files: Iterable[Path]) -> list[bytes]:
    return sorted(path.read_bytes() for path in files)


def test_what_the_crate_pushes_in_pieces_it_pulls_byte_for_byte_and_copies_on(
    files: list[Path], server: Spindle, tmp_path: Path
) -> None:
    ref = f"{server.registry}/crate/app:v1"
    location = run("oci-client", "push", ref, *files)
    # Spin reads the digest off the end of this address, and prints it.
    assert "/v2/crate/app/manifests/sha256:" in location
    out = pulled(ref, tmp_path / "out")
    assert contents(out) == contents(files)

    config = tmp_path / "out" / "config"
    copy = f"{server.registry}/crate/copy:v1"
    run("oci-client", "push", copy, config, *(out - {config}))
    assert contents(pulled(copy, tmp_path / "copy")) == contents(files)


def test_the_crate_writes_no_media_type_and_lists_the_tags_it_pushed(
    files: list[Path], server: Spindle
) -> None:
    name = f"{server.registry}/crate/tags"
    for tag in ("v1", "v2"):
        run("oci-client", "push", f"{name}:{tag}", *files[:2])
    assert "mediaType" not in manifest(server, "crate/tags", "v1")
    assert run("oci-client", "tags", name).split() == tags(server, "crate/tags") == ["v1", "v2"]
