"""A revision that fails says why, and hurts nothing that runs."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable

import pytest

from registry.deploy.rollout import Phase
from registry.deploy.runtimes import Workload
from registry.deploy.walk import reason_of
from storage.digest import SHA256
from storage.names import RepositoryName
from tests.deploy import artifacts
from tests.deploy.artifacts import Artifact, layer_app, locked_app
from tests.deploy.deployment import HELLO, Deployment, eventually, push, saying, value
from tests.deploy.local_runtime import LocalRuntime


def _ambiguous() -> Artifact:
    artifact = saying("two")
    artifact.layer(b"{}", artifacts.SPIN_APP)
    return artifact


def _without_wasm() -> Artifact:
    return layer_app(locked_app(b"was not pushed"))


def _redis() -> Artifact:
    trigger = {"id": "r", "trigger_type": "redis", "trigger_config": {"component": "main"}}
    return layer_app(locked_app(triggers=[trigger]))


def _uncomposed() -> Artifact:
    locked = locked_app()
    source = {"content_type": "application/wasm", "inline": "AGFzbQ"}
    locked["components"][0]["dependencies"] = {"a:b/c": {"source": source, "export": None}}
    return layer_app(locked)


FAILURES: list[tuple[str, Callable[[], Artifact], str]] = [
    ("ambiguous", _ambiguous, "2 application layers"),
    ("dangling source", _without_wasm, "which is no layer of the manifest"),
    ("redis", _redis, "only http triggers run here"),
    ("not a locked app", lambda: layer_app(b'{"hello":"world"}'), "no spin_lock_version"),
    ("not JSON", lambda: layer_app(b"hello"), "the locked app is not JSON"),
    ("refused by the runtime", _uncomposed, "dependencies that are not composed"),
    ("another app", lambda: saying("two", name="other"), "holds the application 'hello'"),
    ("a variable", lambda: saying("two", variables={"key": {}}), "variable key has no value"),
    ("dies at start", lambda: saying("two", start="dies"), "status 7: cannot go on"),
    ("hangs at start", lambda: saying("two", start="hangs"), "it did not start within 1.5 s"),
    ("never healthy", lambda: saying("two", health=503), "503 OK (should be 200)"),
    (
        "another digest",
        lambda: saying("two", digest=str(SHA256.digest(b"another"))),
        "(oci_image_digest should be sha256:",
    ),
]


@pytest.mark.parametrize(
    ("make", "reason"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES]
)
async def test_a_revision_that_fails_says_why_and_leaves_the_old_one_serving(
    deployment: Deployment, runtime: LocalRuntime, make: Callable[[], Artifact], reason: str
) -> None:
    async with deployment.deploying(health_timeout=1.5):
        await deployment.push(saying("one"))
        target = await deployment.live(1)
        await deployment.push(make())
        failed = await deployment.until(2, Phase.FAILED)
        assert reason in failed.reason
        assert await deployment.live(1) is target
        assert await deployment.ask() == (200, "one")
        # Its failure is told before it is ended.
        await eventually(lambda: value(len(runtime.running) == 1), lambda: "one instance")


async def test_a_first_push_that_fails_still_shows_the_app(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(layer_app(b"{}"))
        failed = await deployment.until(1, Phase.FAILED)
        assert "no spin_lock_version" in failed.reason
        app = await deployment.app()
        assert (app.live, app.name) == (None, None)
        assert deployment.routes.resolve(app.host) is None


async def test_the_apps_own_path_must_answer(deployment: Deployment) -> None:
    await deployment.configure(health_path="/ready")
    async with deployment.deploying(health_timeout=1.0):
        await deployment.push(saying("one", ready=500))
        failed = await deployment.until(1, Phase.FAILED)
        assert "GET /ready: 500 (should be 2xx)" in failed.reason
        await deployment.push(saying("two", ready=204))
        await deployment.live(2)


async def test_an_instance_that_dies_while_it_is_checked_is_not_waited_for(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying(health_timeout=60.0):
        await deployment.push(saying("one", health=503))
        await deployment.until(1, Phase.CHECKING)
        await runtime.running[0].stop(0)
        failed = await deployment.until(1, Phase.FAILED)
        assert "it ended before it was healthy: the process ended with status" in failed.reason


async def test_a_failed_revision_leaves_no_files(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("two", start="dies"))
        await deployment.until(2, Phase.FAILED)
        await eventually(lambda: deployment.are_staged({"1"}), lambda: "2 to be removed")


async def test_a_failed_digest_is_tried_again_when_it_is_pushed_again(
    deployment: Deployment,
) -> None:
    async with deployment.deploying():
        for number in (1, 2):
            await deployment.push(saying("one", start="dies"))
            await deployment.until(number, Phase.FAILED)


async def test_configuring_what_was_missing_deploys_it(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one", variables={"key": {}, "zone": {"default": "eu"}}))
        failed = await deployment.until(1, Phase.FAILED)
        assert "run `spindle apps set demo/hello key=VALUE`" in failed.reason
        await deployment.configure(key="secret")
        await deployment.live(2)
        _, text = await deployment.ask("/variables")
        assert json.loads(text) == {"key": "secret", "zone": "eu"}
        received = [event for event in await deployment.events() if event.revision == 2][-1]
        assert (received.phase, received.detail) == (Phase.RECEIVED, "settings changed")


async def test_apps_are_rolled_out_beside_each_other(deployment: Deployment) -> None:
    async with deployment.deploying(health_timeout=60.0):
        for number in range(6):
            await deployment.push(saying("sick", health=503), f"demo/sick{number}")
        await deployment.push(saying("well"), "demo/well")
        await deployment.live(1, "demo/well")
        assert await deployment.ask("/", "demo/well") == (200, "well")


async def test_one_that_does_not_start_keeps_no_other_app_from_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.site.TURN", 0.05)
    async with deployment.deploying(at_once=1, health_timeout=3600.0):
        await deployment.push(saying("sick", start="hangs"), "demo/sick")
        await deployment.until(1, Phase.STARTING, "demo/sick")
        await deployment.push(saying("well"), "demo/well")
        await deployment.live(1, "demo/well")
        await deployment.until(1, Phase.STARTING, "demo/sick")


def test_a_full_disk_is_told_from_what_else_a_system_refuses() -> None:
    """Only for the one does it help to make room."""
    full = reason_of(OSError(errno.ENOSPC, "No space left on device"))
    assert full is not None
    assert "(No space left on device); make room" in full
    assert reason_of(OSError(errno.EMFILE, "Too many open files")) is None


class Clumsy(LocalRuntime):
    """A runtime with a mistake in it, for apps of one name."""

    async def prepare(self, workload: Workload) -> None:
        if workload.name == "unlucky":
            raise RuntimeError("a mistake of ours")
        await super().prepare(workload)


@pytest.mark.parametrize("runtime", [Clumsy], indirect=True)
async def test_a_mistake_of_ours_in_one_app_stops_no_other(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("x", name="unlucky"), "demo/unlucky")
        failed = await deployment.until(1, Phase.FAILED, "demo/unlucky")
        assert "an unexpected error (RuntimeError: a mistake of ours)" in failed.reason
        await deployment.push(saying("well"), "demo/well")
        await deployment.live(1, "demo/well")


async def test_an_app_is_told_of_a_push_that_was_deleted_before_it_was_looked_at(
    deployment: Deployment,
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
    digest = await push(deployment.store, saying("two"))
    await deployment.store.repository(RepositoryName.parse(HELLO)).delete_manifest(digest)
    async with deployment.deploying():
        await eventually(lambda: deployment.told("which cannot be read"), lambda: "the event")
        await deployment.live(1)


async def test_a_manifest_deleted_before_it_was_looked_at_holds_up_nothing(
    deployment: Deployment,
) -> None:
    digest = await push(deployment.store, saying("one"))
    await deployment.store.repository(RepositoryName.parse(HELLO)).delete_manifest(digest)
    async with deployment.deploying():
        await deployment.push(saying("two"))
        await deployment.live(1)


async def test_a_push_whose_bytes_are_damaged_fails_and_says_so(deployment: Deployment) -> None:
    """And is deployed once it was pushed again."""
    digest = await push(deployment.store, saying("one"))
    for directory in ("sha256", "sha512"):
        for path in (deployment.layout.root / "blobs" / directory).glob("*/*"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[::-1])
    async with deployment.deploying():
        failed = await deployment.until(1, Phase.FAILED)
        assert failed.digest == digest
        assert "push it again" in failed.reason
        await deployment.push(saying("one"))
        await deployment.live(2)
        assert await deployment.ask() == (200, "one")


async def test_a_move_that_nobody_can_make_sense_of_holds_up_nothing_for_ever(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.reconciler.RETRY", 0.01)
    digest = await push(deployment.store, saying("one"))
    await deployment.journal.database.write(
        lambda connection: connection.execute(
            "UPDATE manifests SET media_type = x'00' WHERE digest = ?", digest.text
        )
    )
    async with deployment.deploying():
        await deployment.push(saying("two"))
        await deployment.live(1)
        assert await deployment.ask() == (200, "two")
