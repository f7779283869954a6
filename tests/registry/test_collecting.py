"""Garbage, as a running server and `spindle collect` deal with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import run

DATA = b"a blob that nothing refers to"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
AT_ONCE = ("--set", "collect.grace=0.2", "--set", "collect.quarantine=0.1")


def push(server: Spindle) -> Path:
    """Push the blob; where its bytes are."""
    url = f"http://{server.registry}/v2/app/blobs/uploads/?digest={DIGEST}"
    assert get(url, method="POST", data=DATA)[0] == 201
    return server.data / "blobs" / "sha256" / DIGEST[7:9] / DIGEST[7:]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_collects_while_it_runs_and_says_so(tmp_path: Path, workers: str) -> None:
    arguments = ("--workers", workers, *AT_ONCE, "--set", "collect.interval=0.05")
    with Spindle(tmp_path / "data", *arguments) as server:
        bytes_of_it = push(server)
        wait_for(lambda: not bytes_of_it.exists(), "the blob to be collected")
        # Asked only now: who asks may rely on the answer for a while.
        assert get(f"http://{server.registry}/v2/app/blobs/{DIGEST}")[0] == 404
        wait_for(lambda: "garbage collected" in server.log.read_text(), server.log.read_text)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    arguments = (*AT_ONCE, "--set", "collect.interval=0.05", "--set", "collect.enabled=false")
    with Spindle(tmp_path / "data", *arguments) as server:
        bytes_of_it = push(server)
        with pytest.raises(AssertionError):
            wait_for(lambda: not bytes_of_it.exists(), "nothing", patience=1)


def test_the_command_tells_what_would_go_and_then_lets_it_go_beside_the_server(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    command = [SPINDLE, "collect", "--data", data, *AT_ONCE]
    with Spindle(data, "--set", "collect.enabled=false") as server:
        bytes_of_it = push(server)

        def told() -> bool:
            return f"blob      app@{DIGEST}" in run(*command, "--dry-run")

        wait_for(told, "the lease to be over")
        assert "0 manifests, 1 blobs of repositories, 0 uploads and 0 bytes would go" in run(
            *command, "--dry-run"
        )
        assert bytes_of_it.exists()
        assert f"blob      app@{DIGEST}" in run(*command)
        assert get(f"http://{server.registry}/v2/app/blobs/{DIGEST}")[0] == 404
        wait_for(lambda: f"bytes     {DIGEST}" in run(*command), "the bytes to go")
        assert not bytes_of_it.exists()


def test_a_directory_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used" in run(SPINDLE, "collect", "--data", tmp_path / "file", ok=False)
