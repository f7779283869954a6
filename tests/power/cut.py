"""Cuts the power: runs a scenario on a disk that logs, and looks at what each cut would leave.

Run as a program by scripts/powercut. Every run has its controls: servers that leave out one thing
of what makes a push durable. A control that loses nothing makes the run void.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.power.check import CORRUPT, MISSING, OTHER
from tests.power.filesystems import FILESYSTEMS, Unmountable, memory, missing
from tests.power.images import plan
from tests.power.replay import record, replay
from tests.power.scenario import Scenario
from tests.power.served import CONTROLS, SHIPPED

SHOWN: Final = 10  # violations
MORE: Final = 3  # times that a control is tried again which lost nothing: a cut loses by chance
_WORDS: Final = (
    "operations",
    "flushes",
    "images",
    "promises",
    MISSING,
    CORRUPT,
    OTHER,
    "unmounted",
)
HEAD: Final = f"{'':36}" + "".join(f"{word:>11}" for word in _WORDS)


@dataclass(frozen=True, slots=True)
class Task:
    """One recording of one mode, and how many images are made of it."""

    mode: str
    filesystem: str
    scratch: Path
    scenario: Scenario
    images: int


@dataclass(slots=True)
class Result:
    """Of one task, or the sum of many."""

    mode: str
    operations: int = 0
    flushes: int = 0
    images: int = 0
    promises: int = 0
    """Acknowledged things that were looked for, over all images."""
    wrong: Counter[str] = field(default_factory=Counter)
    unmounted: int = 0
    """Images whose file system itself was broken."""
    sentences: list[str] = field(default_factory=list)

    def __iadd__(self, other: Result) -> Result:
        self.operations += other.operations
        self.flushes += other.flushes
        self.images += other.images
        self.promises += other.promises
        self.wrong += other.wrong
        self.unmounted += other.unmounted
        self.sentences += other.sentences
        return self

    @property
    def losses(self) -> int:
        return self.wrong.total()

    def __str__(self) -> str:
        counts = (
            *(self.operations, self.flushes, self.images, self.promises),
            *(self.wrong[MISSING], self.wrong[CORRUPT], self.wrong[OTHER], self.unmounted),
        )
        return f"{self.mode:36}" + "".join(f"{count:>11}" for count in counts)


def tried(task: Task) -> Result:
    filesystem = FILESYSTEMS[task.filesystem]
    result = Result(task.mode)
    with tempfile.TemporaryDirectory(dir=task.scratch) as own:
        scratch = Path(own)
        # A careless server would lose its whole directory, and all else would be left untried.
        recorded = record(filesystem, scratch, task.mode, task.scenario, fresh=task.mode == SHIPPED)
        records = recorded.log.records
        result.operations, result.flushes = len(records), records.count(None)
        acknowledged = [step.acknowledged for step in recorded.history.steps]
        images = plan(records, acknowledged, task.images, random.Random(task.scenario.seed))
        for image, checked in replay(recorded, filesystem, scratch, images):
            where = f"cut after {image.cut}, flushed {image.flushed}, kept {len(image.kept)} parts"
            if isinstance(checked, Unmountable):
                result.unmounted += 1
                result.sentences.append(f"{where}: {checked}")
                continue
            result.images += 1
            result.promises += checked.promises
            for violation in checked.wrong:
                result.wrong[violation.kind] += 1
                result.sentences.append(f"{where}: {violation.kind}: {violation.sentence}")
    return result


def verdict(results: Mapping[str, Result], forgiven: Sequence[str] = ()) -> list[str]:
    """What is wrong: that the server lost something, or that a control, but `forgiven`, did not."""
    shipped = results[SHIPPED]
    complaints = shipped.sentences[:SHOWN]
    if not shipped.promises:
        complaints.append("VOID: nothing was promised")
    complaints += [
        f"VOID: nothing was lost with {mode}"
        for mode in CONTROLS
        if mode not in forgiven and not results[mode].losses
    ]
    return complaints


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000, help="in all")
    parser.add_argument("--controls", type=int, default=125, help="images of each control")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--filesystem", choices=sorted(FILESYSTEMS), default="ext4")
    parser.add_argument("--recordings", type=int, default=10, help="of the server as shipped")
    parser.add_argument("--rounds", type=int, default=2, help="lives of the server in each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if lacking := missing():
        print(f"needs {lacking}", file=sys.stderr)
        return 2
    forgiven = FILESYSTEMS[given.filesystem].forgives
    shipped = (given.images - given.controls * len(CONTROLS)) // given.recordings
    results = {mode: Result(mode) for mode in (SHIPPED, *CONTROLS)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, memory(Path(directory)) as scratch:

        def task(mode: str, number: int, images: int) -> Task:
            scenario = Scenario(f"{given.seed}/{number}", given.rounds)
            return Task(mode, given.filesystem, scratch, scenario, images)

        tasks = [task(SHIPPED, number, shipped) for number in range(given.recordings)]
        tasks += [task(mode, 0, given.controls) for mode in CONTROLS]
        with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
            for again in range(1 + MORE):
                for result in pool.imap_unordered(tried, tasks):
                    results[result.mode] += result
                    print(f"{result.mode}: {result.images} images", file=sys.stderr)
                tasks = [
                    task(mode, 1 + again, given.controls)
                    for mode in CONTROLS
                    if mode not in forgiven and not results[mode].losses
                ]
    print(f"{given.filesystem}, seed {given.seed}", HEAD, *results.values(), sep="\n")
    complaints = verdict(results, forgiven)
    print(*complaints, sep="\n")
    total = sum(result.images for result in results.values())
    print(f"{total} images, {time.monotonic() - began:.0f} s")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
