"""kill -9 at every step that changes something, and at system calls: nothing acknowledged is lost.

It dies here before each step, and after each COMMIT; `scripts/crash` does both sides of all, and
with --full many more orders in which two clients take their turns. Power cuts are another matter.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
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
    "second start": 6,
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

TRACED: Final = {"a day": 50}


class Sweeper:
    """A process that sweeps all that is wanted, in an order that is given, and tells one by one."""

    def __init__(self, process: subprocess.Popen[str], order: list[str]) -> None:
        self._process = process
        self._order = iter(order)
        self.told: dict[str, dict[str, Any]] = {}

    def swept(self, scenario: str) -> tuple[int, list[str]]:
        """How often it was killed, and what was wrong then."""
        assert self._process.stdout is not None
        while scenario not in self.told:
            name = next(self._order)
            self.told[name] = json.loads(self._process.stdout.readline())
        return self.told[scenario]["points"], self.told[scenario]["wrong"]


@pytest.fixture(scope="module")
def sweeper(request: pytest.FixtureRequest) -> Iterator[Sweeper]:
    """Begins with everything at once, on all processors; each test waits for its own."""
    wanted = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "sweeper" in item.fixturenames
    ]
    if shutil.which("strace") is None:
        wanted = [name for name in wanted if name not in TRACED]
    jobs = [{"scenario": name, "brief": True, "strace": name in TRACED} for name in wanted]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash", "--answer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{json.dumps(job)}\n" for job in jobs))
        process.stdin.close()
        sweeper = Sweeper(process, wanted)
        yield sweeper
        if len(sweeper.told) < len(wanted):
            process.send_signal(signal.SIGINT)  # nobody waits for the rest


@pytest.mark.parametrize("scenario", DEATHS)
def test_whenever_it_is_killed_what_was_told_is_kept_and_the_rest_is_whole_or_not_there(
    sweeper: Sweeper, scenario: str
) -> None:
    deaths, wrong = sweeper.swept(scenario)
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


@pytest.mark.parametrize("scenario", TRACED)
def test_the_same_holds_at_real_system_calls(sweeper: Sweeper, scenario: str) -> None:
    """Seen by strace, which sees SQLite's own writes too."""
    tools.require("strace")
    deaths, wrong = sweeper.swept(scenario)
    assert wrong == []
    assert deaths >= TRACED[scenario]
