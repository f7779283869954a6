"""`python -m tests.crash`: see `scripts/crash`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from registry import logs
from registry.settings import LogSettings
from tests.crash import traced
from tests.crash.scenarios import DAY, SINGLE, named
from tests.crash.sweep import Swept, sweep

# Who is killed loses nothing that the kernel has, so the disk need not be a slow one.
MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
CORES: Final = os.cpu_count()
PAIRS: Final = 3
ALL_PAIRS: Final = 125
ENOUGH: Final = 10_000  # points of a full run
SHOWN: Final = 20  # violations of one scenario


@dataclass(frozen=True)
class Job:
    """What `scripts/crash` does at once; in JSON, what it is asked for with --answer."""

    scenario: str
    """Its name, or the seed of a pair."""
    brief: bool = False
    strace: bool = False

    def done(self) -> Swept:
        with tempfile.TemporaryDirectory() as scratch:
            scenario = named(self.scenario)
            if not self.strace:
                return sweep(scenario, Path(scratch), brief=self.brief)
            strace = shutil.which("strace")
            assert strace is not None, "strace is not installed"
            return traced.sweep(scenario, Path(scratch), strace, stride=5 if self.brief else 1)


def answer() -> None:
    """A job a line, and in the same order a line for each that tells what came of it."""
    jobs = (Job(**json.loads(line)) for line in sys.stdin)
    # SIGINT says that nobody waits for the rest; it ends the pool, which SIGTERM would not.
    with suppress(KeyboardInterrupt), multiprocessing.get_context("fork").Pool(CORES) as pool:
        for swept in pool.imap(Job.done, jobs):
            print(json.dumps(asdict(swept)), flush=True)


def chosen(options: argparse.Namespace) -> Iterator[Job]:
    names = options.scenario or [*SINGLE]
    if not options.scenario:
        if options.strace:
            names.append(DAY.name)
        else:
            count = ALL_PAIRS if options.full else PAIRS
            names += map(str, range(options.seed, options.seed + count))
    return (Job(name, strace=options.strace) for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="a name, or the seed of two clients at once")
    parser.add_argument("--full", action="store_true", help=f"{ENOUGH} points and more")
    parser.add_argument("--seed", type=int, default=0, help="of the first pair of clients")
    parser.add_argument("--strace", action="store_true", help="die at real system calls instead")
    parser.add_argument("--answer", action="store_true", help="jobs come as JSON on standard input")
    options = parser.parse_args()
    if options.strace and shutil.which("strace") is None:
        parser.error("strace is not installed; it is a package of the system's")
    logs.configure(LogSettings(level="critical"))
    with tempfile.TemporaryDirectory(
        prefix="spindle-crash-", dir=MEMORY, ignore_cleanup_errors=True
    ) as scratch:
        tempfile.tempdir = scratch  # of whoever is forked from here, even if it is killed
        if options.answer:
            answer()
            return 0
        return report(options)


def report(options: argparse.Namespace) -> int:
    """Do what was asked for, and tell; the status to exit with."""
    points, wrong, began = 0, 0, time.perf_counter()
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        for swept in pool.imap(Job.done, chosen(options)):
            points, wrong = points + swept.points, wrong + len(swept.wrong)
            print(f"{swept.scenario:48} {swept.points:5} points {swept.seconds:7.1f} s")
            for sentence in swept.wrong[:SHOWN]:
                print(f"    {sentence}")
            sys.stdout.flush()
    print(f"{points} points, {wrong} violations, in {time.perf_counter() - began:.0f} s")
    if options.full and points < ENOUGH:
        print(f"a full run has {ENOUGH} points")
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
