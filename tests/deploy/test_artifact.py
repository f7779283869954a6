"""What was pushed is read whole, and held against its digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.deploy.artifact import read_artifact, read_manifest
from registry.deploy.refusal import NotRunnable
from storage.digest import Digest
from storage.errors import BlobUnknown, Damaged, ManifestUnknown
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.deploy import artifacts
from tests.deploy.artifacts import Artifact, config_app, container, layer_app, locked_app
from tests.deploy.careless import CarelessBlobs
from tests.deploy.deployment import HELLO, Deployment, push


@pytest.fixture
def repository(deployment: Deployment) -> Repository:
    return deployment.store.repository(RepositoryName.parse(HELLO))


@pytest.mark.parametrize("artifact", [layer_app(locked_app()), config_app(locked_app())])
async def test_the_locked_app_is_read_from_where_the_marker_is(
    deployment: Deployment, repository: Repository, artifact: Artifact
) -> None:
    digest = await push(deployment.store, artifact)
    found = await read_artifact(repository, digest)
    assert found.app.name == "hello"
    assert found.manifest.digest == digest


async def test_a_container_is_no_application(
    deployment: Deployment, repository: Repository
) -> None:
    digest = await push(deployment.store, container())
    with pytest.raises(NotRunnable, match="no Spin application"):
        await read_artifact(repository, digest)


async def test_a_manifest_that_was_deleted_is_missed(
    deployment: Deployment, repository: Repository
) -> None:
    digest = await push(deployment.store, layer_app(locked_app()))
    await repository.delete_manifest(digest)
    with pytest.raises(ManifestUnknown):
        await read_manifest(repository, digest)


async def test_a_locked_app_that_was_deleted_is_missed(
    deployment: Deployment, repository: Repository
) -> None:
    artifact = layer_app(locked_app())
    digest = await push(deployment.store, artifact)
    await repository.delete_blob(Digest.parse(artifact.layers[-1]["digest"]))
    with pytest.raises(BlobUnknown):
        await read_artifact(repository, digest)


async def test_damaged_bytes_are_not_read(deployment: Deployment, repository: Repository) -> None:
    artifact = layer_app(locked_app())
    digest = await push(deployment.store, artifact)
    path = Path(deployment.layout.blob(Digest.parse(artifact.layers[-1]["digest"])))
    path.chmod(0o600)
    path.write_bytes(b"{" + b" " * (len(artifact.locked) - 1))
    with pytest.raises(Damaged):
        await read_artifact(repository, digest)


async def test_a_store_that_does_not_look_is_not_believed(tmp_path: Path) -> None:
    blobs = CarelessBlobs()
    store = await Store.open(SQLite(tmp_path / "records.db"), blobs)
    try:
        artifact = layer_app(locked_app())
        digest = await push(store, artifact)
        marker = Digest.parse(artifact.layers[-1]["digest"])
        blobs.blobs[marker] = blobs.blobs[marker].replace(b"hello", b"jello")
        with pytest.raises(Damaged):
            await read_artifact(store.repository(RepositoryName.parse(HELLO)), digest)
    finally:
        await store.close()


async def test_a_locked_app_of_another_size_than_announced_is_refused(
    deployment: Deployment, repository: Repository
) -> None:
    artifact = layer_app(locked_app())
    artifact.layers[-1]["size"] += 1
    digest = await push(deployment.store, artifact, manifest_first=True)
    with pytest.raises(NotRunnable, match="the manifest says that"):
        await read_artifact(repository, digest)


async def test_the_label_in_the_config_is_looked_at(
    deployment: Deployment, repository: Repository
) -> None:
    artifact = layer_app(locked_app())
    other = layer_app(locked_app(name="other"))
    artifact.config = artifact.blob(other.config_blob, artifacts.OCI_CONFIG)
    digest = await push(deployment.store, artifact)
    with pytest.raises(NotRunnable, match="the label"):
        await read_artifact(repository, digest)


async def test_what_the_host_offers_counts(deployment: Deployment, repository: Repository) -> None:
    locked = locked_app(host_requirements={"local_service_chaining": "required"})
    digest = await push(deployment.store, layer_app(locked))
    with pytest.raises(NotRunnable, match="local_service_chaining"):
        await read_artifact(repository, digest)
    assert await read_artifact(repository, digest, {"local_service_chaining"})
