"""kill -9 at every step that changes something. Power cuts are another matter: see T3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("scenario", "at_least"), [("first_start", 50), ("changes", 80)])
def test_whenever_it_is_killed_what_was_told_is_kept_and_the_rest_is_whole_or_not_there(
    tmp_path: Path, scenario: str, at_least: int
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.storage.crash", scenario, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    *lines, deaths = result.stdout.splitlines() or ["nothing"]
    assert [line for line in lines if not line.endswith(": fine")] == [], result.stderr
    assert int(deaths) >= at_least, result.stderr
