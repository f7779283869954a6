"""What is live is started again, less and less often, and hinders nobody by it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from registry.deploy.runtimes import Instance, StartFailed, Workload
from tests.deploy.deployment import Deployment, ask, eventually, saying, value
from tests.deploy.local_runtime import LocalRuntime


class Failing(LocalRuntime):
    """A runtime that starts every revision once."""

    async def start(self, workload: Workload) -> Instance:
        if workload.revision in self.starts:
            raise StartFailed("not again")
        return await super().start(workload)


@pytest.mark.parametrize("runtime", [Failing], indirect=True)
async def test_a_start_that_took_long_and_failed_is_no_good_run(
    deployment: Deployment, runtime: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.residence.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("registry.deploy.residence.GOOD_RUN", 0.0)
    async with deployment.deploying():
        await deployment.push(saying("one"))
        first = await deployment.live(1)
        with contextlib.suppress(Exception):
            await ask(first, "/die")
        await eventually(
            lambda: deployment.told("not again; it is started again in 0.04 s"),
            lambda: "the pauses to grow",
        )


async def test_a_good_run_makes_the_next_pause_short_again(
    deployment: Deployment, runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.residence.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("registry.deploy.residence.GOOD_RUN", 0.0)
    async with deployment.deploying():
        await deployment.push(saying("one"))
        for times in range(1, 4):
            await eventually(
                lambda times=times: value(len(runtime.starts) == times and bool(runtime.running)),  # type: ignore[misc]  # lambda defaults have no types
                lambda: "the app to run",
            )
            await deployment.live(1)
            await runtime.running[0].stop(0)
        told = [event.detail for event in await deployment.events() if "again" in event.detail]
        assert {detail.rpartition(" in ")[2] for detail in told} == {"0.01 s"}


class Stuck(LocalRuntime):
    """A runtime in which a second compilation or start of the app "stuck" does not end."""

    def __init__(self, run: Path) -> None:
        super().__init__(run)
        self.where = "start"

    async def prepare(self, workload: Workload) -> None:
        if (
            self.where == "prepare"
            and workload.name == "stuck"
            and workload.revision in self.starts
        ):
            await asyncio.Event().wait()
        await super().prepare(workload)

    async def start(self, workload: Workload) -> Instance:
        if self.where == "start" and workload.name == "stuck" and self.starts:
            await asyncio.Event().wait()
        return await super().start(workload)


@pytest.mark.parametrize("where", ["prepare", "start"])
@pytest.mark.parametrize("runtime", [Stuck], indirect=True)
async def test_an_app_that_does_not_come_up_again_keeps_no_other_from_it(
    deployment: Deployment, runtime: Stuck, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.site.TURN", 0.05)
    runtime.where = where
    async with deployment.deploying():
        for name in ("stuck", "well"):
            await deployment.push(saying(name, name=name), f"demo/{name}")
            await deployment.live(1, f"demo/{name}")
    async with deployment.deploying(at_once=1, health_timeout=3600.0):
        await deployment.live(1, "demo/well")
        await deployment.push(saying("new", name="well"), "demo/well")
        await deployment.live(2, "demo/well")
        assert await deployment.ask("/", "demo/stuck") == (503, "")


@pytest.mark.parametrize("runtime", [Stuck], indirect=True)
async def test_compiling_is_not_waited_for_for_ever_when_an_app_comes_up_again(
    deployment: Deployment, runtime: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.where = "prepare"
    async with deployment.deploying():
        await deployment.push(saying("one", name="stuck"))
        await deployment.live(1)
    monkeypatch.setattr("registry.deploy.site.PREPARE_TIMEOUT", 0.05)
    async with deployment.deploying():
        await eventually(
            lambda: deployment.told("it was not compiled within 0.05 s"), lambda: "the event"
        )
