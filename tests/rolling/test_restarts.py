"""The short form of `scripts/rolling`, and what becomes of settings."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rolling.restarts import restart, restarts, said
from tests.servers import Spindle, get, wait_for


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_fails_while_a_server_is_restarted(tmp_path: Path, workers: str) -> None:
    """Pushes, pulls and an application's answers, on kept connections and on new ones."""
    tally, _ = restarts(tmp_path / "data", 3, *("--workers", workers, "--set", "registry.drain=10"))
    assert tally.failed == []
    assert len(tally.done) == 11, "some sort of request was never made"


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[tuple[Spindle, Path]]:
    file = tmp_path / "spindle.toml"
    file.write_text("")
    with Spindle(tmp_path / "data", "--config", str(file)) as server:
        yield server, file


def test_settings_are_read_again(configured: tuple[Spindle, Path]) -> None:
    server, file = configured
    path = f"http://{server.registry}/v2/app/manifests/v1"
    assert get(path, method="PUT", data=bytes(100))[0] == 400
    before, supervisor = server.processes, server.pid
    file.write_text("[limits]\nmanifest = 50")
    restart(server)
    wait_for(lambda: not set(before) & set(server.processes), "the old process to end")
    assert get(path, method="PUT", data=bytes(100))[0] == 413
    assert server.pid == supervisor


@pytest.mark.parametrize("text", ["[limits]\nmanifest = 'much'", "[limits", "unknown = 1"])
def test_bad_settings_are_told_and_nothing_restarts(
    configured: tuple[Spindle, Path], text: str
) -> None:
    server, file = configured
    before = server.processes
    file.write_text(text)
    os.kill(server.pid, signal.SIGHUP)
    event = "the settings are not taken, and nothing restarts"
    wait_for(lambda: said(server, event) == 1, "the settings to be refused")
    assert server.processes == before
    assert get(f"http://{server.registry}/v2/")[0] == 200
    file.write_text("")
    restart(server)


def test_a_resting_connection_is_answered_once_more_and_told_that_it_was_the_last(
    configured: tuple[Spindle, Path],
) -> None:
    server, _ = configured
    [old] = server.processes
    connection = http.client.HTTPConnection(server.registry, timeout=60)
    connection.request("GET", "/v2/")
    first = connection.getresponse()
    first.read()
    assert first.getheader("Connection") is None
    restart(server)
    wait_for(lambda: said(server, "retiring") == 1, "the old process to be told")
    assert old in server.processes, "it still has a client"
    connection.request("GET", "/v2/")
    last = connection.getresponse()
    assert (last.status, last.read(), last.getheader("Connection")) == (200, b"{}", "close")
    connection.close()
    wait_for(lambda: old not in server.processes, "the old process to end with its last client")


def test_an_upload_goes_on_with_the_next_process(configured: tuple[Spindle, Path]) -> None:
    server, _ = configured
    connection = http.client.HTTPConnection(server.registry, timeout=60)
    connection.request("POST", "/v2/app/blobs/uploads/")
    begun = connection.getresponse()
    begun.read()
    where = begun.getheader("Location")
    assert where is not None
    restart(server)
    connection.close()
    assert get(f"http://{server.registry}{where}", method="PATCH", data=bytes(10))[0] == 202


def test_a_stop_in_the_middle_of_a_restart_stops_all(configured: tuple[Spindle, Path]) -> None:
    server, _ = configured
    connection = http.client.HTTPConnection(server.registry, timeout=60)
    connection.request("GET", "/v2/")
    connection.getresponse().read()
    restart(server)
    os.kill(server.pid, signal.SIGHUP)
    assert server.stop() == 0
    connection.close()
