"""Kills a scenario at every step, on both sides of it, and has a new process look at what is left.

Everything runs in processes forked from this one, which has read all modules and opened nothing.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tests.crash import journal
from tests.crash.check import check
from tests.crash.files import files_below
from tests.crash.journal import Event, Told, Writer
from tests.crash.scenarios import Scenario
from tests.crash.steps import Side, Steps, run_inline

LIMIT: Final = 180  # seconds: a process that takes longer hangs


@dataclass
class Swept:
    scenario: str
    points: int = 0
    """Deaths, each followed by a look."""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def forking(work: Callable[[int], Awaitable[None]]) -> tuple[int, IO[str]]:
    """Run it in a process of its own; its id, and where it tells what it does."""
    reading, writing = os.pipe()
    gc.freeze()  # or every child would copy every page that holds an object
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(LIMIT)
            os.close(reading)
            gc.disable()  # it would look at all that this one never made
            asyncio.run(work(writing))  # type: ignore[arg-type]  # an async function
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    return child, os.fdopen(reading)


def ended(child: int) -> int:
    """Its exit status; negative: the signal that it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(work: Callable[[int], Awaitable[None]]) -> tuple[int, list[str]]:
    """Run it to its end; its exit status, and what it told."""
    child, told = forking(work)
    with told:
        lines = told.read().splitlines()
    return ended(child), lines


class Stage:
    """A data directory, made as a scenario finds it again and again."""

    def __init__(self, scenario: Scenario, scratch: Path) -> None:
        self.scenario = scenario
        self.root = scratch / "data"
        self.before: list[Event] = []
        self._template = scratch / "template"
        self._files: list[Path] = []
        if scenario.prepare is not None:
            self._prepare()

    def _prepare(self) -> None:
        prepare = self.scenario.prepare
        assert prepare is not None

        async def fill(pipe: int) -> None:
            await prepare(self._template, Writer(pipe))

        status, lines = forked(fill)
        told = journal.read(lines)
        assert (status, told.wrong) == (0, [])
        self.before = [Event(event.request, done=event.done) for event in told.events]
        for at, event in enumerate(self.before, -len(told.events)):
            event.began = event.ended = at
        shutil.copytree(self._template, self.root, symlinks=True)
        paths = sorted(self._template.rglob("*"))
        self._files = [path.relative_to(self._template) for path in paths if path.is_file()]

    def set(self) -> None:
        if self.scenario.prepare is None:
            shutil.rmtree(self.root, ignore_errors=True)
            return
        for path in files_below(self.root):
            path.unlink()
        for path in self._files:
            shutil.copy2(self._template / path, self.root / path)

    def look(self, told: Told) -> list[str]:
        """What a new process finds wrong."""
        events = [*self.before, *told.events]

        async def work(pipe: int) -> None:
            run_inline()  # on a busy machine every change of threads is a wait
            for sentence in await check(self.root, self.scenario, events):
                os.write(pipe, f"{sentence}\n".encode())

        status, wrong = forked(work)
        return [*told.wrong, *wrong, *([] if status == 0 else [f"the look ended with {status}"])]


def killed(stage: Stage, step: int, side: Side) -> tuple[int, Told]:
    """Run the scenario up to that step, or with 0 to its end; its exit status, and what it told."""
    scenario = stage.scenario

    async def work(pipe: int) -> None:
        run_inline(scenario.seed)
        steps = Steps(step, side)
        steps.watch(outside=scenario.outside)
        writer = Writer(pipe)
        await scenario.run(stage.root, writer, steps)
        writer.steps(steps.labels)

    stage.set()
    status, lines = forked(work)
    return status, journal.read(lines)


def sweep(scenario: Scenario, scratch: Path, *, brief: bool = False) -> Swept:
    """Every step on both sides, or with `brief` on as few as show nearly as much."""
    swept, began = Swept(str(scenario)), time.perf_counter()
    stage = Stage(scenario, scratch)
    status, told = killed(stage, 0, Side.BEFORE)
    if status != 0 or told.wrong or not told.steps:
        swept.wrong.append(f"undisturbed: it ended with {status}, {told.wrong}")
        return swept
    swept.wrong += [f"undisturbed: {sentence}" for sentence in stage.look(told)]
    for step, side in few(told.steps, scenario.stride) if brief else all_of(told.steps):
        status, told = killed(stage, step, side)
        if status == 0 and scenario.timed:
            continue
        if status != -signal.SIGKILL:
            swept.wrong.append(f"{side.value} step {step}: it ended with {status}, {told.wrong}")
            continue
        swept.points += 1
        swept.wrong += [f"{told.died}: {sentence}" for sentence in stage.look(told)]
    swept.seconds = time.perf_counter() - began
    return swept


def all_of(steps: list[str]) -> Iterator[tuple[int, Side]]:
    yield from itertools.product(range(1, len(steps) + 1), Side)


def few(steps: list[str], stride: int) -> Iterator[tuple[int, Side]]:
    """Before each, and after those that a client hears of: in between it hears nothing."""
    for number in range(1, len(steps) + 1, stride):
        yield number, Side.BEFORE
        if steps[number - 1] == "COMMIT":
            yield number, Side.AFTER
