"""Many push one blob, and the server is killed. The long form is `scripts/workers`."""

from __future__ import annotations

from pathlib import Path

from tests.durability.pushers import CLIENTS, rounds

ROUNDS = 3


def test_who_got_a_201_finds_the_blob_after_a_kill(tmp_path: Path) -> None:
    with rounds(tmp_path / "data") as going:
        for seed in range(ROUNDS):
            going.go(seed)
    assert going.wrong == []
    assert going.done["closed with 201"] >= ROUNDS
    assert going.done["closed with 201"] + going.done["closed with None"] == ROUNDS * CLIENTS
