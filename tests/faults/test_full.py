"""Disks that are really full: of bytes, of inodes, of what one file may have."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.asgi import IMAGE, image
from tests.faults.disks import Ballast, CannotMount, mounted
from tests.faults.filling import fill
from tests.servers import Spindle, get, wait_for

MIB = 1 << 20
SETTINGS = (
    *("--set", "limits.reserve=8MiB", "--set", "collect.interval=0.2"),
    *("--set", "deploy.enabled=false"),
)


def cannot(error: CannotMount) -> None:
    message = f"no disk can be made here to fill: {error}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Of 48 MiB, made with the options that are the parameter."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(mounted(48 * MIB, *getattr(request, "param", ())))
        except CannotMount as error:
            cannot(error)
        yield found


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def push(server: Spindle, data: bytes) -> tuple[int, bytes]:
    target = f"/v2/app/blobs/uploads/?digest={digest_of(data)}"
    return get(f"http://{server.registry}{target}", method="POST", data=data)


def tag(server: Spindle, name: str) -> int:
    target = f"http://{server.registry}/v2/app/manifests/{name}"
    headers = {"Content-Type": IMAGE}
    return get(target, method="PUT", data=image(annotations={"is": name}), headers=headers)[0]


def pull(server: Spindle, data: bytes) -> bool:
    return get(f"http://{server.registry}/v2/app/blobs/{digest_of(data)}") == (200, data)


def delete(server: Spindle, target: str) -> int:
    return get(f"http://{server.registry}/v2/app/{target}", method="DELETE")[0]


def leftovers(data: Path) -> list[Path]:
    """Blobs whose bytes are not what their names say, and uploads that nobody can go on with."""
    blobs = data.glob("blobs/sha256/??/*")
    wrong = [path for path in blobs if digest_of(path.read_bytes())[7:] != path.name]
    return [*wrong, *(data / "uploads").iterdir()]


async def test_a_disk_that_pushes_fill_is_emptied_by_deletes_and_takes_pushes_again() -> None:
    try:
        done = await fill(cycles=2)
    except CannotMount as error:
        cannot(error)
    assert done["cycles"] == done["refused"] == 2
    assert done["given up"]
    assert done["collected bytes"] > 4 * MIB
    assert done["pulled"] > 20


@pytest.mark.parametrize(
    ("disk", "of", "workers"),
    [
        pytest.param((), "bytes", "2", id="bytes"),
        pytest.param(("-N", "1200"), "inodes", "1", id="inodes"),
    ],
    indirect=["disk"],
)
def test_on_a_full_disk_it_starts_serves_and_deletes_and_takes_pushes_when_there_is_room(
    disk: Path, of: str, workers: str, tmp_path: Path
) -> None:
    """With nothing left for others it is killed, as a helpless person does, and started again."""
    ballast = Ballast(disk)
    blob = os.urandom(100_000)
    server = Spindle(disk / "data", "--workers", workers, *SETTINGS)
    server.log = tmp_path / "log"
    with server:
        assert push(server, blob)[0] == 201
        assert [tag(server, name) for name in ("a", "b")] == [201, 201]
        server.stop()
        ballast.take_bytes() if of == "bytes" else ballast.take_inodes()
        server.start()
        status, body = push(server, os.urandom(50_000))
        assert status == 507, server.log.read_text()
        assert "disk is full" in json.loads(body)["errors"][0]["message"]
        assert pull(server, blob)
        assert delete(server, "manifests/a") == 202
        server.stop(signal.SIGKILL)
        server.start()
        assert pull(server, blob)
        listed = get(f"http://{server.registry}/v2/app/tags/list")[1]
        assert json.loads(listed)["tags"] == ["b"]
        assert delete(server, "manifests/b") == 202
        assert push(server, os.urandom(50_000))[0] == 507
        assert leftovers(disk / "data") == []
        ballast.drop()
        wait_for(lambda: push(server, os.urandom(50_000))[0] == 201, "a push to be taken again")
        assert pull(server, blob)


def test_a_file_that_may_not_be_so_large_is_refused_and_nothing_of_it_stays(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", *SETTINGS) as server:
        old, large = os.urandom(100_000), os.urandom(2 * MIB)
        assert push(server, old)[0] == 201
        [pid] = server.processes
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
        status, body = push(server, large)
        assert status == 507
        assert json.loads(body)["errors"]
        assert leftovers(server.data) == []
        assert pull(server, old)
        assert push(server, os.urandom(100_000))[0] == 201
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        assert push(server, large)[0] == 201
        assert pull(server, large)
