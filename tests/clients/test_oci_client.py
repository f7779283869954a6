"""The crate with which Spin's command line talks to registries.

It asks for nothing before it uploads, sends each blob in pieces of 4 MiB, ends with an empty PUT,
and writes a manifest without `mediaType`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clients.answers import manifest, tags
from tests.clients.proxy import Proxy
from tests.servers import Spindle
from tests.tools import require, run

PIECE = 4 << 20
UPLOADS = "/v2/crate/order/blobs/uploads/"


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


def test_the_crate_asks_for_nothing_sends_each_blob_in_pieces_and_the_manifest_last(
    files: list[Path], tmp_path: Path
) -> None:
    """In the order of the access log: blobs go in parallel, on as many connections."""
    with Spindle(tmp_path / "data", "--set", "log.format=json") as server:
        run("oci-client", "push", f"{server.registry}/crate/order:v1", *files)
    asked = requests(server.log, "oci-client/")

    # Does it need a token? It asks before every request, as long as the answer is no.
    assert {path for method, path in asked if method == "GET"} == {"/v2/"}
    sent = [(method, path) for method, path in asked if method != "GET"]
    assert sent[0] == ("POST", UPLOADS)
    assert sent[-1] == ("PUT", "/v2/crate/order/manifests/v1")
    assert sent.count(sent[0]) == len(files)
    sessions: dict[str, list[str]] = {}
    for method, path in sent[:-1]:
        if path != UPLOADS:
            sessions.setdefault(path, []).append(method)
    assert sorted(sessions.values()) == [
        ["PATCH", "PATCH", "PUT"],
        *[["PATCH", "PUT"]] * 3,
    ]


def test_a_piece_of_the_crate_says_its_range_and_the_last_request_of_an_upload_is_empty(
    files: list[Path], server: Spindle
) -> None:
    """The range is bare: `0-999`, where HTTP would have `bytes 0-999/*`."""
    with Proxy(server.registry) as proxy:
        run("oci-client", "push", f"{proxy.registry}/crate/pieces:v1", *files)
        pieces, ends = proxy.said("PATCH"), proxy.said("PUT", "/blobs/uploads/")
    ranges = [piece.headers["content-range"] for piece in pieces]
    assert sorted(ranges) == sorted(
        ["0-19", "0-999", *[f"0-{PIECE - 1}"] * 2, f"{PIECE}-{PIECE}"],
    )
    for piece in pieces:
        first, _, last = piece.headers["content-range"].partition("-")
        assert int(piece.headers["content-length"]) == int(last) - int(first) + 1 <= PIECE
    assert [end.headers["content-length"] for end in ends] == ["0"] * len(files)
    assert all(re.search(r"[?&]digest=sha256(:|%3A)", end.target) for end in ends)


def requests(log: Path, agent: str) -> list[tuple[str, str]]:
    """Method and path of what programs of that name asked, in the order of the answers."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [
        (line["method"], line["path"])
        for line in lines
        if line["event"] == "request" and line["agent"].startswith(agent)
    ]
