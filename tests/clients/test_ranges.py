"""Clients that ask for parts of a blob: some of them, or all at the same time."""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.answers import layers, manifest
from tests.clients.proxy import Proxy
from tests.clients.test_engines import ENGINES, PART, archive_of, diff_ids, started
from tests.layouts import Layout, archived_layers
from tests.servers import Spindle
from tests.tools import require, run

Words = list[str | Path]


def test_containerd_fetches_a_layer_in_parts_at_the_same_time(
    server: Spindle, tmp_path: Path
) -> None:
    """Each from its own offset to the end, where it hangs up early: it has that part already."""
    [engine] = [engine for engine in ENGINES if engine.program == "ctr-2"]
    for program in (*engine.needs, "skopeo"):
        require(program)
    layout = Layout(tmp_path / "in")
    size = 3 * PART + 1000
    digest = layout.tag(layout.filesystem(seed=81, layers=1, size=size), "v1")
    repository = "ranges/containerd"
    run(
        *("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout.directory}:v1"),
        f"docker://{server.registry}/{repository}:v1",
    )
    [layer] = layers(server, repository, "v1")
    with started(engine) as command, Proxy(server.registry) as proxy:
        ref = f"{proxy.registry}/{repository}:v1"
        command(engine.pull(ref))
        command(engine.save(ref, tmp_path / "saved.tar"))
        asked = [(one.headers["range"], one.status) for one in proxy.said("GET", layer)]
    assert sorted(asked) == [(f"bytes={at * PART}-", 206) for at in range(4)]
    assert archived_layers(tmp_path / "saved.tar") == diff_ids(layout, digest)


@contextmanager
def partial_podman() -> Iterator[Words]:
    """One that fetches of a layer only the files that it does not have: its command line."""
    require("podman")
    with tempfile.TemporaryDirectory(prefix="spindle-") as path:
        home = Path(path)
        config = home / "storage.conf"
        config.write_text(
            f"""
            [storage]
            driver = "overlay"
            graphroot = "{home}/root"
            runroot = "{home}/run"
            [storage.options]
            pull_options = {{enable_partial_images = "true", use_hard_links = "false"}}
            """
        )
        podman: Words = ["env", f"CONTAINERS_STORAGE_CONF={config}", "podman"]
        tried = subprocess.run([*podman, "info"], capture_output=True, text=True)
        if tried.returncode != 0:
            # No tool is missing: the kernel or the file system has no overlay.
            pytest.skip(f"no other driver pulls in part: {tried.stderr}")
        try:
            yield podman
        finally:
            # podman mounts its directory upon itself, and leaves it so.
            subprocess.run(["umount", home / "root" / "overlay"], capture_output=True)


def test_podman_fetches_only_the_files_that_it_lacks_in_one_request(
    server: Spindle, tmp_path: Path
) -> None:
    """As many ranges as files, answered as multipart/byteranges: what zstd:chunked is for."""
    noise = random.Random(82)
    old, new = ({f"file-{at}": noise.randbytes(70_000) for at in range(6)} for _ in range(2))
    new |= {name: old[name] for name in ("file-1", "file-3", "file-5")}
    repository = "ranges/podman"
    [engine] = [engine for engine in ENGINES if engine.program == "podman"]
    require("skopeo")
    with partial_podman() as podman, Proxy(server.registry) as proxy:
        for tag, files in ("old", old), ("new", new):
            layout = Layout(tmp_path / tag)
            layout.tag(layout.files(files), "v1")
            ref = f"{server.registry}/{repository}:{tag}"
            archive = archive_of(engine, layout, "v1", ref, tmp_path / tag)
            run(*podman, "load", "--input", archive)
            run(
                *(*podman, "push", "--tls-verify=false", "--format=oci"),
                *("--compression-format=zstd:chunked", ref),
            )
            run(*podman, "rmi", ref)
        [layer] = manifest(server, repository, "new")["layers"]
        assert layer["mediaType"].endswith("+zstd")
        for tag in ("old", "new"):
            id = run(*podman, "pull", "--tls-verify=false", f"{proxy.registry}/{repository}:{tag}")
        asked = proxy.said("GET", layer["digest"])
        mounted = Path(run(*podman, "image", "mount", id.split()[-1]).strip())
        try:
            found = {name: (mounted / name).read_bytes() for name in new}
        finally:
            run(*podman, "image", "unmount", "--all")
    assert [one.status for one in asked] == [206, 206]  # the table of contents, and the files
    assert re.fullmatch(r"bytes=\d+-\d+,\d+-\d+,\d+-\d+", asked[1].headers["range"])
    assert found == new
