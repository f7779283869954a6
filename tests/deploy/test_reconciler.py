"""Pushes become running instances."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from registry.deploy.rollout import Phase
from storage.errors import Held
from storage.names import RepositoryName, Tag
from tests.deploy import artifacts
from tests.deploy.artifacts import container, locked_app
from tests.deploy.deployment import HELLO, Deployment, ask, eventually, push, saying, value
from tests.deploy.local_runtime import LocalRuntime


async def test_the_first_push_goes_live(deployment: Deployment) -> None:
    async with deployment.deploying():
        digest = await deployment.push(saying("one"))
        target = await deployment.live(1)
        assert target.digest == digest
        assert await deployment.ask() == (200, "one")


async def test_every_step_is_told(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        told = [event.phase.value for event in await deployment.events() if event.phase]
    assert told == ["live", "checking", "starting", "staged", "validated", "received"]


async def test_a_push_from_another_process_is_found_without_being_woken(
    deployment: Deployment,
) -> None:
    async with deployment.deploying():
        await push(deployment.store, saying("one"))
        await deployment.live(1)


async def test_pushes_before_the_deployer_ran_are_not_lost(deployment: Deployment) -> None:
    await push(deployment.store, saying("one"))
    async with deployment.deploying():
        await deployment.live(1)


async def test_a_second_push_takes_over_and_the_first_retires(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("two"))
        await deployment.live(2)
        assert await deployment.ask() == (200, "two")
        await deployment.until(1, Phase.RETIRED)
        assert len(runtime.running) == 1


async def test_a_request_under_way_is_finished_by_the_instance_that_began_it(
    deployment: Deployment, runtime: LocalRuntime, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with deployment.deploying():
        await deployment.push(saying("one"))
        old = await deployment.live(1)
        slow = asyncio.create_task(ask(old, f"/after{gate}"))
        await eventually(lambda: value(old.in_flight == 1), lambda: "the request to begin")
        await deployment.push(saying("two"))
        await deployment.live(2)
        await deployment.until(1, Phase.DRAINING)
        assert len(runtime.running) == 2
        gate.touch()
        assert await slow == (200, "one")
        await deployment.until(1, Phase.RETIRED)


async def test_a_request_that_does_not_end_is_not_waited_for_for_ever(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with deployment.deploying(drain_timeout=0.1):
        await deployment.push(saying("one"))
        old = await deployment.live(1)
        slow = asyncio.create_task(ask(old, f"/after{tmp_path / 'never'}"))
        await eventually(lambda: value(old.in_flight == 1), lambda: "the request to begin")
        await deployment.push(saying("two"))
        await deployment.until(1, Phase.RETIRED)
        details = [event.detail for event in await deployment.events()]
        assert "some requests were cut off after 0.1 s" in details
        await asyncio.wait([slow])
        assert slow.exception() is not None


async def test_only_what_is_live_and_what_was_before_stay_on_the_disk(
    deployment: Deployment,
) -> None:
    async with deployment.deploying():
        for number, says in enumerate(("one", "two", "three"), 1):
            await deployment.push(saying(says))
            await deployment.live(number)
        await deployment.until(2, Phase.RETIRED)
        # One more, so that what is left was looked at after the second one had retired.
        await deployment.push(saying("four", start="dies"))
        await deployment.until(4, Phase.FAILED)
        await eventually(lambda: deployment.are_staged({"2", "3"}), lambda: "the others to go")


async def test_what_is_set_but_not_declared_does_not_reach_the_app(
    deployment: Deployment,
) -> None:
    await deployment.configure(key="k", stray="s")
    async with deployment.deploying():
        await deployment.push(saying("one", variables={"key": {}}))
        await deployment.live(1)
        assert await deployment.ask("/variables") == (200, '{"key": "k"}')
        details = [event.detail for event in await deployment.events()]
        assert "hello 0.1.0, 1 component; set, but not declared by it: stray" in details


async def test_the_same_digest_again_does_nothing(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("one"), tag="v1")
        await eventually(
            lambda: deployment.told("tag v1 was pushed with the same digest again"),
            lambda: "the event",
        )
        assert len(await deployment.revisions()) == 1
        assert runtime.starts == [1]


async def test_tagging_an_older_digest_goes_back_to_it(deployment: Deployment) -> None:
    async with deployment.deploying():
        for number, says in enumerate(("one", "two", "one"), 1):
            await deployment.push(saying(says))
            await deployment.live(number)
        assert await deployment.ask() == (200, "one")


async def test_a_newer_push_stops_one_that_is_not_yet_live(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying(health_timeout=60.0):
        await deployment.push(saying("one", health=503))
        await deployment.until(1, Phase.CHECKING)
        await deployment.push(saying("two"))
        await deployment.live(2)
        assert (await deployment.until(1, Phase.SUPERSEDED)).reason == (
            "revision 2 was admitted before this one was live"
        )
        assert len(runtime.running) == 1


async def test_a_newer_push_stops_one_that_does_not_start(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying(health_timeout=60.0):
        await deployment.push(saying("one", start="hangs"))
        await deployment.until(1, Phase.STARTING)
        await deployment.push(saying("two"))
        await deployment.live(2)
        assert len(runtime.running) == 1


async def test_of_racing_pushes_the_last_one_wins(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        for says in range(8):
            await deployment.push(saying(str(says)), tag=f"v{says % 3}")
        await deployment.live(8)
        assert await deployment.ask() == (200, "7")
        await eventually(lambda: value(len(runtime.running) == 1), lambda: "one instance")
        for revision in (await deployment.revisions())[1:]:
            await deployment.until(
                revision.number,
                Phase.RETIRED if revision.phase is Phase.DRAINING else revision.phase,
            )
        others = {revision.phase for revision in (await deployment.revisions())[1:]}
        assert others <= {Phase.SUPERSEDED, Phase.RETIRED}


async def test_what_is_no_spin_application_makes_no_app(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(container(), "demo/container")
        newest = await deployment.store.newest_move()

        async def passed() -> bool:
            return await deployment.journal.cursor() == newest

        await eventually(passed, lambda: "the cursor to advance")
        assert await deployment.journal.apps() == []


async def test_signatures_of_an_app_do_not_disturb_it(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        digest = await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("forged"), tag=f"sha256-{digest.encoded}.sig")
        newest = await deployment.store.newest_move()

        async def passed() -> bool:
            return await deployment.journal.cursor() == newest

        await eventually(passed, lambda: "the cursor to advance")
        assert len(await deployment.revisions()) == 1


async def test_deleting_the_tag_stops_nothing(deployment: Deployment) -> None:
    async with deployment.deploying() as deployer:
        await deployment.push(saying("one"))
        await deployment.live(1)
        repository = deployment.store.repository(RepositoryName.parse(HELLO))
        await repository.delete_tag(Tag.parse("latest"))
        deployer.wake()
        await eventually(
            lambda: deployment.told("tag latest was deleted; what runs goes on"),
            lambda: "the event",
        )
        assert await deployment.ask() == (200, "one")


async def test_what_runs_cannot_be_deleted(deployment: Deployment) -> None:
    async with deployment.deploying():
        digests = [await deployment.push(saying("one"))]
        await deployment.live(1)
        digests.append(await deployment.push(saying("two")))
        await deployment.live(2)
        repository = deployment.store.repository(RepositoryName.parse(HELLO))
        for digest in digests:
            with pytest.raises(Held, match="demo/hello"):
                await repository.delete_manifest(digest)


async def test_what_was_live_long_ago_can_be_deleted(deployment: Deployment) -> None:
    async with deployment.deploying():
        first = await deployment.push(saying("one"))
        await deployment.live(1)
        for number, says in enumerate(("two", "three"), 2):
            await deployment.push(saying(says))
            await deployment.live(number)
        await deployment.store.repository(RepositoryName.parse(HELLO)).delete_manifest(first)


async def test_an_app_of_spin_1_goes_live(deployment: Deployment) -> None:
    wasm = json.dumps({"says": "old"}).encode()
    async with deployment.deploying():
        await deployment.push(artifacts.config_app(locked_app(wasm), wasm))
        await deployment.live(1)
        assert await deployment.ask() == (200, "old")


async def test_the_name_is_known_once_it_was_validated(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        assert (await deployment.app()).name == "hello"
