"""A steward goes by the rows, whatever became of the steps that led to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from registry.deploy.rollout import Phase
from registry.deploy.runtimes import Address, Instance, Workload
from storage.records.database import Connection, Database
from tests.deploy.deployment import Deployment, eventually, saying, value
from tests.deploy.local_runtime import LocalRuntime
from tests.deploy.mortal import Killed, Mortal

T = TypeVar("T")


class Breaking(LocalRuntime):
    """A runtime that lets something happen whenever an app is prepared."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.on_prepare: Callable[[], None] = lambda: None

    async def prepare(self, workload: Workload) -> None:
        await super().prepare(workload)
        self.on_prepare()


@pytest.mark.parametrize("runtime", [Breaking], indirect=True)
async def test_what_cannot_be_recorded_is_not_tried_again_at_once(
    deployment: Deployment, runtime: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full stays so for a while, and a rollout costs much."""
    monkeypatch.setattr("registry.deploy.steward.RETRY", 3600.0)
    mortal = Mortal(deployment.journal.database, 1000, after=False)
    runtime.on_prepare = mortal.dead.set
    async with deployment.deploying(mortal) as deployer:
        await deployment.push(saying("one"))
        await eventually(lambda: value(bool(runtime.prepared)), lambda: "the app to be prepared")
        for _ in range(100):  # turns in which another walk would come as far
            deployer.wake()
            await asyncio.sleep(0.002)
        assert len(runtime.prepared) == 1


class Mumbling(Mortal):
    """A database whose answer is lost, once, when a second revision became live."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, 1000, after=False)
        self.lost = False

    async def write(self, change: Callable[[Connection], T]) -> T:
        result = await super().write(change)
        live = await self.read(lambda connection: connection.one("SELECT live FROM apps"))
        if live == (2,) and not self.lost:
            self.lost = True
            raise Killed
        return result


async def test_a_revision_that_is_live_by_its_rows_gets_the_traffic(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    """A connection that breaks in a commit leaves open whether it happened."""
    async with deployment.deploying(Mumbling(deployment.journal.database)):
        await deployment.push(saying("one"))
        await deployment.live(1)
        await deployment.push(saying("two"))
        await deployment.live(2)
        assert await deployment.ask() == (200, "two")
        await deployment.until(1, Phase.RETIRED)
        assert len(runtime.running) == 1


class Waiting(Mortal):
    """A database that lets something happen before a revision becomes live."""

    def __init__(self, database: Database, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__(database, 1000, after=False)
        self._before = before
        self._waited = False

    async def write(self, change: Callable[[Connection], T]) -> T:
        statement = "SELECT 1 FROM revisions WHERE phase = 'checking'"
        checking = await self.read(lambda connection: connection.one(statement))
        if checking and not self._waited:
            self._waited = True
            await self._before()
        return await super().write(change)


async def test_a_push_while_a_revision_becomes_live_is_no_mistake(
    deployment: Deployment, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.steward.RETRY", 3600.0)

    async def before() -> None:
        await deployment.push(saying("two"))
        await deployment.until(1, Phase.SUPERSEDED)

    async with deployment.deploying(Waiting(deployment.journal.database, before)):
        await deployment.push(saying("one"))
        await deployment.live(2)
        assert len(runtime.running) == 1


class Blind(Mortal):
    """A database that cannot be read once `blind`."""

    blind = False

    async def read(self, query: Callable[[Connection], T]) -> T:
        if self.blind:
            raise Killed
        return await super().read(query)


class Watched:
    """An instance that tells when nobody waits any more for its end."""

    def __init__(self, instance: Instance, left: asyncio.Event) -> None:
        self._instance = instance
        self._left = left

    @property
    def address(self) -> Address:
        return self._instance.address

    async def stop(self, grace: float) -> None:
        await self._instance.stop(grace)

    async def wait(self) -> str:
        try:
            return await self._instance.wait()
        finally:
            self._left.set()


class Watching(LocalRuntime):
    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.on_start: Callable[[], None] = lambda: None
        self.left = asyncio.Event()

    async def start(self, workload: Workload) -> Instance:
        instance = await super().start(workload)
        self.on_start()
        return Watched(instance, self.left)


@pytest.mark.parametrize("runtime", [Watching], indirect=True)
async def test_an_instance_that_was_healthy_but_not_yet_live_ends_with_the_deployer(
    deployment: Deployment, runtime: Watching
) -> None:
    blind = Blind(deployment.journal.database, 1000, after=False)

    def look_away() -> None:
        blind.blind = True

    runtime.on_start = look_away
    async with deployment.deploying(blind):
        await deployment.push(saying("one"))
        await runtime.left.wait()
        for _ in range(20):  # until its walk has ended
            await asyncio.sleep(0)
    assert len(runtime.instances) == 1
    assert runtime.running == []
