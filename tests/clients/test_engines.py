"""Container engines: they keep layers unpacked, so what comes back is compared tar for tar."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.answers import layers
from tests.layouts import Layout, archived_layers
from tests.servers import PATIENCE, Spindle, wait_for
from tests.tools import require, run

Words = list[str | Path]

PART = 1 << 20  # bytes of a layer that containerd asks for at a time


@dataclass(frozen=True)
class Engine:
    """The command lines of one program; `ref` is HOST/REPOSITORY:TAG."""

    program: str
    needs: list[str]
    start: Callable[[Path], AbstractContextManager[Words]]
    """Given a directory of its own, the words each command begins with."""
    load: Callable[[Path, str], Words]
    """archive, ref"""
    push: Callable[[str], Words]
    pull: Callable[[str], Words]
    retag: Callable[[str, str], Words]
    remove: Callable[[str], Words]
    """of the engine's own copy"""
    save: Callable[[str, Path], Words]
    oci_archive: bool = False
    """`load` wants a layout in a tar, not what `docker save` writes."""


def in_directory(program: str) -> Callable[[Path], AbstractContextManager[Words]]:
    @contextmanager
    def start(home: Path) -> Iterator[Words]:
        yield [
            *(program, "--root", home / "root", "--runroot", home / "run"),
            *("--storage-driver", "vfs"),
        ]

    return start


@contextmanager
def daemon(
    command: Words, socket: Path, ask: Words, ready: tuple[str, ...] = ("version",)
) -> Iterator[Words]:
    """Run a daemon until the block ends; it is there once `ask` can tell what `ready` asks for."""
    log = socket.with_name("log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for(
            lambda: subprocess.run([*ask, *ready], capture_output=True).returncode == 0,
            lambda: f"{command[0]} to answer:\n{log.read_text()}",
        )
        yield ask
    finally:
        process.terminate()
        process.wait(PATIENCE)


def dockerd(home: Path) -> AbstractContextManager[Words]:
    socket = home / "docker.sock"
    return daemon(
        [
            *("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none"),
            *("--storage-driver=vfs", "--data-root", home / "data", "--exec-root", home / "exec"),
            *("--pidfile", home / "pid", "--host", f"unix://{socket}"),
        ],
        socket,
        ["docker", "--config", home / "config", "--host", f"unix://{socket}"],
    )


def containerd(version: str) -> Callable[[Path], AbstractContextManager[Words]]:
    """One whose programs are called with `version` behind their names."""

    def start(home: Path) -> AbstractContextManager[Words]:
        socket = home / "sock"
        config = home / "config.toml"
        config.write_text(
            f"""
            version = 2
            root = "{home}/root"
            state = "{home}/state"
            disabled_plugins = ["io.containerd.grpc.v1.cri"]
            [grpc]
            address = "{socket}"
            [ttrpc]
            address = "{home}/ttrpc"
            # What follows is for version 2, which would not fetch a blob in parts by itself.
            [plugins."io.containerd.transfer.v1.local"]
            concurrent_layer_fetch_buffer = {PART}
            [[plugins."io.containerd.transfer.v1.local".unpack_config]]
            platform = "linux/amd64"
            snapshotter = "native"
            """
        )
        return daemon(
            [f"containerd{version}", "--config", config],
            socket,
            [f"ctr{version}", "--address", socket],
        )

    return start


def containerd_engine(version: str = "", *export: str) -> Engine:
    return Engine(
        f"ctr{version}",
        [f"ctr{version}", f"containerd{version}"],
        containerd(version),
        lambda archive, ref: [
            *("images", "import", "--no-unpack", "--base-name", ref.rpartition(":")[0], archive),
        ],
        lambda ref: ["images", "push", "--plain-http", ref],
        lambda ref: ["images", "pull", "--plain-http", "--snapshotter", "native", ref],
        lambda ref, new: ["images", "tag", ref, new],
        lambda ref: ["images", "rm", "--sync", ref],
        lambda ref, archive: ["images", "export", *export, archive, ref],
        oci_archive=True,
    )


ENGINES = [
    Engine(
        "podman",
        ["podman"],
        in_directory("podman"),
        lambda archive, ref: ["load", "--input", archive],
        lambda ref: ["push", "--tls-verify=false", ref],
        lambda ref: ["pull", "--tls-verify=false", ref],
        lambda ref, new: ["tag", ref, new],
        lambda ref: ["rmi", ref],
        lambda ref, archive: ["save", "--output", archive, ref],
    ),
    Engine(
        "buildah",
        ["buildah"],
        in_directory("buildah"),
        lambda archive, ref: ["pull", f"docker-archive:{archive}"],
        lambda ref: ["push", "--tls-verify=false", ref],
        lambda ref: ["pull", "--tls-verify=false", ref],
        lambda ref, new: ["tag", ref, new],
        lambda ref: ["rmi", ref],
        lambda ref, archive: ["push", ref, f"docker-archive:{archive}:{ref}"],
    ),
    Engine(
        "docker",
        ["docker", "dockerd"],
        dockerd,
        lambda archive, ref: ["load", "--input", archive],
        lambda ref: ["push", ref],
        lambda ref: ["pull", ref],
        lambda ref, new: ["tag", ref, new],
        lambda ref: ["rmi", ref],
        lambda ref, archive: ["save", "--output", archive, ref],
    ),
    containerd_engine(),
    # Otherwise it leaves while the daemon still writes the archive, and cuts it short at times.
    containerd_engine("-2", "--local"),
]


@contextmanager
def started(engine: Engine) -> Iterator[Callable[[Words], str]]:
    """Runs commands of the engine, with storage of its own."""
    # Not pytest's directory: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="spindle-") as home, engine.start(Path(home)) as words:
        yield lambda command: run(*words, *command)


def archive_of(engine: Engine, layout: Layout, tag: str, ref: str, into: Path) -> Path:
    """What the engine can load, holding that image under that name."""
    archive = into / "loaded.tar"
    if engine.oci_archive:
        with tarfile.open(archive, "w") as tar:
            tar.add(layout.directory, ".")
    else:
        run("skopeo", "copy", f"oci:{layout.directory}:{tag}", f"docker-archive:{archive}:{ref}")
    return archive


def diff_ids(layout: Layout, manifest: str) -> list[str]:
    config = json.loads(layout.path(manifest).read_bytes())["config"]
    found: list[str] = json.loads(layout.path(config["digest"]).read_bytes())["rootfs"]["diff_ids"]
    return found


def test_an_engine_gets_back_the_files_it_pushed_and_copies_them_on(
    engine: Engine, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    digest = layout.tag(layout.filesystem(seed=6), "v1")
    expected = diff_ids(layout, digest)
    first = f"{server.registry}/engine/{engine.program}:v1"
    second = f"{server.registry}/moved/{engine.program}:v1"
    with started(engine) as command:
        command(engine.load(archive_of(engine, layout, "v1", first, tmp_path), first))
        command(engine.push(first))
        command(engine.retag(first, second))
        command(engine.push(second))
        # The engine has nothing left: all that it saves, it was given by the registry.
        command(engine.remove(first))
        command(engine.remove(second))
        for name, ref in ("first", first), ("second", second):
            command(engine.pull(ref))
            command(engine.save(ref, tmp_path / f"{name}.tar"))
            command(engine.remove(ref))
            assert archived_layers(tmp_path / f"{name}.tar") == expected
    copied = layers(server, f"moved/{engine.program}", "v1")
    assert copied == layers(server, f"engine/{engine.program}", "v1")
    if engine.oci_archive:
        # Not only the tars: containerd keeps what it was given, and its manifest too.
        assert layers(server, f"moved/{engine.program}", digest) == copied


def test_podman_lists_the_tags_of_a_repository(server: Spindle, tmp_path: Path) -> None:
    require("podman")
    require("skopeo")
    layout = Layout(tmp_path / "in")
    layout.tag(layout.filesystem(seed=7), "v1")
    name = f"{server.registry}/engine/listed"
    for tag in ("one", "two"):
        run(
            *("skopeo", "copy", "--dest-tls-verify=false"),
            *(f"oci:{layout.directory}:v1", f"docker://{name}:{tag}"),
        )
    [podman] = [engine for engine in ENGINES if engine.program == "podman"]
    with started(podman) as command:
        found = command(["search", "--tls-verify=false", "--list-tags", name])
    assert [line.split() for line in found.splitlines()[1:]] == [[name, "one"], [name, "two"]]
