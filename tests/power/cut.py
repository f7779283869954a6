"""Cuts the power: runs a scenario on a disk that logs, and looks at what each cut would leave.

Run as a program by scripts/powercut. Every run ends with the controls: servers that leave out one
thing of what makes a push durable. A control that loses nothing makes the run void.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.power import check
from tests.power.check import CORRUPT, MISSING, OTHER, Violation
from tests.power.filesystems import FILESYSTEMS, Filesystem, Unmountable, memory, missing, recording
from tests.power.history import History
from tests.power.images import Image, plan
from tests.power.log import Log
from tests.power.scenario import Scenario
from tests.power.served import MODES, SHIPPED

CHUNK: Final = 20  # images that one task tries, in the order of the log
CONTROLS: Final = 0.1  # the share of all images that goes to them
COLLECTED: Final = 4  # in every so many images garbage is collected too
SHOWN: Final = 10  # violations of each mode


@dataclass(frozen=True, slots=True)
class Recording:
    """What a server did to a disk that began as `base`, and what it told its client."""

    base: Path
    log: Log
    history: History


@dataclass(slots=True)
class Result:
    mode: str
    operations: int = 0
    flushes: int = 0
    images: int = 0
    promises: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    unmountable: int = 0
    sentences: list[str] = field(default_factory=list)

    def add(self, image: Image, promises: int, violations: Sequence[Violation]) -> None:
        self.images += 1
        self.promises += promises
        for violation in violations:
            self.wrong[violation.kind] += 1
            self.sentences.append(
                f"cut after {image.cut} operations, flushed {image.flushed},"
                f" {len(image.kept)} more: {violation.kind}: {violation.sentence}"
            )

    @property
    def losses(self) -> int:
        return self.wrong.total()

    def row(self) -> str:
        counts = (self.operations, self.flushes, self.images, self.promises)
        wrong = (self.wrong[MISSING], self.wrong[CORRUPT], self.wrong[OTHER], self.unmountable)
        return f"{self.mode:36}" + "".join(f"{count:>11}" for count in (*counts, *wrong))


HEAD: Final = f"{'':36}" + "".join(
    f"{word:>11}"
    for word in (
        *("operations", "flushes", "images", "promises"),
        *("missing", "corrupt", "otherwise", "unmounted"),
    )
)


def record(filesystem: Filesystem, scratch: Path, mode: str, scenario: Scenario) -> Recording:
    """Run the scenario once, in a fresh directory."""
    base, log = scratch / "base", scratch / "log"
    for name in ("outside", "inside"):
        (scratch / name).mkdir()
    filesystem.format(base)
    with (
        recording(base, log, scratch / "outside") as image,
        filesystem.mounted(image, scratch / "inside"),
    ):
        history = scenario.run(
            scratch / "inside" / "data", scratch / "server.log", mode, lambda: log.stat().st_size
        )
        size = log.stat().st_size  # what unmounting writes comes after the last cut
    found = Log.read(log, size)
    log.unlink()
    return Recording(base, found, history.counted(found.count))


def replay(
    recorded: Recording, filesystem: Filesystem, scratch: Path, images: Sequence[Image]
) -> list[tuple[Image, check.Checked | None]]:
    """Make each image, mount it and look; None where the file system could not be mounted."""
    check.quiet()
    found: list[tuple[Image, check.Checked | None]] = []
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        directory, path = Path(own) / "mounted", Path(own) / "image"
        directory.mkdir()
        flushed = bytearray(filesystem.size)
        used: set[int] = set()
        _load(recorded.base, flushed, used)
        done = 0
        for number, image in enumerate(images):
            for write in recorded.log.records[done : image.flushed]:
                if write is not None:
                    _write(flushed, used, write.offset, write.data)
            done = image.flushed
            _store(path, flushed, used)
            _keep(path, recorded.log, image)
            try:
                with filesystem.mounted(path, directory):
                    looking = check.look(
                        directory / "data",
                        recorded.history,
                        image.cut,
                        collect=number % COLLECTED == 0,
                    )
                    found.append((image, asyncio.run(looking)))
            except Unmountable:
                found.append((image, None))
    return found


BLOCK: Final = 1 << 16  # bytes; what is nothing but zeros is not written


def _load(base: Path, into: bytearray, used: set[int]) -> None:
    with base.open("rb") as file:
        at = 0
        while True:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            _write(into, used, at, os.pread(file.fileno(), end - at, at))
            at = end


def _write(into: bytearray, used: set[int], offset: int, data: bytes) -> None:
    into[offset : offset + len(data)] = data
    used.update(range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1))


def _store(path: Path, content: bytearray, used: set[int]) -> None:
    view = memoryview(content)
    with path.open("wb") as file:
        file.truncate(len(content))
        for block in used:
            os.pwrite(file.fileno(), view[block * BLOCK : (block + 1) * BLOCK], block * BLOCK)


def _keep(path: Path, log: Log, image: Image) -> None:
    with path.open("r+b") as file:
        for part in image.kept:
            write = log.records[part.record]
            assert write is not None
            data = write.data[part.start : part.end]
            os.pwrite(file.fileno(), data, write.offset + part.start)


@dataclass(frozen=True, slots=True)
class Trial:
    """All that is tried on one file system."""

    filesystem: Filesystem
    scratch: Path
    seed: int
    rounds: int
    processes: int

    def run(self, mode: str, count: int, recordings: int) -> Result:
        """Record the mode so often, each time with another seed, and try images of each."""
        result = Result(mode)
        for number in range(recordings):
            with tempfile.TemporaryDirectory(dir=self.scratch) as own:
                self._run(result, Path(own), f"{self.seed}/{number}", count // recordings)
        return result

    def _run(self, result: Result, scratch: Path, seed: str, count: int) -> None:
        recorded = record(self.filesystem, scratch, result.mode, Scenario(self.rounds, seed))
        log = recorded.log
        result.operations += len(log.records)
        result.flushes += log.records.count(None)
        acknowledged = [step.acknowledged for step in recorded.history.steps]
        images = plan(log.records, acknowledged, count, random.Random(seed))
        chunks = [images[at : at + CHUNK] for at in range(0, len(images), CHUNK)]
        work = partial(replay, recorded, self.filesystem, scratch)
        for found in self._spread(work, chunks):
            for image, checked in found:
                if checked is None:
                    result.unmountable += 1
                else:
                    result.add(image, checked.promises, checked.wrong)

    def _spread(
        self,
        work: partial[list[tuple[Image, check.Checked | None]]],
        chunks: Sequence[Sequence[Image]],
    ) -> Iterator[list[tuple[Image, check.Checked | None]]]:
        if self.processes == 1:
            yield from map(work, chunks)
            return
        # Forked, so that nobody has to send a recording.
        with multiprocessing.get_context("fork").Pool(
            self.processes, _remember, (work,)
        ) as pool:
            yield from pool.imap_unordered(_recall, chunks)


_work: list[partial[list[tuple[Image, check.Checked | None]]]] = []


def _remember(work: partial[list[tuple[Image, check.Checked | None]]]) -> None:
    _work[:] = [work]


def _recall(images: Sequence[Image]) -> list[tuple[Image, check.Checked | None]]:
    return _work[0](images)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000, help="in all, a tenth for the controls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--filesystem", choices=sorted(FILESYSTEMS), default="ext4")
    parser.add_argument("--rounds", type=int, default=2, help="lives of the server in a recording")
    parser.add_argument("--recordings", type=int, default=5, help="of the server as shipped")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    filesystem = FILESYSTEMS[given.filesystem]
    if lacking := missing(filesystem):
        print(f"needs {lacking}", file=sys.stderr)
        return 2
    controls = [mode for mode in MODES if mode != SHIPPED]
    each = max(int(given.images * CONTROLS / len(controls)), 10)
    results = []
    began = time.monotonic()
    print(f"{filesystem.name}, seed {given.seed}", HEAD, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as directory, memory(Path(directory)) as scratch:
        trial = Trial(filesystem, scratch, given.seed, given.rounds, given.processes)
        for mode in (SHIPPED, *controls):
            if mode == SHIPPED:
                result = trial.run(mode, given.images - each * len(controls), given.recordings)
            else:
                result = trial.run(mode, each, 1)
            print(result.row(), flush=True)
            results.append(result)
    shipped, *broken = results
    print(*shipped.sentences[:SHOWN], sep="\n")
    blind = [result.mode for result in broken if not result.losses]
    for mode in blind:
        print(f"VOID: nothing was lost with {mode}")
    print(f"{sum(result.images for result in results)} images, {time.monotonic() - began:.0f} s")
    return 1 if blind or shipped.losses or shipped.unmountable else 0


if __name__ == "__main__":
    sys.exit(main())
