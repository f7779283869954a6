"""Many push one blob, and the server is killed. The long form is `scripts/workers`."""

from __future__ import annotations

from pathlib import Path

from tests.durability.pushers import CLIENTS, rounds


def test_who_got_a_201_finds_the_blob_after_a_kill(tmp_path: Path) -> None:
    with rounds(tmp_path / "data") as going:
        for seed in range(4):
            going.go(seed)
    assert going.wrong == []
    assert going.done["closed with 201"] >= 4
    assert going.done["closed with 201"] + going.done["closed with None"] == 4 * CLIENTS
