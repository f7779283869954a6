"""Deployers stop, start and lose their lease, instances die, apps are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from registry.deploy import ledger
from registry.deploy.lease import LeaseLost
from registry.deploy.rollout import Phase
from registry.deploy.routes import HostUnknown
from registry.deploy.runtimes import Instance, Workload
from storage.names import RepositoryName
from storage.records.database import Connection, Database
from tests.deploy.deployment import DOMAIN, HELLO, Deployment, ask, eventually, saying, value
from tests.deploy.local_runtime import LocalRuntime

T = TypeVar("T")


async def test_a_restart_starts_what_was_live_again_without_a_push(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
    assert runtime.running == []
    assert await deployment.ask() == (503, "")
    async with deployment.deploying():
        await deployment.live(1)
        assert await deployment.ask() == (200, "one")
        assert len(await deployment.revisions()) == 1


async def test_a_restart_serves_the_old_one_while_a_new_one_is_rolled_out(
    deployment: Deployment,
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("two", start="hangs"))
        await deployment.until(2, Phase.STARTING)
    async with deployment.deploying():
        await deployment.live(1)
        assert await deployment.ask() == (200, "one")
        await deployment.until(2, Phase.STARTING)


async def test_a_restart_finds_its_files_again_from_the_store(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
    shutil.rmtree(deployment.layout.apps / (await deployment.app()).id)
    async with deployment.deploying():
        await deployment.live(1)
        assert await deployment.ask() == (200, "one")


async def test_a_restart_keeps_the_settings_that_what_is_live_was_proven_with(
    deployment: Deployment,
) -> None:
    await deployment.configure(key="first")
    async with deployment.deploying():
        await deployment.push(saying("one", variables={"key": {}}))
        await deployment.live(1)
        await deployment.configure()  # the required variable is gone
        await deployment.until(2, Phase.FAILED)
    async with deployment.deploying():
        await deployment.live(1)
        assert await deployment.ask("/variables") == (200, '{"key": "first"}')


async def test_an_instance_that_dies_is_started_again(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        first = await deployment.live(1)
        with contextlib.suppress(Exception):
            await ask(first, "/die")
        await eventually(lambda: deployment.told("it is started again"), lambda: "the event")

        async def again() -> bool:
            return (await deployment.ask())[0] == 200

        await eventually(again, lambda: "the app to answer again")
        assert await deployment.live(1) is not first
        assert runtime.starts == [1, 1]


async def test_nothing_is_led_to_an_instance_that_is_dead(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        first = await deployment.live(1)
        with contextlib.suppress(Exception):
            await ask(first, "/die")

        async def nowhere() -> bool:
            return (await deployment.ask())[0] == 503

        await eventually(nowhere, lambda: "the host to lead nowhere")


class Headstrong(LocalRuntime):
    """A runtime that finishes what it began: a second start of a revision waits for `gate`."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def start(self, workload: Workload) -> Instance:
        if workload.revision in self.starts:
            self.begun.set()
            while not self.gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.gate.wait()
        return await super().start(workload)


@pytest.mark.parametrize("runtime", [Headstrong], indirect=True)
async def test_an_old_revision_that_comes_up_again_too_late_gets_no_traffic(
    deployment: Deployment, runtime: Headstrong
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        first = await deployment.live(1)
        with contextlib.suppress(Exception):
            await ask(first, "/die")
        await runtime.begun.wait()
        await deployment.push(saying("two"))
        await deployment.live(2)
        runtime.gate.set()
        await deployment.until(1, Phase.RETIRED)
        assert await deployment.ask() == (200, "two")
        assert len(runtime.running) == 1


async def test_a_push_replaces_an_instance_that_keeps_dying(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        first = await deployment.live(1)
        with contextlib.suppress(Exception):
            await ask(first, "/die")
        await deployment.push(saying("two"))
        await deployment.live(2)
        await deployment.until(1, Phase.RETIRED)
        assert await deployment.ask() == (200, "two")
        assert len(runtime.running) == 1


async def test_stopping_the_deployer_ends_every_instance(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        for name in ("demo/a", "demo/b"):
            await deployment.push(saying("one"), name)
            await deployment.live(1, name)
        await deployment.push(saying("two", start="hangs"), "demo/b")
        await deployment.until(2, Phase.STARTING, "demo/b")
    assert runtime.running == []


class Lingering:
    """An instance that does not begin to end before `gate` is open."""

    def __init__(self, instance: Instance, stopping: asyncio.Event, gate: asyncio.Event) -> None:
        self._instance = instance
        self._stopping = stopping
        self._gate = gate
        self.address = instance.address

    async def stop(self, grace: float) -> None:
        self._stopping.set()
        await self._gate.wait()
        await self._instance.stop(grace)

    async def wait(self) -> str:
        return await self._instance.wait()


class Slow(LocalRuntime):
    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.stopping = asyncio.Event()
        self.gate = asyncio.Event()

    async def start(self, workload: Workload) -> Instance:
        return Lingering(await super().start(workload), self.stopping, self.gate)


@pytest.mark.parametrize("runtime", [Slow], indirect=True)
async def test_an_instance_that_is_being_ended_ends_though_the_deployer_stops_meanwhile(
    deployment: Deployment, runtime: Slow
) -> None:
    async with deployment.deploying(health_timeout=60.0):
        await deployment.push(saying("one", health=503))
        await deployment.until(1, Phase.CHECKING)
        await deployment.push(saying("two"))
        await runtime.stopping.wait()
    runtime.gate.set()
    await eventually(lambda: value(runtime.running == []), lambda: "the instance to end")


@pytest.mark.parametrize("runtime", [Slow], indirect=True)
async def test_an_app_that_is_being_forgotten_ends_though_the_deployer_stops_meanwhile(
    deployment: Deployment, runtime: Slow
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(deployment.deploying())
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.journal.forget(RepositoryName.parse(HELLO))
        await runtime.stopping.wait()
        stopping = asyncio.create_task(stack.aclose())
        for _ in range(50):  # until all have heard of it
            await asyncio.sleep(0)
        runtime.gate.set()
        await stopping
    await eventually(lambda: value(runtime.running == []), lambda: "the instance to end")


async def test_stopping_the_deployer_frees_the_lease(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
    rows = await deployment.journal.database.read(
        lambda connection: connection.all("SELECT holder FROM holds")
    )
    assert rows == [("app demo/hello",)]
    rows = await deployment.journal.database.read(
        lambda connection: connection.all("SELECT 1 FROM deploy_lease")
    )
    assert rows == []


async def test_a_second_deployer_waits_until_the_first_one_stops(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        second = Deployment(
            deployment.layout, deployment.journal.database, deployment.store, runtime
        )
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(second.deploying())
            await deployment.push(saying("two"))
            await deployment.live(2)
            assert runtime.starts == [1, 2]


async def test_a_deployer_that_lost_the_lease_stops_and_waits(
    deployment: Deployment, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.reconciler.RENEWAL", 0.05)
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.journal.database.write(
            lambda connection: connection.execute(
                "UPDATE deploy_lease SET token = 'another one', machine = 'elsewhere'"
            )
        )
        await eventually(lambda: value(runtime.running == []), lambda: "the instance to end")
        assert (await deployment.revisions())[0].phase is Phase.LIVE


async def test_a_forgotten_app_ends_and_leaves_nothing(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        app = await deployment.app()
        await deployment.journal.forget(app.repository)
        await eventually(lambda: value(runtime.running == []), lambda: "the instance to end")
        with pytest.raises(HostUnknown):
            deployment.routes.resolve(app.host)
        await eventually(
            lambda: value(not (deployment.layout.apps / app.id).exists()), lambda: "its files"
        )


async def test_a_forgotten_app_can_be_pushed_again(deployment: Deployment) -> None:
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.journal.forget(RepositoryName.parse(HELLO))
        await deployment.push(saying("two", name="another"))
        await deployment.live(1)

        async def other() -> bool:
            return await deployment.ask() == (200, "two")

        await eventually(other, lambda: "the other app to answer")


async def test_an_app_that_takes_the_place_of_a_forgotten_one_keeps_its_host(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    async with deployment.deploying() as deployer:
        await deployment.push(saying("one"))
        await deployment.live(1)
        host = (await deployment.app()).host

        def change(connection: Connection) -> None:
            for table in ("holds", "events", "revisions", "app_settings", "apps"):
                connection.execute(f"DELETE FROM {table}")
            ledger.ensure_app(connection, RepositoryName.parse(HELLO), DOMAIN, 0.0)

        await deployment.journal.database.write(change)
        deployer.wake()
        await eventually(lambda: value(runtime.running == []), lambda: "the instance to end")
        assert deployment.routes.resolve(host) is None


async def test_files_of_apps_that_nobody_knows_are_removed(deployment: Deployment) -> None:
    stranger = deployment.layout.apps / "0123456789abcdef" / "1"
    stranger.mkdir(parents=True)
    async with deployment.deploying():
        await deployment.push(saying("one"))
        await deployment.live(1)
    assert not stranger.parent.exists()


class Stubborn:
    """A database whose changes do not come back before they are cancelled, and then fail."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.stuck = asyncio.Event()
        self.slow = False

    async def read(self, query: Callable[[Connection], T]) -> T:
        return await self._database.read(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        if self.slow:
            self.slow = False
            try:
                self.stuck.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise LeaseLost from None
        return await self._database.write(change)

    async def migrate(self, room: str, steps: Sequence[Sequence[str]]) -> None:
        await self._database.migrate(room, steps)

    async def close(self) -> None:
        await self._database.close()


async def test_a_deployer_that_loses_its_lease_while_it_is_stopped_stops(
    deployment: Deployment,
) -> None:
    stubborn = Stubborn(deployment.journal.database)
    async with asyncio.timeout(20), deployment.deploying(stubborn):
        await deployment.push(saying("one"))
        await deployment.live(1)
        stubborn.slow = True
        await deployment.push(saying("two"))
        await stubborn.stuck.wait()
