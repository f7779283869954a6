"""One deployer follows another while requests come: the applications answer all the while."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from registry.deploy.reconciler import Deployer
from registry.deploy.rollout import Phase
from registry.deploy.routes import HostUnknown, Routes
from registry.deploy.runtimes import Limits
from storage.names import RepositoryName
from tests.deploy.deployment import DOMAIN, HELLO, Deployment, ask, eventually, saying, value
from tests.deploy.local_runtime import LocalRuntime


class Process:
    """What a process has for itself: routes, instances, a deployer. The rows are everybody's."""

    def __init__(self, deployment: Deployment, run: Path, domain: str) -> None:
        self.routes = Routes()
        run.mkdir()
        self.runtime = LocalRuntime(run)
        self.warm = asyncio.Event()
        self._deployer = Deployer(
            deployment.store,
            deployment.journal,
            self.runtime,
            self.routes,
            directory=deployment.layout.apps,
            domain=domain,
            limits=Limits(),
            workers=1,
            health_timeout=10.0,
            drain_timeout=10.0,
        )
        self._running: asyncio.Task[None] | None = None

    async def start(self, *, successor: bool = True) -> None:
        """A successor is started when it is warm."""
        self._running = asyncio.create_task(self._deployer.run(self.warm if successor else None))
        if successor:
            await asyncio.wait_for(self.warm.wait(), 30)

    async def stop(self, *, hand_over: bool) -> None:
        """The deployer; with `hand_over` its instances go on."""
        assert self._running is not None
        if hand_over:
            self._deployer.hand_over()
        self._running.cancel()
        await asyncio.wait([self._running])

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self.runtime.close()

    def leads(self, host: str) -> bool:
        try:
            return self.routes.resolve(host) is not None
        except HostUnknown:
            return False

    async def says(self, host: str) -> str:
        target = self.routes.resolve(host)
        assert target is not None, "it leads nowhere"
        return (await ask(target))[1]


class Processes:
    def __init__(self, deployment: Deployment, run: Path) -> None:
        self._deployment = deployment
        self._run = run
        self._all: list[Process] = []

    def another(self, domain: str = DOMAIN) -> Process:
        run = self._run / str(len(self._all))
        self._all.append(Process(self._deployment, run, domain))
        return self._all[-1]

    async def end(self) -> None:
        for process in self._all:
            await process.end()


@asynccontextmanager
async def two(deployment: Deployment, run: Path) -> AsyncIterator[tuple[Processes, Process, str]]:
    """The processes, the first of them with an app that is live, and the host of that."""
    processes = Processes(deployment, run)
    try:
        first = processes.another()
        await first.start(successor=False)
        await deployment.push(saying("one"))
        await deployment.until(1, Phase.LIVE)
        host = (await deployment.app()).host
        await eventually(lambda: value(first.leads(host)), lambda: "the app to answer")
        yield processes, first, host
    finally:
        await processes.end()


async def test_the_next_one_answers_before_the_first_one_stops(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another()
        await second.start()
        assert (await first.says(host), await second.says(host)) == ("one", "one")
        await first.stop(hand_over=True)
        assert (await first.says(host), await second.says(host)) == ("one", "one")
        await first.end()
        assert first.runtime.running == []
        assert await second.says(host) == "one"


async def test_what_runs_already_is_taken_over_and_not_started_again(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another()
        await second.start()
        await first.stop(hand_over=True)
        await deployment.push(saying("two"))
        await deployment.until(2, Phase.LIVE)
        await deployment.until(1, Phase.RETIRED)
        assert await second.says(host) == "two"
        assert second.runtime.starts == [1, 2]
        assert len(second.runtime.running) == 1
        assert await first.says(host) == "one", "for whoever is still connected to it"


async def test_an_instance_that_was_taken_over_is_replaced_when_it_dies(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another()
        await second.start()
        await first.stop(hand_over=True)
        [instance] = second.runtime.running
        instance._process.kill()
        await eventually(lambda: value(second.runtime.starts == [1, 1]), lambda: "another one")
        await eventually(lambda: value(second.leads(host)), lambda: "it to be led to")
        assert await second.says(host) == "one"


async def test_what_went_live_meanwhile_is_what_answers_in_the_end(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another()
        await second.start()
        await deployment.push(saying("two"))
        await deployment.until(2, Phase.LIVE)
        await first.stop(hand_over=True)

        async def says_two() -> bool:
            return second.leads(host) and await second.says(host) == "two"

        await eventually(says_two, lambda: "the newer revision to answer")
        await eventually(
            lambda: value(len(second.runtime.running) == 1), lambda: "the older one to end"
        )


async def test_a_rollout_that_was_under_way_is_taken_up(deployment: Deployment, run: Path) -> None:
    async with two(deployment, run) as (processes, first, host):
        await deployment.push(saying("two", start="hangs"))
        await deployment.until(2, Phase.STARTING)
        second = processes.another()
        await second.start()
        await first.stop(hand_over=True)
        assert len(first.runtime.running) == 1, "the one that was not live has ended"
        await deployment.push(saying("three"))
        await deployment.until(3, Phase.LIVE)
        await eventually(lambda: value(second.leads(host)), lambda: "the app to answer")


async def test_an_app_that_was_forgotten_meanwhile_does_not_answer(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another()
        await second.start()
        await deployment.journal.forget(RepositoryName.parse(HELLO))
        await first.stop(hand_over=True)
        await eventually(lambda: value(not second.runtime.running), lambda: "it to end")
        assert not second.leads(host)


async def test_an_app_whose_files_are_lost_does_not_hold_up_the_others(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        shutil.rmtree(deployment.layout.apps / (await deployment.app()).id)
        second = processes.another()
        await second.start()
        assert not second.leads(host)
        await first.stop(hand_over=True)
        await eventually(lambda: value(second.leads(host)), lambda: "it to be staged again")
        assert await second.says(host) == "one"


async def test_under_another_domain_the_old_host_leads_nowhere(
    deployment: Deployment, run: Path
) -> None:
    async with two(deployment, run) as (processes, first, host):
        second = processes.another("other.example")
        await second.start()
        await first.stop(hand_over=True)
        new = host.replace(DOMAIN, "other.example")
        await eventually(lambda: value(second.leads(new)), lambda: "the new host to be known")
        assert await second.says(new) == "one"
        with pytest.raises(HostUnknown):
            second.routes.resolve(host)


async def test_without_a_successor_nothing_goes_on(deployment: Deployment, run: Path) -> None:
    async with two(deployment, run) as (_, first, host):
        await first.stop(hand_over=False)
        assert first.runtime.running == []
        assert not first.leads(host)
