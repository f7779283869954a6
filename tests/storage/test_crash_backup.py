"""kill -9 at every step of a backup, of pruning, of a restore, and of an export and an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("scenario", "at_least"),
    [("first", 15), ("further", 50), ("restores", 40), ("exports", 60), ("imports", 60)],
)
def test_whenever_it_is_killed_what_is_shown_is_whole_and_it_can_be_done_again(
    tmp_path: Path, scenario: str, at_least: int
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.storage.crash_backup", scenario, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    *lines, deaths = result.stdout.splitlines() or ["nothing"]
    assert [line for line in lines if not line.endswith(": fine")] == [], result.stderr
    assert int(deaths) >= at_least, result.stderr
