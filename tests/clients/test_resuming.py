"""A connection that breaks once, in the middle of a blob: what each client makes of it.

Some go on, some begin again, some give up until they are run once more. Whichever it is, nothing
half is ever seen, and in the end everything is there byte for byte.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.answers import layers
from tests.clients.proxy import Exchange, Proxy
from tests.clients.test_engines import ENGINES, Engine, archive_of, diff_ids, started
from tests.clients.test_round_trips import CLIENTS, Client
from tests.layouts import Layout, archived_layers, contents
from tests.servers import Spindle, get
from tests.tools import run

# Blobs of each client's own: one that is there already would be mounted, and nothing sent.
SIZE = 3_000_000
MIDDLE = 1_500_000
MIDDLE_OF_A_FILE = 40_000  # of the 70,000 bytes that a layer of `Layout.filesystem` has

RETRY_UPLOADS = {"crane", "regctl", "docker"}
RESUME_DOWNLOADS = {"docker"}
"""However the connection ends. containerd does too, unless the end takes with it what it read."""


def attempts(*command: str | Path) -> int:
    """Run it until it succeeds, which must be the second time; how often that was."""
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=60)
    if done.returncode == 0:
        return 1
    run(*command)
    return 2


def test_a_push_that_broke_off_is_whole_in_the_end(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=2100 + CLIENTS.index(client), layers=1, size=SIZE), "v1")
    repository = f"broken/{client.program}"
    with Proxy(server.registry) as proxy:
        proxy.cut_uploads_after(MIDDLE)
        ref = f"{proxy.registry}/{repository}:v1"
        tried = attempts(*client.copy_in(layout.directory, "v1", ref))
        assert proxy.cuts == 1
    if client.program in RETRY_UPLOADS:
        assert tried == 1
    run(*client.copy_out(f"{server.registry}/{repository}:v1", tmp_path / "out"))
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()


def test_a_pull_that_broke_off_is_whole_in_the_end(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=2200 + CLIENTS.index(client), layers=1, size=SIZE), "v1")
    repository = f"broken/pulls/{client.program}"
    run(*client.copy_in(layout.directory, "v1", f"{server.registry}/{repository}:v1"))
    with Proxy(server.registry) as proxy:
        proxy.cut_downloads_after(MIDDLE)
        attempts(*client.copy_out(f"{proxy.registry}/{repository}:v1", tmp_path / "out"))
        assert proxy.cuts == 1
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()


def test_an_engine_gets_over_a_push_that_broke_off(
    engine: Engine, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    expected = diff_ids(
        layout, layout.tag(layout.filesystem(seed=2300 + ENGINES.index(engine), layers=1), "v1")
    )
    repository = f"broken/engines/{engine.program}"
    with started(engine) as command, Proxy(server.registry) as proxy:
        ref = f"{proxy.registry}/{repository}:v1"
        command(engine.load(archive_of(engine, layout, "v1", ref, tmp_path), ref))
        proxy.cut_uploads_after(MIDDLE_OF_A_FILE)
        try:
            command(engine.push(ref))
        except pytest.fail.Exception:
            assert engine.program not in RETRY_UPLOADS
            assert get(f"http://{server.registry}/v2/{repository}/manifests/v1")[0] == 404
            command(engine.push(ref))
        assert proxy.cuts == 1
        command(engine.remove(ref))
        command(engine.pull(ref))
        command(engine.save(ref, tmp_path / "saved.tar"))
    assert archived_layers(tmp_path / "saved.tar") == expected


def test_an_engine_gets_over_a_pull_that_broke_off(
    engine: Engine, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    expected = diff_ids(
        layout, layout.tag(layout.filesystem(seed=2400 + ENGINES.index(engine), layers=1), "v1")
    )
    repository = f"broken/engines/pulls/{engine.program}"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout.directory}:v1"),
        f"docker://{server.registry}/{repository}:v1",
    )
    [layer] = layers(server, repository, "v1")
    with started(engine) as command, Proxy(server.registry) as proxy:
        ref = f"{proxy.registry}/{repository}:v1"
        proxy.cut_downloads_after(MIDDLE_OF_A_FILE)
        try:
            command(engine.pull(ref))
        except pytest.fail.Exception:
            assert engine.program not in RESUME_DOWNLOADS
            command(engine.pull(ref))
        assert proxy.cuts == 1
        command(engine.save(ref, tmp_path / "saved.tar"))
        resumed = [asked for asked in proxy.said("GET", layer) if _goes_on(asked)]
    assert archived_layers(tmp_path / "saved.tar") == expected
    assert {asked.status for asked in resumed} <= {206}
    if engine.program in RESUME_DOWNLOADS:
        assert len(resumed) == 1


def _goes_on(asked: Exchange) -> bool:
    """Whether it asks for the rest of what came."""
    asked_for = asked.headers.get("range", "")
    return asked_for.startswith("bytes=") and not asked_for.startswith("bytes=0-")
