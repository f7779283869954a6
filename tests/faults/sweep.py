"""Every call that touches the disk fails, one after the other; nothing that was told may be untrue.

For each scenario and error the n-th call fails, for n = 1, 2, 3 … until the scenario does not meet
the fault: once, and then for ever after; and once after its effect is there. One store lives
through it all. `scripts/faults` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from structlog.testing import capture_logs

from storage.digest import Digest
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.reserve import FilesystemReserve
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import Registry
from tests.faults.scenarios import SCENARIOS, Refused, Scenario, World, message
from tests.faults.seam import ERRORS, Disk, Fault

PATIENCE: Final = 60.0  # seconds after which a request counts as never answered
RESERVE: Final = 1 << 16  # bytes


@dataclass
class Found:
    points: Counter[str] = field(default_factory=Counter)
    """Faults that were met, by scenario."""
    acknowledged: int = 0
    """Of those, where the scenario succeeded all the same."""
    violations: list[str] = field(default_factory=list)


@asynccontextmanager
async def opened(layout: Layout, clock: list[float]) -> AsyncIterator[Registry]:
    reserve = FilesystemReserve(layout, RESERVE)
    store = await Store.open(
        await SQLite.open(layout),
        FilesystemBlobs(layout, reserve),
        now=lambda: clock[0],
        reserve=reserve,
    )
    await reserve.fill()
    try:
        yield Registry(store)
    finally:
        await store.close()


def descriptors() -> Counter[str]:
    """What this process has open, without the database: SQLite keeps some for later."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if "records.db" not in target and "/fd" not in target:
            found[target] += 1
    return found


class Sweep:
    def __init__(self, layout: Layout, registry: Registry, disk: Disk, clock: list[float]) -> None:
        self._layout = layout
        self._registry = registry
        self._disk = disk
        self._clock = clock
        self._salts = itertools.count(1)
        self.found = Found()

    async def exhaust(
        self,
        scenario: Scenario,
        number: int,
        *,
        lasting: bool = False,
        late: bool = False,
        every: int = 1,
    ) -> None:
        """All n, or each `every`-th, until the fault is not met any more."""
        for at in itertools.count(1, every):
            if not await self._point(scenario, Fault(number, at, lasting, late)):
                return

    async def _point(self, scenario: Scenario, fault: Fault) -> bool:
        """False when the fault was not met."""
        world = World(self._registry, f"s{next(self._salts):06}", self._clock)
        await scenario.before(world)
        baseline = descriptors()
        wrong: list[str] = []
        acknowledged = False
        with self._disk.failing(fault):
            try:
                await asyncio.wait_for(scenario.act(world), PATIENCE)
                acknowledged = True
            except Refused as refused:
                wrong += _refusal(refused, fault)
            except TimeoutError:
                wrong.append("no answer")
            except Exception as error:
                wrong.append(f"{type(error).__name__}: {error}")
        met = list(self._disk.met)
        if met:
            wrong += await self._look(scenario, world, acknowledged)
            wrong += await self._go_on(scenario, world)
            if extra := descriptors() - baseline:
                wrong.append(f"left open: {dict(extra)}")
            self.found.points[scenario.name] += 1
            self.found.acknowledged += acknowledged
        elif not acknowledged:
            wrong.append("failed without a fault")
        self.found.violations += [
            f"{scenario.name}, {fault} ({(met or ['none'])[0][:60]}): {sentence}"
            for sentence in wrong
        ]
        return bool(met)

    async def _look(self, scenario: Scenario, world: World, acknowledged: bool) -> list[str]:
        """What a new process finds: a store opened on the same directory, without faults."""
        wrong = []
        async with opened(self._layout, self._clock) as fresh:
            seen = World(fresh, world.salt, self._clock)
            try:
                if not await scenario.done(seen) and acknowledged:
                    wrong.append("acknowledged, and not there")
                if scenario.kept is not None and not await scenario.kept(seen):
                    wrong.append("something else was lost")
            except AssertionError as error:
                wrong.append(f"half done: {error}")
        return wrong

    async def _go_on(self, scenario: Scenario, world: World) -> list[str]:
        """The disk is well again, and the same process goes on: the same again succeeds."""
        await self._registry.store.reserve.fill()  # as the collector does
        try:
            done = await scenario.done(world)
            try:
                await asyncio.wait_for(scenario.act(world), PATIENCE)
            except Refused as refused:
                # To delete what is deleted already is no success.
                if not (done and refused.answer is not None and refused.answer.status == 404):
                    return [f"the same again is refused: {refused}"]
            if not await scenario.done(world):
                return ["the same again is not done"]
        except Exception as error:
            return [f"afterwards: {type(error).__name__}: {error}"]
        return []

    async def settle(self) -> None:
        """At the end: every file is what its name says, and every row has its bytes."""
        blobs = self._registry.store.blobs
        for part in range(blobs.parts):
            for digest, _ in await blobs.kept(part):
                data = Path(self._layout.blob(digest)).read_bytes()
                if digest.algorithm.digest(data) != digest:
                    self.found.violations.append(f"the file of {digest} has other bytes")
        rows = await self._registry.store.database.read(
            lambda c: c.all("SELECT DISTINCT digest FROM links")
        )
        for (digest_text,) in rows:
            if not os.path.exists(self._layout.blob(Digest.parse(str(digest_text)))):
                self.found.violations.append(f"{digest_text} has a row and no bytes")


def _refusal(refused: Refused, fault: Fault) -> list[str]:
    """What is wrong with an answer to a request that failed."""
    answer = refused.answer
    if answer is None:  # broken off, or no request at all
        return []
    if answer.status < 500:
        return [f"answered with {answer.status}"]
    if not answer.body:  # to a HEAD
        return []
    try:
        message(answer)
    except (AssertionError, ValueError, KeyError) as error:
        return [f"no OCI error: {error!r}"]
    return []


async def sweep(
    root: Path, plan: Iterable[tuple[Scenario, int, bool, bool, int]], *, say: bool = False
) -> Found:
    """`plan`: scenario, errno, for ever, too late, and which share of the calls."""
    disk, clock = Disk(), [time.time()]
    layout = Layout.open(root)
    with disk.between(), capture_logs():
        async with opened(layout, clock) as registry:
            sweeping = Sweep(layout, registry, disk, clock)
            for scenario, number, lasting, late, every in plan:
                before = sum(sweeping.found.points.values())
                await sweeping.exhaust(scenario, number, lasting=lasting, late=late, every=every)
                if say:
                    points = sum(sweeping.found.points.values()) - before
                    print(f"{scenario.name:40} {Fault(number, 0, lasting, late)} {points}")
            await sweeping.settle()
    return sweeping.found


def full(scenarios: Sequence[Scenario] = SCENARIOS) -> list[tuple[Scenario, int, bool, bool, int]]:
    return [
        (scenario, number, lasting, late, 1)
        for scenario in scenarios
        for number in ERRORS
        for lasting, late in ((False, False), (True, False), (False, True))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every error at every call")
    parser.add_argument("--only", help="scenarios with this in their name")
    given = parser.parse_args()
    chosen = [one for one in SCENARIOS if not given.only or given.only in one.name]
    plan = full(chosen) if given.full else short(chosen)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        found = asyncio.run(sweep(Path(scratch) / "data", plan))
    for name, points in found.points.items():
        print(f"{name:42} {points:5}")
    print(*found.violations, sep="\n")
    print(
        f"{found.points.total()} points, {found.acknowledged} acknowledged all the same,"
        f" {len(found.violations)} violations, in {time.perf_counter() - began:.0f} s"
    )
    return 1 if found.violations or not found.points else 0


def short(scenarios: Sequence[Scenario] = SCENARIOS) -> list[tuple[Scenario, int, bool, bool, int]]:
    """Two errors at every call, the others here and there."""
    eio, enospc, *others = ERRORS
    plan = []
    for turn, scenario in enumerate(scenarios):
        plan.append((scenario, eio, False, False, 1))
        plan.append((scenario, enospc, True, False, 1))
        number = others[turn % len(others)]
        plan.append((scenario, number, turn % 2 == 0, turn % 2 == 1, 3))
    return plan


if __name__ == "__main__":
    sys.exit(main())
