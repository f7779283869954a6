"""A short form of what `python -m tests.soak.backing_up` does for longer."""

from __future__ import annotations

from pathlib import Path

from tests.soak.backing_up import soak


def test_every_backup_beside_pushes_deletes_and_collection_is_whole(tmp_path: Path) -> None:
    outcome = soak(tmp_path, backups=4, seed=1)
    assert outcome.wrong == []
    assert outcome.snapshots == 4
    assert outcome.blobs > 100
    assert outcome.deleted > 20
