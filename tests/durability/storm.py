"""Everything at once, through two workers of which one is killed again and again.

Six clients push, mount, pull, move tags and delete (tests.durability.mixed); garbage is collected
beside them, by the server and now and then by `spindle collect`, which is killed too. At the end
the whole server is killed and starts again; then all that was written down must be as it was
promised, and on the disk there must be what is needed and nothing else.

Run as a program: `python -m tests.durability.storm --full`, ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.durability.journal import Journal, broken
from tests.durability.mixed import GRACE, REPOSITORIES, UPLOAD_AGE, Blobs, Client
from tests.durability.witness import Registry
from tests.durability.workers import Workers
from tests.servers import SPINDLE, Spindle, wait_for
from tests.tally import Tally

CLIENTS: Final = 6
SECONDS: Final = 600.0
# More are uploaded than can be needed at the end, so that some have to be collected.
LEAST: Final = {
    "kills": 3,
    "uploaded": 150,
    "gone on": 1,
    "mounted": 1,
    "pushed: done": 20,
    "pulled": 1,
    "untagged: done": 1,
    "deleted: done": 1,
}
LONGEST: Final = 120.0  # seconds that it may take longer
PAUSES: Final = (1.2, 2.5)  # seconds between two kills; a worker is replaced after one
COLLECTING: Final = (
    *("--set", f"collect.grace={GRACE}"),
    *("--set", "collect.quarantine=0.5"),
    *("--set", "log.level=warning"),
)
SERVING: Final = (*COLLECTING, "--workers", "2", "--set", "collect.interval=0.2")
AGE: Final = "collect.upload_age"
REST: Final = 60.0  # seconds, in which all garbage has to go when nothing more is pushed


@dataclass(frozen=True)
class Outcome:
    done: Counter[str]
    wrong: list[str]


def storm(data: Path, *, seconds: float, seed: int = 0) -> Outcome:
    tally = Tally()
    blobs = Blobs.of(seed)
    journal = Journal(data.with_name("journal"))
    chance = random.Random(f"{seed}/kills")
    with Spindle(data, *SERVING, "--set", f"{AGE}={UPLOAD_AGE}") as server:
        workers = Workers(server)
        registry = Registry(server.registry, tally, journal)
        over = threading.Event()
        clients = [Client(number, seed, registry, blobs, over) for number in range(CLIENTS)]
        collecting = threading.Thread(
            target=_collect, args=(data, over, random.Random(f"{seed}/collector"), tally)
        )
        for thread in (*clients, collecting):
            thread.start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds or _missing(tally):
            if passed > seconds + LONGEST:
                tally.complain(f"too little was done: {_missing(tally)}")
                break
            time.sleep(chance.uniform(*PAUSES))
            if workers.kill_one(chance) is not None:
                tally.count("kills")
        over.set()
        for thread in (*clients, collecting):
            thread.join()
        workers.kill_all()
        workers.bury()
        server.arguments = (*SERVING, "--set", f"{AGE}=1")  # nobody goes on with an upload now
        server.start()  # D7: with nothing done by hand
        needed = _read_all(registry, clients)
        _wait_for_rest(data, needed, tally)
    journal.close()
    entries = journal.entries()
    tally.done["written down"] = len(entries)
    return Outcome(tally.done, tally.wrong + broken(entries))


def _missing(tally: Tally) -> dict[str, int]:
    """What has not been done as often as it must be for the rest to mean something."""
    return {what: tally.done[what] for what, least in LEAST.items() if tally.done[what] < least}


def _collect(data: Path, over: threading.Event, chance: random.Random, tally: Tally) -> None:
    """`spindle collect`, a third process, now and then; some are killed on the way."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")}
    while not over.is_set():
        with subprocess.Popen(
            [
                SPINDLE,
                "collect",
                "--data",
                data,
                *COLLECTING,
                "--set",
                "limits.reserve=64KiB",
                "--set",
                f"{AGE}={UPLOAD_AGE}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            try:
                _, said = process.communicate(timeout=chance.choice([None, chance.uniform(0.3, 2)]))
            except subprocess.TimeoutExpired:
                process.kill()
                tally.count("collections killed")
                continue
        if process.returncode:
            tally.complain(f"spindle collect: {process.returncode} {said[-2000:]}")
        tally.count("collections by hand")
        over.wait(1)


def _read_all(registry: Registry, clients: list[Client]) -> set[str]:
    """Everything that was written down; the blobs (their hexadecimal digits) that are needed."""
    for client in clients:
        for repository in REPOSITORIES:
            for tags in client.tags:
                if len({registry.read_tag(repository, tag) for tag in tags}) > 1:
                    registry.tally.complain(f"D5: {tags} in {repository} differ")
    needed = set[str]()
    promised = set[tuple[str, int]]()
    for entry in registry.journal.entries():
        if entry.what == "push" and entry.digest is not None:
            body = registry.read_manifest(entry.repository, entry.digest)
            if body is None:
                continue
            content = json.loads(body)
            described = [content["config"], *content["layers"]]
            needed |= {one["digest"].partition(":")[2] for one in described}
            for client in clients:
                if image := client.images.get((entry.repository, entry.digest)):
                    promised |= {(entry.repository, number) for number in image.blobs}
    for repository, number in sorted(promised):
        clients[0].has(repository, number)
    registry.tally.done["blobs promised at the end"] = len(promised)
    return needed


def _wait_for_rest(data: Path, needed: set[str], tally: Tally) -> None:
    """On the disk is what is needed, and in a while nothing else."""

    def blobs() -> set[str]:
        return {path.name for path in data.glob("blobs/*/??/*")}

    def rest() -> bool:
        return not blobs() - needed and not any((data / "uploads").iterdir())

    try:
        wait_for(rest, "garbage to go", patience=REST)
    except AssertionError:
        left = len(list((data / "uploads").iterdir()))
        tally.complain(f"garbage stays: {len(blobs() - needed)} blobs, {left} uploads")
    tally.done["blobs at the end"] = len(blobs())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--full", action="store_true", help=f"{SECONDS:g} seconds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    seconds = given.seconds or (SECONDS if given.full else 20)
    with tempfile.TemporaryDirectory() as scratch:
        outcome = storm(Path(scratch) / "data", seconds=seconds, seed=given.seed)
    figures = ", ".join(f"{what} {count}" for what, count in sorted(outcome.done.items()))
    print(f"storm: {seconds:g} s ({figures}), violations {len(outcome.wrong)}")
    print(*outcome.wrong[:20], sep="\n", end="\n" if outcome.wrong else "")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
