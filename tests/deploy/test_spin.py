"""Which manifests are Spin applications, and which of those can run here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.deploy import spin
from registry.deploy.locked import LOCKED_APP_LIMIT
from registry.deploy.spin import LockedApp, NotRunnable
from storage.manifest import OCI_IMAGE, OCI_INDEX, Manifest
from storage.names import RepositoryName
from tests.deploy import artifacts
from tests.deploy.artifacts import Artifact, config_app, container, layer_app, locked_app

SAMPLES = Path(__file__).with_name("samples")
REPOSITORY = RepositoryName.parse("demo/hello")


def judge(
    manifest: Manifest, locked: bytes, config: bytes | None, given: dict[str, str] | None = None
) -> str:
    """`runs`, or the reason why not."""
    try:
        assert spin.recognise(manifest) is not None
        app = LockedApp.parse(locked)
        label = spin.config_label(manifest)
        spin.check(app, manifest, config=config if label is not None else None)
        spin.check_variables(app, given.keys() if given else set(), REPOSITORY)
    except NotRunnable as error:
        return error.reason
    return "runs"


def judge_artifact(artifact: Artifact) -> str:
    return judge(artifact.manifest(), artifact.locked, artifact.config_blob)


GENERATIONS = [
    pytest.param(config_app(locked_app()), id="Spin 0.9 to 1.5: the locked app is the config"),
    pytest.param(layer_app(locked_app(), label=False), id="2.0.0 to 2.3.0: no label"),
    pytest.param(layer_app(locked_app()), id="2.3.1 and later: with a label"),
    pytest.param(layer_app(locked_app(), os="Wasip1"), id="4.1: the os begins with a capital"),
    pytest.param(
        layer_app(locked_app(), artifact=Artifact(annotations={"org.example": "x"})),
        id="2.7 and later: annotations",
    ),
]


@pytest.mark.parametrize("artifact", GENERATIONS)
def test_every_generation_of_spin_is_recognised(artifact: Artifact) -> None:
    marker = spin.recognise(artifact.manifest())
    assert marker is not None
    assert artifact.blobs[str(marker.digest)] == artifact.locked


@pytest.mark.parametrize("artifact", GENERATIONS)
def test_every_generation_of_spin_runs(artifact: Artifact) -> None:
    assert judge_artifact(artifact) == "runs"


def _look_alikes() -> list[Any]:
    wkg = Artifact()
    wkg.layer(b"\0asm", "application/wasm")
    wkg.config = wkg.blob(b"{}", "application/vnd.wasm.config.v0+json")
    krustlet = Artifact()
    krustlet.layer(b"\0asm", artifacts.WASM)
    krustlet.config = krustlet.blob(b"{}", "application/vnd.wasm.config.v1+json")
    signature = Artifact(annotations={"dev.cosignproject.cosign/signature": "x"})
    signature.layer(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json")
    signature.config = signature.blob(b"{}", artifacts.OCI_CONFIG)
    annotated = container()
    annotated.annotations["org.opencontainers.image.title"] = "hello-spin"
    return [
        pytest.param(container(), id="a container"),
        pytest.param(wkg, id="a package of wkg"),
        pytest.param(krustlet, id="a module of wasm-to-oci, with a layer type that Spin uses too"),
        pytest.param(signature, id="a signature of a Spin application"),
        pytest.param(annotated, id="a container with Spin's annotations"),
    ]


@pytest.mark.parametrize("artifact", _look_alikes())
def test_what_has_no_marker_is_no_spin_application(artifact: Artifact) -> None:
    assert spin.recognise(artifact.manifest()) is None


def test_an_index_is_no_spin_application() -> None:
    index = {"schemaVersion": 2, "manifests": []}
    manifest = Manifest.parse(json.dumps(index).encode(), content_type=OCI_INDEX)
    assert spin.recognise(manifest) is None


def test_two_markers_are_ambiguous() -> None:
    artifact = layer_app(locked_app())
    artifact.layer(b"{}", artifacts.SPIN_APP)
    with pytest.raises(NotRunnable, match="2 application layers"):
        spin.recognise(artifact.manifest())


def test_the_layer_counts_where_the_config_has_the_marker_too() -> None:
    """As for Spin, which lets a layer overwrite the config."""
    artifact = layer_app(locked_app())
    artifact.config = artifact.blob(b"{}", artifacts.SPIN_APP)
    marker = spin.recognise(artifact.manifest())
    assert marker is not None
    assert marker.digest == artifact.manifest().layers[-1].digest


def test_a_locked_app_that_is_too_large_is_not_even_fetched() -> None:
    artifact = layer_app(locked_app())
    artifact.layers[-1]["size"] = LOCKED_APP_LIMIT + 1
    with pytest.raises(NotRunnable, match="the limit is 8388608"):
        spin.recognise(artifact.manifest())


def test_a_marker_with_a_digest_that_cannot_be_kept_here_is_refused() -> None:
    artifact = layer_app(locked_app())
    artifact.layers[-1]["digest"] = "blake3:" + "a" * 64
    with pytest.raises(NotRunnable, match="an algorithm not kept here"):
        spin.recognise(artifact.manifest())


def test_a_config_with_a_digest_that_cannot_be_kept_here_is_refused() -> None:
    artifact = layer_app(locked_app())
    artifact.config["digest"] = "blake3:" + "a" * 64
    with pytest.raises(NotRunnable, match="an algorithm not kept here"):
        spin.config_label(artifact.manifest())


def test_a_config_that_is_not_json_is_refused() -> None:
    artifact = layer_app(locked_app())
    artifact.config = artifact.blob(b"no json", artifacts.OCI_CONFIG)
    assert "the config is not JSON" in judge_artifact(artifact)


def test_a_manifest_with_too_many_layers_is_refused() -> None:
    artifact = layer_app(locked_app())
    artifact.layers += [artifact.layers[0]] * spin.LAYERS_LIMIT
    with pytest.raises(NotRunnable, match="layers, and the limit is"):
        spin.recognise(artifact.manifest())


def test_a_config_that_is_too_large_is_not_even_fetched() -> None:
    artifact = layer_app(locked_app())
    artifact.config["size"] = spin.CONFIG_LIMIT + 1
    with pytest.raises(NotRunnable, match="the limit is 1048576"):
        spin.config_label(artifact.manifest())


def test_a_label_that_names_another_locked_app_is_refused() -> None:
    artifact = layer_app(locked_app())
    other = layer_app(locked_app(name="other"))
    artifact.config = artifact.blob(other.config_blob, artifacts.OCI_CONFIG)
    assert "the label com.fermyon.spin.lockedAppDigest" in judge_artifact(artifact)


def test_a_source_that_was_not_pushed_is_refused() -> None:
    artifact = layer_app(locked_app(b"another"))
    assert "which is no layer of the manifest" in judge_artifact(artifact)


def test_a_dependency_that_was_not_pushed_is_refused() -> None:
    locked = locked_app()
    source = {"content_type": "application/wasm", "digest": artifacts.digest_of(b"not there")}
    locked["components"][0]["dependencies"] = {"a:b/c": {"source": source, "export": None}}
    assert "its dependency 'a:b/c' is sha256:" in judge_artifact(layer_app(locked))


def test_a_file_that_was_not_pushed_is_refused() -> None:
    locked = locked_app()
    locked["components"][0]["files"] = [
        {"path": "a.txt", "digest": artifacts.digest_of(b"not there")}
    ]
    assert "the file 'a.txt' is sha256:" in judge_artifact(layer_app(locked))


def test_a_file_may_be_in_an_archive() -> None:
    locked, artifact = locked_app(), Artifact()
    locked["components"][0]["files"] = artifacts.archived_files(artifact, {"a.txt": b"x" * 200})
    assert judge_artifact(layer_app(locked, artifact=artifact)) == "runs"


def test_a_file_may_be_inline() -> None:
    locked, artifact = locked_app(), Artifact()
    locked["components"][0]["files"] = artifacts.files_of(artifact, {"a.txt": b"short"})
    assert judge_artifact(layer_app(locked, artifact=artifact)) == "runs"


@pytest.mark.parametrize("level", ["app", "component"])
def test_a_requirement_that_the_host_does_not_meet_is_refused(level: str) -> None:
    locked = locked_app(spin_lock_version=1, must_understand=["host_requirements"])
    where = locked if level == "app" else locked["components"][0]
    where["host_requirements"] = {"local_service_chaining": "required"}
    reason = judge_artifact(layer_app(locked))
    assert "requires 'local_service_chaining' of its host" in reason


@pytest.mark.parametrize("level", ["app", "component"])
def test_an_optional_requirement_is_dropped(level: str) -> None:
    locked = locked_app(spin_lock_version=1, must_understand=["host_requirements"])
    where = locked if level == "app" else locked["components"][0]
    where["host_requirements"] = {"flying": "optional"}
    assert judge_artifact(layer_app(locked)) == "runs"


def test_a_requirement_that_the_host_meets_is_fine() -> None:
    locked = locked_app(host_requirements={"local_service_chaining": "required"})
    artifact = layer_app(locked)
    app = LockedApp.parse(artifact.locked)
    spin.check(app, artifact.manifest(), met={"local_service_chaining"})


def test_required_variables_without_a_value_are_named_with_what_to_do() -> None:
    locked = locked_app(
        variables={"zone": {}, "api_key": {"secret": True}, "with": {"default": ""}}
    )
    reason = judge_artifact(layer_app(locked))
    assert reason == (
        "the required variables api_key, zone have no value; run `spindle apps set demo/hello"
        " api_key=VALUE zone=VALUE`, and it is deployed again by itself"
    )


def test_a_value_under_a_name_that_is_nearly_right_is_pointed_at() -> None:
    app = LockedApp.parse(layer_app(locked_app(variables={"api_key": {}})).locked)
    with pytest.raises(NotRunnable, match="'api_kee' is set, but not 'api_key'"):
        spin.check_variables(app, {"api_kee"}, REPOSITORY)


def test_variables_with_values_are_fine() -> None:
    app = LockedApp.parse(layer_app(locked_app(variables={"api_key": {}})).locked)
    spin.check_variables(app, {"api_key"}, REPOSITORY)


def test_another_application_in_the_repository_is_refused() -> None:
    app = LockedApp.parse(layer_app(locked_app(name="other")).locked)
    with pytest.raises(NotRunnable, match="demo/hello holds the application 'hello'"):
        spin.check_name(app, "hello", REPOSITORY)


@pytest.mark.parametrize("name", [None, "hello"])
def test_the_first_or_the_same_application_is_fine(name: str | None) -> None:
    spin.check_name(LockedApp.parse(layer_app(locked_app()).locked), name, REPOSITORY)


VERDICTS = {
    "broken-dangling-source": "is no layer of the manifest",
    "broken-not-locked": "it has no spin_lock_version",
    "not-spin-container": None,
    "not-spin-wasm-to-oci": None,
    "not-spin-wkg": None,
    "spin-chaining": "requires 'local_service_chaining'",
    "spin-main": "runs",
    "spin-redis": "others: redis",
    "spin-uncomposed": "runs",  # as far as can be seen here; the runtime refuses it
    "spin-v1": "runs",
    "spin-v2.0": "runs",
    "spin-v4": "runs",
    "unsupported-lock-version": "has spin_lock_version 2",
}


def test_every_sample_has_a_verdict() -> None:
    assert sorted(path.name for path in SAMPLES.iterdir()) == sorted(VERDICTS)


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_the_samples_are_what_their_names_say(name: str) -> None:
    directory = SAMPLES / name
    manifest = Manifest.parse((directory / "manifest.json").read_bytes(), content_type=OCI_IMAGE)
    verdict = VERDICTS[name]
    if verdict is None:
        assert spin.recognise(manifest) is None
        return
    config = directory / "config.json"
    reason = judge(
        manifest,
        (directory / "locked-app.json").read_bytes(),
        config.read_bytes() if config.exists() else None,
        {"api_key": "k"},
    )
    assert verdict in reason


def test_the_samples_need_a_variable() -> None:
    directory = SAMPLES / "spin-v4"
    manifest = Manifest.parse((directory / "manifest.json").read_bytes(), content_type=OCI_IMAGE)
    locked = (directory / "locked-app.json").read_bytes()
    assert "the required variable api_key has no value" in judge(manifest, locked, None)
