"""Copy in, list, copy out, delete: with the clients people use, compared byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.layouts import Layout, contents
from tests.servers import Spindle, get
from tests.tools import require, run

Words = list[str | Path]


@dataclass(frozen=True)
class Client:
    """The command lines of one program; `ref` is HOST/REPOSITORY:TAG."""

    program: str
    copy_in: Callable[[Path, str, str], Words]
    """layout, tag in it, ref"""
    copy_out: Callable[[str, Path], Words]
    """ref, layout that does not exist yet"""
    tags: Callable[[str], Words]
    delete: Callable[[str], Words]
    """ref, or HOST/REPOSITORY@DIGEST"""
    copy: Callable[[str, str], Words]
    """ref to ref, on the same registry"""


CLIENTS = [
    Client(
        "oras",
        lambda layout, tag, ref: [
            *("oras", "cp", "--from-oci-layout", f"{layout}:{tag}"),
            *("--to-plain-http", ref),
        ],
        lambda ref, layout: [
            *("oras", "cp", "--from-plain-http", ref),
            *("--to-oci-layout", f"{layout}:out"),
        ],
        lambda repository: ["oras", "repo", "tags", "--plain-http", repository],
        lambda ref: ["oras", "manifest", "delete", "--plain-http", "--force", ref],
        lambda source, target: [
            *("oras", "cp", "--from-plain-http", "--to-plain-http", source, target),
        ],
    ),
    Client(
        "crane",
        lambda layout, tag, ref: ["crane", "push", "--insecure", "--index", layout, ref],
        lambda ref, layout: ["crane", "pull", "--insecure", "--format", "oci", ref, layout],
        lambda repository: ["crane", "ls", "--insecure", repository],
        lambda ref: ["crane", "delete", "--insecure", ref],
        lambda source, target: ["crane", "copy", "--insecure", source, target],
    ),
    Client(
        "skopeo",
        lambda layout, tag, ref: [
            *("skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"),
            *(f"oci:{layout}:{tag}", f"docker://{ref}"),
        ],
        lambda ref, layout: [
            *("skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false"),
            *(f"docker://{ref}", f"oci:{layout}:out"),
        ],
        lambda repository: ["skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}"],
        lambda ref: ["skopeo", "delete", "--tls-verify=false", f"docker://{ref}"],
        lambda source, target: [
            *("skopeo", "copy", "--all", "--preserve-digests"),
            *("--src-tls-verify=false", "--dest-tls-verify=false"),
            *(f"docker://{source}", f"docker://{target}"),
        ],
    ),
    Client(
        "regctl",
        lambda layout, tag, ref: [
            *("regctl", "--host", f"reg={ref.partition('/')[0]},tls=disabled"),
            *("image", "copy", f"ocidir://{layout}:{tag}", ref),
        ],
        lambda ref, layout: [
            *("regctl", "--host", f"reg={ref.partition('/')[0]},tls=disabled"),
            *("image", "copy", ref, f"ocidir://{layout}:out"),
        ],
        lambda repository: [
            *("regctl", "--host", f"reg={repository.partition('/')[0]},tls=disabled"),
            *("tag", "ls", repository),
        ],
        lambda ref: [
            *("regctl", "--host", f"reg={ref.partition('/')[0]},tls=disabled"),
            *("manifest" if "@" in ref else "tag", "delete", ref),
        ],
        lambda source, target: [
            *("regctl", "--host", f"reg={source.partition('/')[0]},tls=disabled"),
            *("image", "copy", source, target),
        ],
    ),
]


def test_what_was_copied_in_comes_out_byte_for_byte(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=1), "v1")
    ref = f"{server.registry}/round/{client.program}:v1"
    run(*client.copy_in(layout.directory, "v1", ref))
    run(*client.copy_out(ref, tmp_path / "out"))
    pushed, pulled = contents(layout.directory), contents(tmp_path / "out")
    # crane pushes the layout's own index around the image, so it may pull one manifest more.
    assert pushed.items() <= pulled.items()


def test_an_index_and_all_its_images_survive_the_trip(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.index(seed=2, images=3), "many")
    ref = f"{server.registry}/index/{client.program}:many"
    run(*client.copy_in(layout.directory, "many", ref))
    run(*client.copy_out(ref, tmp_path / "out"))
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()


def test_tags_are_listed_and_a_deleted_one_is_gone(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=3), "kept")
    repository = f"{server.registry}/tags/{client.program}"
    run(*client.copy_in(layout.directory, "kept", f"{repository}:kept"))
    other = Layout(tmp_path / "other")
    other.tag(other.image(seed=4), "gone")
    run(*client.copy_in(other.directory, "gone", f"{repository}:gone"))
    listed = run(*client.tags(repository))
    assert "kept" in listed
    assert "gone" in listed

    run(*client.delete(f"{repository}:gone"))

    listed = run(*client.tags(repository))
    assert "kept" in listed
    assert "gone" not in listed
    path = f"http://{server.registry}/v2/tags/{client.program}/manifests"
    assert get(f"{path}/gone")[0] == 404
    assert get(f"{path}/kept")[0] == 200


def test_an_image_deleted_by_digest_is_gone_under_all_its_tags(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    repository = f"{server.registry}/digest/{client.program}"
    kept, gone = Layout(tmp_path / "kept"), Layout(tmp_path / "gone")
    kept.tag(kept.image(seed=6), "kept")
    run(*client.copy_in(kept.directory, "kept", f"{repository}:kept"))
    gone.tag(gone.image(seed=7), "gone")
    run(*client.copy_in(gone.directory, "gone", f"{repository}:gone"))
    run(*client.copy(f"{repository}:gone", f"{repository}:also"))
    url = f"http://{server.registry}/v2/digest/{client.program}/manifests"
    # Not the layout's: crane pushes an index around the image.
    digest = f"sha256:{hashlib.sha256(get(f'{url}/gone')[1]).hexdigest()}"

    run(*client.delete(f"{repository}@{digest}"))

    answers = {name: get(f"{url}/{name}")[0] for name in ("gone", "also", digest, "kept")}
    assert answers == {"gone": 404, "also": 404, digest: 404, "kept": 200}
    run(*client.copy_out(f"{repository}:kept", tmp_path / "out"))
    assert contents(kept.directory).items() <= contents(tmp_path / "out").items()


@pytest.mark.parametrize(
    "words",
    [
        ["oras", "repo", "ls", "--plain-http", "REGISTRY"],
        ["crane", "catalog", "--insecure", "REGISTRY"],
        ["regctl", "--host", "reg=REGISTRY,tls=disabled", "repo", "ls", "REGISTRY"],
    ],
    ids=lambda words: words[0],
)
def test_the_catalog_lists_every_repository(words: list[str], tmp_path: Path) -> None:
    for program in (words[0], "oras"):
        require(program)
    (tmp_path / "file").write_text("anything")
    names = ["alone", "deep/er/and/deeper", "team/a", "team/b"]
    with Spindle(tmp_path / "data") as server:
        assert run(*(word.replace("REGISTRY", server.registry) for word in words)).split() == []
        for name in names:
            ref = f"{server.registry}/{name}:v1"
            run("oras", "push", "--plain-http", ref, "file", cwd=tmp_path)
        listed = run(*(word.replace("REGISTRY", server.registry) for word in words))
    assert listed.split() == names


def test_a_copy_between_repositories_leaves_both_whole(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=5, layers=4), "v1")
    source = f"{server.registry}/source/{client.program}:v1"
    target = f"{server.registry}/target/{client.program}:v2"
    run(*client.copy_in(layout.directory, "v1", source))
    run(*client.copy(source, target))
    run(*client.delete(source))
    run(*client.copy_out(target, tmp_path / "out"))
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()
