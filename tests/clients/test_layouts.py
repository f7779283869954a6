"""Image layouts, out of the store for other programs to read, and in from what those wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.layouts import Layout, contents
from tests.servers import SPINDLE, Spindle, get
from tests.tools import require, run

SIGNATURE = "application/vnd.example.signature"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@pytest.fixture(scope="module")
def pushed(server: Spindle, scratch: Path) -> tuple[str, Layout]:
    """A repository with an index under two tags, an image, and a referrer of the index."""
    require("oras")
    layout = Layout(scratch / "pushed")
    layout.tag(layout.index(seed=1), "many")
    layout.tag(layout.image(seed=2), "one")
    name = "layouts/pushed"
    ref = f"{server.registry}/{name}"
    for tag in ("many", "one"):
        words = ["--from-oci-layout", f"{layout.directory}:{tag}", "--to-plain-http"]
        run("oras", "cp", *words, f"{ref}:{tag}")
    run("oras", "tag", "--plain-http", f"{ref}:many", "again")
    (scratch / "signature").write_text("signed")
    words = ["--plain-http", "--artifact-type", SIGNATURE]
    run("oras", "attach", *words, f"{ref}:many", "signature", cwd=scratch)
    return name, layout


@pytest.fixture(scope="module")
def exported(server: Spindle, pushed: tuple[str, Layout], scratch: Path) -> Path:
    """Beside the server that is running."""
    run(SPINDLE, "export", pushed[0], scratch / "out", "--data", server.data)
    return scratch / "out"


@pytest.fixture(scope="module")
def archived(server: Spindle, pushed: tuple[str, Layout], scratch: Path) -> Path:
    run(SPINDLE, "export", pushed[0], scratch / "out.tar", "--data", server.data)
    return scratch / "out.tar"


# Out


def test_everything_is_in_it(exported: Path, pushed: tuple[str, Layout]) -> None:
    assert contents(pushed[1].directory).items() <= contents(exported).items()


@pytest.mark.parametrize("form", ["exported", "archived"])
@pytest.mark.parametrize("tag", ["many", "again", "one"])
def test_oras_copies_out_of_it(
    request: pytest.FixtureRequest, form: str, tag: str, tmp_path: Path
) -> None:
    layout = request.getfixturevalue(form)
    words = ["--from-oci-layout", f"{layout}:{tag}", "--to-oci-layout"]
    run("oras", "cp", *words, f"{tmp_path / 'copy'}:{tag}")
    assert run("oras", "repo", "tags", "--oci-layout", tmp_path / "copy").split() == [tag]
    contents(tmp_path / "copy")


def test_oras_lists_tags_and_finds_referrers(exported: Path, tmp_path: Path) -> None:
    tags = run("oras", "repo", "tags", "--oci-layout", exported).split()
    assert tags == ["again", "many", "one"]
    assert SIGNATURE in run("oras", "discover", "--oci-layout", f"{exported}:many")
    manifest = run("oras", "manifest", "fetch", "--oci-layout", f"{exported}:many")
    assert "manifests" in json.loads(manifest)
    words = ["--recursive", "--from-oci-layout", f"{exported}:many", "--to-oci-layout"]
    run("oras", "cp", *words, f"{tmp_path / 'copy'}:many")
    assert SIGNATURE in run("oras", "discover", "--oci-layout", f"{tmp_path / 'copy'}:many")


@pytest.mark.parametrize("form", ["exported", "archived"])
@pytest.mark.parametrize("tag", ["many", "one"])
def test_skopeo_copies_out_of_it(
    request: pytest.FixtureRequest, form: str, tag: str, tmp_path: Path
) -> None:
    require("skopeo")
    layout = request.getfixturevalue(form)
    transport = "oci" if form == "exported" else "oci-archive"
    words = ["--all", "--preserve-digests", f"{transport}:{layout}:{tag}"]
    run("skopeo", "copy", *words, f"oci:{tmp_path / 'copy'}:{tag}")
    contents(tmp_path / "copy")


@pytest.mark.parametrize("tag", ["many", "one"])
def test_regctl_copies_out_of_it(exported: Path, tag: str, tmp_path: Path) -> None:
    require("regctl")
    run("regctl", "image", "copy", f"ocidir://{exported}:{tag}", f"ocidir://{tmp_path}/copy:{tag}")
    assert run("regctl", "tag", "ls", f"ocidir://{exported}").split() == ["again", "many", "one"]
    contents(tmp_path / "copy")


def test_crane_pushes_it(exported: Path, server: Spindle, tmp_path: Path) -> None:
    """As one index of all that is in it, since crane knows no tags in layouts."""
    require("crane")
    ref = f"{server.registry}/layouts/by-crane:all"
    run("crane", "push", "--insecure", "--index", exported, ref)
    assert "manifests" in json.loads(run("crane", "manifest", "--insecure", ref))


def test_crane_and_a_layout_of_one_image(
    pushed: tuple[str, Layout], server: Spindle, tmp_path: Path
) -> None:
    require("crane")
    run(SPINDLE, "export", f"{pushed[0]}:one", tmp_path / "one", "--data", server.data)
    ref = f"{server.registry}/layouts/one-by-crane:one"
    run("crane", "push", "--insecure", tmp_path / "one", ref)
    _, body = get(f"http://{server.registry}/v2/{pushed[0]}/manifests/one")
    assert get(f"http://{server.registry}/v2/layouts/one-by-crane/manifests/one")[1] == body


# In


def by_skopeo(source: Path, target: Path) -> list[str]:
    words = ["--all", "--preserve-digests", f"oci:{source}:many"]
    run("skopeo", "copy", *words, f"oci:{target}:many")
    return ["many"]


def by_skopeo_as_an_archive(source: Path, target: Path) -> list[str]:
    words = ["--all", "--preserve-digests", f"oci:{source}:many"]
    run("skopeo", "copy", *words, f"oci-archive:{target}:many")
    return ["many"]


def by_oras(source: Path, target: Path) -> list[str]:
    words = ["--recursive", "--from-oci-layout", f"{source}:many", "--to-oci-layout"]
    run("oras", "cp", *words, f"{target}:many,second")
    return ["many", "second"]


def by_regctl(source: Path, target: Path) -> list[str]:
    run(
        *("regctl", "image", "copy", "--referrers"),
        *(f"ocidir://{source}:many", f"ocidir://{target}:many"),
    )
    return ["many"]


WRITERS = [
    ("skopeo", by_skopeo),
    ("skopeo", by_skopeo_as_an_archive),
    ("oras", by_oras),
    ("regctl", by_regctl),
]


@pytest.mark.parametrize(("program", "write"), WRITERS, ids=lambda each: str(each))
def test_what_others_wrote_is_taken(
    server: Spindle,
    exported: Path,
    tmp_path: Path,
    program: str,
    write: Callable[[Path, Path], list[str]],
) -> None:
    require(program)
    tags = write(exported, tmp_path / "written")
    name = f"layouts/from-{write.__name__.replace('_', '-')}"
    run(SPINDLE, "import", tmp_path / "written", name, "--data", server.data)
    status, body = get(f"http://{server.registry}/v2/{name}/tags/list")
    assert (status, json.loads(body)["tags"]) == (200, tags)
    # Whole: everything can be pulled.
    ref = f"{server.registry}/{name}:many"
    words = ["--recursive", "--from-plain-http", ref, "--to-oci-layout"]
    run("oras", "cp", *words, f"{tmp_path / 'pulled'}:many")
    pulled = contents(tmp_path / "pulled")
    if program == "oras":
        assert SIGNATURE in run("oras", "discover", "--plain-http", ref)
    assert len(pulled) >= 9


def test_what_crane_pulled_is_taken(
    server: Spindle, pushed: tuple[str, Layout], tmp_path: Path
) -> None:
    """Without a tag, and with one that is a whole reference."""
    require("crane")
    ref = f"{server.registry}/{pushed[0]}:many"
    for flags, tags in (((), None), (("--annotate-ref",), ["many"])):
        target = tmp_path / f"crane{len(flags)}"
        run("crane", "pull", "--insecure", "--format", "oci", *flags, ref, target)
        name = f"layouts/from-crane{len(flags)}"
        run(SPINDLE, "import", target, name, "--data", server.data)
        found = json.loads(get(f"http://{server.registry}/v2/{name}/tags/list")[1])
        assert (found["tags"] or None) == tags
        digest = run("crane", "digest", "--insecure", ref).strip()
        url = f"http://{server.registry}/v2/{name}/manifests/{digest}"
        assert get(url)[0] == 200


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_what_buildah_built_is_taken(server: Spindle, tmp_path: Path, transport: str) -> None:
    require("buildah")
    store = [
        *("--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run")),
        *("--storage-driver", "vfs"),
    ]
    (tmp_path / "file").write_text("in the image")
    container = run("buildah", *store, "from", "scratch").strip()
    run("buildah", *store, "copy", container, tmp_path / "file", "/file")
    run("buildah", *store, "commit", container, f"{transport}:{tmp_path / 'built'}:v1")
    name = f"layouts/from-buildah-{transport}"
    run(SPINDLE, "import", tmp_path / "built", name, "--data", server.data)
    run(
        *("skopeo", "copy", "--src-tls-verify=false"),
        *(f"docker://{server.registry}/{name}:v1", f"oci:{tmp_path / 'pulled'}:v1"),
    )
    contents(tmp_path / "pulled")
    run("buildah", *store, "rm", "--all")


def test_a_running_deployer_sees_an_import(tmp_path: Path) -> None:
    """It is a tag that moves, as by a push."""
    with Spindle(tmp_path / "data") as server:
        run(SPINDLE, "demo", "--server", f"http://{server.registry}")
        live = server.app("acme/hello")["live"]
        run(SPINDLE, "export", "acme/hello:latest", tmp_path / "app.tar", "--data", server.data)
        run(SPINDLE, "import", tmp_path / "app.tar", "acme/copy", "--data", server.data)
        server.wait_live("acme/copy", live["digest"])


def test_an_import_that_refuses_something_says_so(server: Spindle, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "broken")
    manifest = layout.image(seed=3)
    layout.tag(manifest, "v1")
    layer = json.loads(layout.path(manifest["digest"]).read_bytes())["layers"][0]["digest"]
    layout.path(layer).unlink()
    said = run(
        *(SPINDLE, "import", layout.directory, "layouts/broken", "--data", server.data), ok=False
    )
    assert f"blob {layer} is not in the layout" in said
    assert get(f"http://{server.registry}/v2/layouts/broken/tags/list")[0] in (200, 404)
    assert get(f"http://{server.registry}/v2/layouts/broken/manifests/v1")[0] == 404
