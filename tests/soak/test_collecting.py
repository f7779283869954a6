"""A short form of what `scripts/soak` does for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.collecting import soak


@pytest.mark.parametrize("workers", [1, 2])
def test_a_collector_that_never_rests_takes_nothing_that_is_needed(
    tmp_path: Path, workers: int
) -> None:
    outcome = soak(tmp_path / "data", seconds=6, seed=workers, workers=workers)
    assert outcome.wrong == []
    assert outcome.lost == 0
    assert outcome.collected >= 0.99, outcome
    assert outcome.done["pulled"] > 50
    assert outcome.done["uploaded"] > 100
