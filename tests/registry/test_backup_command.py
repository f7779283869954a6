"""`spindle backup` and `spindle restore`, as people call them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.signed_in import OWNER, SignedIn, basic


def spindle(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SPINDLE, *words], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def digest(scratch: Path) -> str:
    """Of an application that was live when it was backed up, twice."""
    with Spindle(scratch / "data") as server:
        assert spindle("demo", "--server", f"http://{server.registry}").returncode == 0
        words = ["apps", "set", "--server", f"http://{server.registry}", "acme/hello"]
        assert spindle(*words, "colour=green").returncode == 0
        for _ in range(2):
            done = spindle("backup", scratch / "backups", "--data", server.data)
            assert (done.returncode, done.stderr) == (0, "")
        return str(server.app("acme/hello")["live"]["digest"])


def snapshots(target: Path) -> list[str]:
    done = spindle("backup", "--list", target)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^[0-9]{8}T[0-9.]+Z-[0-9a-f]{8}", done.stdout, re.MULTILINE)


def test_what_was_live_is_live_again_on_another_machine(scratch: Path, digest: str) -> None:
    """Its settings, too; and nobody waits for the deployer that was."""
    done = spindle("restore", scratch / "backups", "--data", scratch / "restored")
    assert (done.returncode, done.stderr) == (0, "")
    with Spindle(scratch / "restored") as server:
        server.wait_live("acme/hello", digest)
        wait_for(lambda: server.ask("hello.acme.localhost")[0] == 200, "the app to answer")
        assert server.ask("hello.acme.localhost") == (200, b"Hello from Spindle\n")
        _, settings = get(f"http://{server.registry}/v1/apps/acme/hello/_settings")
        assert json.loads(settings)["variables"] == ["colour"]


def test_who_may_do_what_is_the_same_afterwards(tmp_path: Path) -> None:
    with SignedIn(tmp_path / "data") as server:
        done = spindle("backup", tmp_path / "backups", "--data", server.data)
        assert (done.returncode, done.stderr) == (0, "")
    done = spindle("restore", tmp_path / "backups", "--data", tmp_path / "restored")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("policy.toml", "htpasswd"):
        assert (tmp_path / "restored" / name).read_text() == (server.data / name).read_text()
    with SignedIn(tmp_path / "restored") as server:
        assert server.get("/v2/_catalog")[0] == 200
        server.headers = {"Authorization": basic((OWNER[0], "wrong"))}
        assert server.get("/v2/_catalog")[0] == 401


@pytest.mark.usefixtures("digest")
def test_nothing_is_restored_over_a_data_directory(scratch: Path) -> None:
    done = spindle("restore", scratch / "backups", "--data", scratch / "data")
    assert done.returncode == 2
    assert "is a data directory already" in done.stderr


@pytest.mark.usefixtures("digest")
def test_snapshots_are_listed_chosen_and_removed(scratch: Path, tmp_path: Path) -> None:
    first, second = snapshots(scratch / "backups")
    words = ["restore", scratch / "backups", "--data", tmp_path / "one", "--snapshot"]
    done = spindle(*words, first)
    assert first in done.stdout
    done = spindle(*words, "none")
    assert (done.returncode, "no snapshot 'none'" in done.stderr) == (2, True)
    words = ["backup", scratch / "backups", "--data", scratch / "data", "--keep", "2"]
    done = spindle(*words)
    assert f"removed   {first}" in done.stdout
    assert snapshots(scratch / "backups")[0] == second


@pytest.mark.usefixtures("digest")
def test_damage_is_said_by_the_exit_status(scratch: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups"
    assert spindle("backup", target, "--data", scratch / "data").returncode == 0
    assert spindle("backup", "--verify", target).returncode == 0
    blob = next(target.glob("blobs/*/??/*"))
    blob.chmod(0o600)
    blob.write_bytes(b"something else")
    done = spindle("backup", "--verify", target)
    assert (done.returncode, blob.name in done.stdout) == (1, True)
    done = spindle("restore", target, "--data", tmp_path / "restored")
    assert (done.returncode, blob.name in done.stdout) == (1, True)


@pytest.mark.usefixtures("digest")
def test_damage_in_the_store_is_said_too(scratch: Path, tmp_path: Path) -> None:
    spindle("restore", scratch / "backups", "--data", tmp_path / "data")
    blob = next((tmp_path / "data").glob("blobs/*/??/*"))
    blob.unlink()
    done = spindle("backup", tmp_path / "backups", "--data", tmp_path / "data")
    assert (done.returncode, f"{blob.name}  its bytes are gone" in done.stdout) == (1, True)
    assert "lacks 1 blobs" in spindle("backup", "--list", tmp_path / "backups").stdout


def test_a_data_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("typo", "empty"):
        for words in (["backup"], ["export", "acme/shop"]):
            done = spindle(*words, tmp_path / "out", "--data", tmp_path / name)
            assert (done.returncode, "is no data directory" in done.stderr) == (2, True)
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(tmp_path / "empty") == []


@pytest.mark.usefixtures("digest")
def test_a_data_directory_is_not_backed_up_into_itself(scratch: Path) -> None:
    for target in (scratch / "data", scratch / "data" / "backups"):
        done = spindle("backup", target, "--data", scratch / "data")
        assert (done.returncode, "outside of it" in done.stderr) == (2, True)


def test_records_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "layout.json").write_text('{"layout": 1}')
    (tmp_path / "data" / "records.db").write_bytes(b"nothing of SQLite" * 1000)
    done = spindle("backup", tmp_path / "backups", "--data", tmp_path / "data")
    assert (done.returncode, done.stderr) == (2, "spindle: file is not a database\n")


def test_what_is_no_directory_of_backups_is_said(tmp_path: Path) -> None:
    for words in (["backup", "--list"], ["backup", "--verify"], ["restore"]):
        done = spindle(*words, tmp_path)
        assert (done.returncode, "no directory of backups" in done.stderr) == (2, True)


def test_no_server_starts_on_what_is_half_restored(tmp_path: Path) -> None:
    (tmp_path / "restore.json").write_text('{"layout": 1}')
    tmp_path.chmod(0o700)
    done = spindle("serve", "--data", tmp_path, "--listen", "127.0.0.1:0")
    assert (done.returncode, "run the same `spindle restore` again" in done.stderr) == (2, True)
