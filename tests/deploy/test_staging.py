"""The directory of a revision is whole or not there, and holds nothing but what was pushed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from registry.deploy import staging as module
from registry.deploy.apps import Revision
from registry.deploy.artifact import read_artifact
from registry.deploy.refusal import NotRunnable
from registry.deploy.rollout import Phase
from registry.deploy.staging import Staging, remove_tree
from storage.digest import SHA512, Digest
from storage.errors import BlobUnknown, Damaged
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.store import Store
from storage.threads import Threads
from tests.deploy import artifacts
from tests.deploy.artifacts import Artifact, config_app, layer_app, locked_app
from tests.deploy.careless import CarelessBlobs
from tests.deploy.deployment import HELLO, Deployment, push

APP = "0123456789abcdef"
WASM = b"\0asm and more"
LARGE = b"large " * 100


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Staging]:
    threads = Threads("test", 2)
    yield Staging(tmp_path / "staged apps", threads)  # with a blank, as a home directory may have
    threads.close()


async def stage(
    deployment: Deployment, staging: Staging, artifact: Artifact, number: int = 1
) -> Path:
    """Push and stage; the revision's directory."""
    digest = await push(deployment.store, artifact, manifest_first=True)
    repository = deployment.store.repository(RepositoryName.parse(HELLO))
    found = await read_artifact(repository, digest)
    revision = Revision(APP, number, digest, Tag("latest"), 1, Phase.VALIDATED, "", 0.0, 0.0)
    await staging.stage(revision, found.app, found.manifest, repository)
    return staging.directory(APP, number)


def with_files(files: dict[str, bytes], *, archived: bool = False) -> Artifact:
    locked, artifact = locked_app(WASM), Artifact()
    pack = artifacts.archived_files if archived else artifacts.files_of
    locked["components"][0]["files"] = pack(artifact, files)
    return layer_app(locked, WASM, artifact=artifact)


def lock_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "spin.lock").read_bytes())
    return found


def path_of(url: str) -> Path:
    parts = urlsplit(url)
    assert parts.scheme == "file"
    return Path(unquote(parts.path))


def below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


FILES = {
    "robots.txt": b"short",
    "static/index.html": LARGE,
    "static/deep/er/a.txt": b"",
    "z": LARGE,
}


@pytest.mark.parametrize("archived", [False, True], ids=["layers", "archive"])
async def test_files_are_where_the_app_expects_them(
    deployment: Deployment, staging: Staging, archived: bool
) -> None:
    directory = await stage(deployment, staging, with_files(FILES, archived=archived))
    assert below(directory / "assets" / "0") == FILES


async def test_the_lock_leads_to_what_was_staged(deployment: Deployment, staging: Staging) -> None:
    directory = await stage(deployment, staging, with_files(FILES))
    (component,) = lock_of(directory)["components"]
    assert component["source"]["content_type"] == "application/wasm"
    assert path_of(component["source"]["source"]).read_bytes() == WASM
    (mount,) = component["files"]
    assert mount["path"] == "/"
    assert below(path_of(mount["source"])) == FILES


async def test_the_lock_names_the_digest_and_no_origin(
    deployment: Deployment, staging: Staging
) -> None:
    locked = locked_app(WASM)
    locked["metadata"]["origin"] = "vnd.fermyon.origin-oci:elsewhere"
    artifact = layer_app(locked, WASM)
    metadata = lock_of(await stage(deployment, staging, artifact))["metadata"]
    assert metadata["oci_image_digest"] == str(artifact.digest)
    assert "origin" not in metadata


async def test_the_rest_of_the_lock_is_as_it_was_pushed(
    deployment: Deployment, staging: Staging
) -> None:
    locked = locked_app(WASM, variables={"a": {"default": "1"}}, novelty=[1, 2])
    locked["components"][0]["env"] = {"A": "b"}
    found = lock_of(await stage(deployment, staging, layer_app(locked, WASM)))
    assert found["variables"] == locked["variables"]
    assert found["novelty"] == [1, 2]
    assert found["components"][0]["env"] == {"A": "b"}
    assert "files" not in found["components"][0]


async def test_an_app_of_spin_1_is_staged_like_any_other(
    deployment: Deployment, staging: Staging
) -> None:
    directory = await stage(deployment, staging, config_app(locked_app(WASM), WASM))
    (component,) = lock_of(directory)["components"]
    assert path_of(component["source"]["source"]).read_bytes() == WASM


async def test_dependencies_are_staged_too(deployment: Deployment, staging: Staging) -> None:
    locked = locked_app(WASM)
    source = {"content_type": "application/wasm", "inline": artifacts.unpadded(b"\0asm dep")}
    locked["components"][0]["dependencies"] = {"a:b/c": {"source": source, "export": "x"}}
    found = lock_of(await stage(deployment, staging, layer_app(locked, WASM)))
    dependency = found["components"][0]["dependencies"]["a:b/c"]
    assert dependency["export"] == "x"
    assert path_of(dependency["source"]["source"]).read_bytes() == b"\0asm dep"


async def test_components_may_share_their_source(deployment: Deployment, staging: Staging) -> None:
    locked = locked_app(WASM)
    locked["components"].append({**locked["components"][0], "id": "second"})
    directory = await stage(deployment, staging, layer_app(locked, WASM))
    assert len(list((directory / "wasm").iterdir())) == 1


async def test_nobody_can_write_there(deployment: Deployment, staging: Staging) -> None:
    directory = await stage(deployment, staging, with_files(FILES))
    for path in directory.rglob("*"):
        expected = 0o555 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


async def test_nothing_else_is_left(deployment: Deployment, staging: Staging) -> None:
    directory = await stage(deployment, staging, with_files(FILES, archived=True))
    assert {path.name for path in directory.iterdir()} == {"spin.lock", "wasm", "assets"}
    assert [path.name for path in directory.parent.iterdir()] == ["1"]


async def test_staging_again_changes_nothing(deployment: Deployment, staging: Staging) -> None:
    directory = await stage(deployment, staging, with_files(FILES))
    before = directory.stat().st_ino
    await stage(deployment, staging, with_files(FILES))
    assert directory.stat().st_ino == before


async def test_half_a_directory_is_begun_anew(deployment: Deployment, staging: Staging) -> None:
    """Left by a process that was killed, perhaps after its directories became read-only."""
    draft = staging.directory(APP, 1).with_name(".1.draft")
    (draft / "wasm").mkdir(parents=True)
    (draft / "wasm" / "old").write_bytes(b"old")
    os.chmod(draft / "wasm", 0o555)
    assert not await staging.ready(APP, 1)
    directory = await stage(deployment, staging, with_files(FILES))
    assert len(list((directory / "wasm").iterdir())) == 1


async def test_damaged_bytes_are_not_staged(deployment: Deployment, staging: Staging) -> None:
    artifact = with_files(FILES)
    digest = artifact.manifest().layers[0].digest
    assert digest is not None
    await push(deployment.store, artifact)
    path = Path(deployment.layout.blob(digest))
    path.chmod(0o600)
    path.write_bytes(bytes(len(WASM)))
    with pytest.raises(Damaged):
        await _stage_only(deployment.store, staging, artifact)
    assert not await staging.ready(APP, 1)


async def test_a_store_that_does_not_look_is_not_believed(staging: Staging, tmp_path: Path) -> None:
    blobs = CarelessBlobs()
    store = await Store.open(SQLite(tmp_path / "records.db"), blobs)
    try:
        artifact = with_files(FILES)
        await push(store, artifact)
        blobs.blobs[Digest.parse(artifacts.digest_of(LARGE))] = bytes(len(LARGE))
        with pytest.raises(Damaged):
            await _stage_only(store, staging, artifact)
    finally:
        await store.close()
    assert not await staging.ready(APP, 1)


async def test_a_layer_of_another_size_than_announced_is_refused(
    deployment: Deployment, staging: Staging
) -> None:
    artifact = with_files(FILES)
    artifact.layers[0]["size"] += 1
    with pytest.raises(NotRunnable, match="and the manifest says"):
        await stage(deployment, staging, artifact)


async def _stage_only(store: Store, staging: Staging, artifact: Artifact) -> None:
    repository = store.repository(RepositoryName.parse(HELLO))
    found = await read_artifact(repository, artifact.digest)
    revision = Revision(APP, 1, artifact.digest, Tag("t"), 1, Phase.VALIDATED, "", 0.0, 0.0)
    await staging.stage(revision, found.app, found.manifest, repository)


async def test_a_layer_that_was_deleted_is_missed(deployment: Deployment, staging: Staging) -> None:
    artifact = with_files(FILES)
    await push(deployment.store, artifact)
    digest = artifact.manifest().layers[0].digest
    assert digest is not None
    await deployment.store.repository(RepositoryName.parse(HELLO)).delete_blob(digest)
    with pytest.raises(BlobUnknown):
        await _stage_only(deployment.store, staging, artifact)


async def test_a_file_that_no_archive_has_is_named(
    deployment: Deployment, staging: Staging
) -> None:
    artifact = Artifact()
    locked = locked_app(WASM)
    listed = artifacts.archived_files(artifact, {"a": b"a" * 200})
    listed.append({"path": "b/c", "digest": artifacts.digest_of(b"nowhere")})
    locked["components"][0]["files"] = listed
    with pytest.raises(NotRunnable, match="the file 'b/c' is sha256:"):
        await stage(deployment, staging, layer_app(locked, WASM, artifact=artifact))


async def test_a_file_that_no_archive_can_be_searched_for_is_refused(
    deployment: Deployment, staging: Staging
) -> None:
    """Content of archives is found by its SHA-256."""
    artifact, locked = Artifact(), locked_app(WASM)
    listed = artifacts.archived_files(artifact, {"a": b"a" * 200})
    listed[0]["digest"] = str(SHA512.digest(b"a" * 200))
    locked["components"][0]["files"] = listed
    with pytest.raises(NotRunnable, match="which nothing contains"):
        await stage(deployment, staging, layer_app(locked, WASM, artifact=artifact))


async def test_one_layer_for_very_many_files_is_refused(
    deployment: Deployment, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAGED_LIMIT", 10_000)
    files = {f"{number}": LARGE for number in range(20)}
    with pytest.raises(NotRunnable, match="12013 bytes unpacked, and the limit is 10000"):
        await stage(deployment, staging, with_files(files))


async def test_one_archived_file_for_very_many_is_refused(
    deployment: Deployment, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAGED_LIMIT", 10_000)
    files = {f"{number}": LARGE for number in range(20)}
    with pytest.raises(NotRunnable, match="and the limit is 10000"):
        await stage(deployment, staging, with_files(files, archived=True))


async def test_many_archives_are_as_limited_as_one(
    deployment: Deployment, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAGED_LIMIT", 10_000)
    artifact, locked = Artifact(), locked_app(WASM)
    listed = [
        entry
        for number in range(9)
        for entry in artifacts.archived_files(artifact, {f"{number}": b"%d" % number * 4000})
    ]
    locked["components"][0]["files"] = listed
    with pytest.raises(NotRunnable, match="12013 bytes unpacked, and the limit is 10000"):
        await stage(deployment, staging, layer_app(locked, WASM, artifact=artifact))
    draft = staging.directory(APP, 1).with_name(".1.draft")
    assert len(list((draft / "unpacked").iterdir())) == 3


async def test_layers_and_archives_have_one_limit(
    deployment: Deployment, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAGED_LIMIT", 10_000)
    artifact, locked = Artifact(), locked_app(WASM)
    listed = artifacts.files_of(artifact, {"a": b"a" * 6000})
    listed += artifacts.archived_files(artifact, {"b": b"b" * 6000})
    locked["components"][0]["files"] = listed
    with pytest.raises(NotRunnable, match="12013 bytes unpacked"):
        await stage(deployment, staging, layer_app(locked, WASM, artifact=artifact))


async def test_very_many_files_are_staged(deployment: Deployment, staging: Staging) -> None:
    files = {f"{number % 7}/{number}.txt": b"%d" % number for number in range(500)}
    directory = await stage(deployment, staging, with_files(files))
    assert below(directory / "assets" / "0") == files


async def test_sweeping_keeps_what_it_is_told_to(deployment: Deployment, staging: Staging) -> None:
    for number in (1, 2, 3):
        directory = await stage(deployment, staging, with_files(FILES), number)
    log = staging.log(APP)
    log.write_text("said")
    (directory.parent / ".4.draft").mkdir()
    await staging.sweep(APP, {2})
    assert {path.name for path in directory.parent.iterdir()} == {"2", "log"}


async def test_sweeping_spares_the_draft_of_what_is_kept(
    deployment: Deployment, staging: Staging
) -> None:
    directory = await stage(deployment, staging, with_files(FILES))
    (directory.parent / ".2.draft").mkdir()
    await staging.sweep(APP, {1, 2})
    assert {path.name for path in directory.parent.iterdir()} == {"1", ".2.draft"}


async def test_removing_an_app_leaves_nothing(deployment: Deployment, staging: Staging) -> None:
    directory = await stage(deployment, staging, with_files(FILES))
    await staging.remove(APP)
    assert not directory.parent.exists()


def test_read_only_directories_can_be_removed_by_others_than_root(tmp_path: Path) -> None:
    """Root may remove anything; then this only shows that nothing is left."""
    inner = tmp_path / "top" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_bytes(b"")
    for path in (inner, inner.parent):
        path.chmod(0o555)
    remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_removing_touches_nothing_that_a_link_leads_to(tmp_path: Path) -> None:
    other = tmp_path / "other" / "below"
    other.mkdir(parents=True)
    other.chmod(0o500)
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(other)
    remove_tree(tmp_path / "top")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert stat.S_IMODE(other.stat().st_mode) == 0o500
