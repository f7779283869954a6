"""The disk says no at every call there is. `scripts/faults --full` tries every error at each."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.sweep import short, sweep

LEAST = {"blob at once": 60, "manifest with ten tags and a subject": 80, "collected": 80}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_whichever_call_fails_nothing_told_is_untrue_and_nothing_is_half_done(
    scenario: Scenario, tmp_path: Path
) -> None:
    found = await sweep(tmp_path / "data", short([scenario]))
    assert found.violations == []
    assert found.points.total() >= LEAST.get(scenario.name, 10), found


async def test_what_could_not_be_synced_is_not_taken_for_good_by_a_second_sync(
    tmp_path: Path,
) -> None:
    """The kernel tells of a lost write once; here nothing can be removed for ever after either."""
    [scenario] = [one for one in SCENARIOS if one.name == "blob tried again"]
    found = await sweep(
        tmp_path / "data",
        [(scenario, errno.EIO, lasting, False, 1) for lasting in (False, True)],
    )
    assert found.violations == []
    assert found.points.total() >= 40, found
