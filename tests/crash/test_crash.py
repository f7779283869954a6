"""kill -9 at every step that changes something, and at system calls: nothing acknowledged is lost.

It dies here before each step, and after each COMMIT; `scripts/crash` does both sides of all, and
with --full many more orders in which two clients take their turns. Power cuts are another matter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests import tools
from tests.crash.scenarios import SINGLE
from tests.crash.steps import Side
from tests.crash.sweep import all_of, few

# The least number of deaths of each; two clients at once have the seed as their name.
DEATHS: Final = {
    "first start": 28,
    "second start": 10,
    "migration": 40,
    "deployment": 40,
    "blob by POST": 11,
    "blob by POST and PUT": 11,
    "blob in chunks": 14,
    "sha512 blobs": 22,
    "mount": 7,
    "first push of an image": 30,
    "manifest by digest": 18,
    "ten tags and a subject": 31,
    "index": 25,
    "tag move": 22,
    "tag delete": 11,
    "manifest delete": 26,
    "blob delete": 20,
    "push again": 30,
    "collection": 21,
    "push of what was collected": 43,
    "strays": 10,
    "0": 33,
    "1": 33,
}


class Sweeper:
    """A process that has read all modules, and dies in forks of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sweep(self, scenario: str, **options: bool) -> tuple[int, list[str]]:
        """How often it was killed, and what was wrong then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"scenario": scenario, "brief": True, **options}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        swept: dict[str, Any] = json.loads(self._process.stdout.readline())
        return swept["points"], swept["wrong"]


@contextmanager
def _sweeping() -> Iterator[Sweeper]:
    command = [sys.executable, "-m", "tests.crash", "--answer"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Sweeper(process)


@pytest.fixture(scope="module")
def sweeper() -> Iterator[Sweeper]:
    with _sweeping() as sweeper:
        yield sweeper


@pytest.mark.parametrize("scenario", DEATHS)
def test_whenever_it_is_killed_what_was_told_is_kept_and_the_rest_is_whole_or_not_there(
    sweeper: Sweeper, scenario: str
) -> None:
    deaths, wrong = sweeper.sweep(scenario)
    assert wrong == []
    assert deaths >= DEATHS[scenario]


def test_every_scenario_is_among_them_and_they_are_killed_often() -> None:
    assert DEATHS.keys() >= SINGLE.keys()
    assert sum(DEATHS.values()) >= 500


def test_between_any_two_steps_it_dies_once_and_where_a_client_hears_of_it_twice() -> None:
    steps = ["open", "pwrite", "rename", "COMMIT", "the end"]
    deaths = list(few(steps, stride=1))
    assert [step for step, side in deaths if side is Side.BEFORE] == [1, 2, 3, 4, 5]
    assert [step for step, side in deaths if side is Side.AFTER] == [4]
    assert len(list(all_of(steps))) == 10


def test_the_same_holds_at_real_system_calls(sweeper: Sweeper) -> None:
    """Seen by strace, which sees SQLite's own writes too."""
    tools.require("strace")
    deaths, wrong = sweeper.sweep("a day", strace=True)
    assert wrong == []
    assert deaths >= 50
