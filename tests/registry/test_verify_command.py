"""Verification, as a running server, `spindle verify` and clients see it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import run

DATA = b"a blob in which a bit will flip" * 100
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": TYPE,
        "config": {"mediaType": "a/b", "digest": DIGEST, "size": len(DATA)},
        "layers": [],
    }
).encode()
QUIET = ("--set", "verify.enabled=false", "--set", "collect.enabled=false")


def push(server: Spindle) -> Path:
    """Push an image as app:latest; where the bytes of its only blob are."""
    url = f"http://{server.registry}/v2/app/blobs/uploads/?digest={DIGEST}"
    assert get(url, method="POST", data=DATA)[0] == 201
    url = f"http://{server.registry}/v2/app/manifests/latest"
    assert get(url, method="PUT", data=MANIFEST, headers={"Content-Type": TYPE})[0] == 201
    return server.data / "blobs" / "sha256" / DIGEST[7:9] / DIGEST[7:]


def flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def spoil_manifest(data: Path) -> None:
    """A bit of its body flips, and its seal does not cover that."""
    connection = sqlite3.connect(data / "records.db", isolation_level=None)
    connection.execute("DROP TRIGGER seal_update_manifests")
    connection.execute("UPDATE manifests SET body = ?", [MANIFEST.replace(b"a/b", b"a/c")])
    connection.close()


def test_nothing_wrong_is_said_in_figures_beside_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Spindle(data, *QUIET) as server:
        push(server)
        said = run(SPINDLE, "verify", "--data", data, "--read-data")
    assert f"1 blobs, {len(DATA)} bytes, 1 manifests and" in said
    assert "no findings, 0 blobs without a repository" in said


def test_a_flipped_bit_is_found_beside_the_server_and_a_push_heals_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Spindle(data, "--workers", "2", *QUIET) as server:
        url = f"http://{server.registry}/v2/app/blobs/{DIGEST}"
        flip(push(server))
        run(SPINDLE, "verify", "--data", data)
        said = run(SPINDLE, "verify", "--data", data, "--read-data", ok=False)
        assert f"lost    blob {DIGEST}: its bytes are not what they were; push it again" in said
        assert "1 findings" in said
        assert get(url)[0] == 500
        assert get(url, method="HEAD")[0] == 404
        mount = f"http://{server.registry}/v2/other/blobs/uploads/?mount={DIGEST}&from=app"
        assert get(mount, method="POST", data=b"")[0] == 202
        push(server)
        assert get(url) == (200, DATA)
        assert get(url, method="HEAD")[0] == 200
        run(SPINDLE, "verify", "--data", data, "--read-data")


def test_a_read_that_finds_wrong_bytes_is_broken_off_and_the_next_is_an_error(
    tmp_path: Path,
) -> None:
    with Spindle(tmp_path / "data", *QUIET) as server:
        url = f"http://{server.registry}/v2/app/blobs/{DIGEST}"
        flip(push(server))
        assert get(url)[1] != DATA
        assert get(url, method="HEAD")[0] == 404
        assert get(url)[0] == 500
        assert "not what they were" in server.log.read_text()


def test_a_damaged_manifest_is_not_served_and_stops_the_collector(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = ("--set", "collect.interval=0.05", "--set", "verify.enabled=false")
    with Spindle(data, *settings) as server:
        url = f"http://{server.registry}/v2/app/manifests/latest"
        push(server)
        spoil_manifest(data)
        assert get(url)[0] == 500
        assert get(url, method="HEAD")[0] == 404
        wait_for(lambda: "no garbage is collected" in server.log.read_text(), server.log.read_text)
        refused = run(SPINDLE, "collect", "--data", data, ok=False)
        assert "nothing is collected: manifest app@sha256:" in refused
        assert "push it again" in refused
        push(server)
        assert get(url) == (200, MANIFEST)
        wait_for(lambda: "collected again" in server.log.read_text(), server.log.read_text)
        run(SPINDLE, "collect", "--data", data)
        assert server.log.read_text().count("no garbage is collected") == 1


def test_a_server_verifies_while_it_runs_and_tells_each_finding_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = ("--set", "verify.interval=0.05", "--set", "verify.rate=0", "--workers", "2")
    with Spindle(data, *settings) as server:
        flip(push(server))

        def passes() -> int:
            return server.log.read_text().count("all that is kept was verified")

        told = "something kept is wrong"
        wait_for(lambda: told in server.log.read_text(), server.log.read_text)
        before = passes()
        wait_for(lambda: passes() > before + 3, server.log.read_text)
        # Once by what it was, and once by what is known of it.
        assert 1 <= server.log.read_text().count(told) <= 2
        assert get(f"http://{server.registry}/v2/app/blobs/{DIGEST}", method="HEAD")[0] == 404


def test_a_run_with_a_limit_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Spindle(data, *QUIET) as server:
        push(server)
    said = run(SPINDLE, "verify", "--data", data, "--max-duration", "0")
    assert "0 blobs" in said
    assert "the next run with --max-duration goes on here" in said
    assert "1 blobs" in run(SPINDLE, "verify", "--data", data, "--max-duration", "1000")


def test_a_database_that_cannot_be_opened_is_a_finding(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Spindle(data, *QUIET) as server:
        push(server)
    file = data / "records.db"
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])
    assert "restore them from a backup" in run(SPINDLE, "verify", "--data", data, ok=False)


@pytest.mark.parametrize("seconds", ["-1", "soon"])
def test_a_duration_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    run(SPINDLE, "verify", "--data", tmp_path / "data", "--max-duration", seconds, ok=False)
