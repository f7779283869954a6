"""What systemd is told."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.notify import Notify
from tests.servers import Spindle, get, wait_for


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.settimeout(60)
        yield there


def test_the_start_a_reload_and_the_stop_of_a_server_are_told(
    told: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with Spindle(tmp_path / "data") as server:
        assert told.recv(999) == b"READY=1"
        os.kill(server.pid, signal.SIGHUP)
        state, when = told.recv(999).decode().split("\n")
        assert state == "RELOADING=1"
        assert when.removeprefix("MONOTONIC_USEC=").isdecimal()
        assert told.recv(999) == b"READY=1"
        server.stop()
        assert told.recv(999) == b"STOPPING=1"


def test_the_watchdog_is_fed_twice_as_often_as_it_barks(
    told: socket.socket, tmp_path: Path
) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000"})
    for now in (100, 105, 109.9, 110, 112, 120):
        notify.alive(now)
    told.settimeout(0)
    assert [told.recv(999) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        told.recv(999)


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}],
)
def test_nobody_is_told_what_nobody_asked_for(
    told: socket.socket, tmp_path: Path, environment: dict[str, str]
) -> None:
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environment})
    notify.alive(100)
    Notify({}).ready()
    told.settimeout(0)
    with pytest.raises(BlockingIOError):
        told.recv(999)


def test_a_socket_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_a_server_that_has_to_stop_says_so_before_it_does(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "registry.notice=5") as server:
        ready = f"http://{server.registry}/readyz"
        assert get(ready)[0] == 200
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: get(ready)[0] == 503, "a server that stops to be not ready")
        assert get(f"http://{server.registry}/v2/")[0] == 200
