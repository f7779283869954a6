"""A short form of what `scripts/bitrot` does hundreds of times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bitrot.flips import KINDS, sampled

# Of values as many as there are columns, so that each has its turn.
COUNT = {"bits in blobs": 20, "bits in values": 110, "bits in the database's file": 40}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_bit_that_flips_is_found(tmp_path: Path, kind: str) -> None:
    tally = await sampled(tmp_path / "data", kind, count=COUNT[kind], seed=1)
    assert tally.missed == []
    assert tally.outcomes["found"] >= COUNT[kind] // 5, tally.outcomes
