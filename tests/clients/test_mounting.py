"""Copies between repositories: the clients that can mount move no bytes of layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.proxy import Proxy
from tests.clients.test_engines import ENGINES, Engine, archive_of, started
from tests.clients.test_round_trips import CLIENTS, Client
from tests.layouts import Layout, contents
from tests.servers import Spindle
from tests.tools import run

MOUNT = {"crane", "regctl", "oras"}
"""skopeo mounts from a host and port where it has seen a blob before, which this one is not."""


def test_a_copy_to_another_repository_is_mounted(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=3100 + CLIENTS.index(client), layers=3), "v1")
    source, target = f"mounted/from/{client.program}", f"mounted/to/{client.program}"
    run(*client.copy_in(layout.directory, "v1", f"{server.registry}/{source}:v1"))
    with Proxy(server.registry) as proxy:
        run(*client.copy(f"{proxy.registry}/{source}:v1", f"{proxy.registry}/{target}:v1"))
        mounts = proxy.said("POST", r"[?&]mount=")
        uploads = [*proxy.said("PUT", "/blobs/"), *proxy.said("PATCH", "/blobs/")]
    if client.program in MOUNT:
        assert len(mounts) >= 3
        assert {asked.status for asked in mounts} == {201}
        assert uploads == []
    run(*client.copy_out(f"{server.registry}/{target}:v1", tmp_path / "out"))
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()


@pytest.mark.parametrize(
    "engine",
    [engine for engine in ENGINES if engine.program in ("docker", "podman", "ctr")],
    ids=lambda engine: engine.program,
    indirect=True,
)
def test_an_engine_mounts_what_it_pulled_from_another_repository(
    engine: Engine, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.filesystem(seed=3200 + ENGINES.index(engine)), "v1")
    with started(engine) as command, Proxy(server.registry) as proxy:
        first = f"{proxy.registry}/mounted/first/{engine.program}:v1"
        second = f"{proxy.registry}/mounted/second/{engine.program}:v1"
        command(engine.load(archive_of(engine, layout, "v1", first, tmp_path), first))
        command(engine.push(first))
        command(engine.remove(first))
        command(engine.pull(first))
        command(engine.retag(first, second))
        command(engine.push(second))
        mounts = proxy.said("POST", rf"/mounted/second/{engine.program}/.*[?&]mount=")
    assert [asked.status for asked in mounts if "from=" in asked.target][:2] == [201, 201]
