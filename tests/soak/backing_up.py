"""Backups again and again beside pushers and a collector that never rests: is each one whole?

The pushers are those of `tests.soak.collecting`, and bytes of garbage go at once. Afterwards every
snapshot is restored, and every manifest in it is read with all that it names.

Run as a program: `python -m tests.soak.backing_up --backups 20 --workers 2`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storage.backup import verify
from storage.digest import SHA256, Digest
from storage.errors import StorageError
from storage.filesystem.backups import Backups
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.manifest import Manifest
from storage.names import RepositoryName
from storage.records import references
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.servers import SPINDLE, Spindle
from tests.soak.collecting import BLOBS, GRACE, PUSHERS, Pusher
from tests.storage.content import pull
from tests.tally import Tally

SETTINGS: Final = (
    *("--set", f"collect.grace={GRACE}"),
    *("--set", "collect.quarantine=0.01"),
    *("--set", "collect.interval=0.1"),
    *("--set", "log.level=warning"),
)


@dataclass
class Outcome:
    snapshots: int = 0
    manifests: int = 0
    blobs: int = 0
    """Read in restored stores."""
    deleted: int = 0
    """Images that were deleted meanwhile."""
    wrong: list[str] = field(default_factory=list)


def soak(root: Path, *, backups: int, seed: int = 0, workers: int = 1) -> Outcome:
    """So many backups, as fast as they go; `root` is a directory to work in."""
    noise = random.Random(seed)
    blobs = [noise.randbytes(noise.randrange(1, 1 << 16)) for _ in range(BLOBS)]
    tally = Tally()
    outcome = Outcome()
    data, target = root / "data", root / "backups"
    with Spindle(data, "--workers", str(workers), *SETTINGS) as server:
        begun = time.monotonic()
        pushers = [
            Pusher(number, seed, server.registry, blobs, tally, float("inf"))
            for number in range(PUSHERS)
        ]
        for pusher in pushers:
            pusher.start()
        try:
            # Until there is garbage of every age.
            while time.monotonic() < begun + 2 * GRACE:
                time.sleep(0.1)
            for number in range(backups):
                how = ["--link"] if number % 2 else []
                done = run("backup", target, "--data", data, *how)
                if done.returncode:
                    outcome.wrong.append(f"backup: {done.stdout}{done.stderr}")
        finally:
            for pusher in pushers:
                pusher._until = 0
            for pusher in pushers:
                pusher.join()
    outcome.deleted = tally.done["deleted"]
    outcome.wrong += tally.wrong
    outcome.wrong += asyncio.run(verify(Backups.open(target))).wrong
    for id in Backups.open(target).ids():
        restored = root / "restored"
        done = run("restore", target, "--snapshot", id, "--data", restored)
        if done.returncode:
            outcome.wrong.append(f"restore {id}: {done.stdout}{done.stderr}")
        asyncio.run(read(restored, outcome))
        outcome.snapshots += 1
        shutil.rmtree(restored)
    return outcome


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SPINDLE, *words], capture_output=True, text=True, check=False)


async def read(root: Path, outcome: Outcome) -> None:
    """Every manifest of a store, with all that it names."""
    layout = Layout.open(root)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    rows = await store.database.read(
        lambda c: c.all(
            "SELECT repositories.name, digest FROM manifests JOIN repositories ON id = repository"
            " UNION ALL"
            " SELECT repositories.name, digest FROM tags JOIN repositories ON id = repository"
        )
    )
    for name, digest in rows:
        repository = store.repository(RepositoryName.parse(str(name)))
        try:
            await _read(repository, Digest.parse(str(digest)), outcome)
        except StorageError as error:
            outcome.wrong.append(f"{root}: {name}@{digest}: {error}")
    await store.close()


async def _read(repository: Repository, digest: Digest, outcome: Outcome) -> None:
    stored = await repository.manifest(digest)
    manifest = Manifest.parse(stored.body, content_type=stored.media_type, digest=digest)
    outcome.manifests += 1
    for child in manifest.manifests:
        assert child.digest is not None
        await repository.manifest(child.digest)  # its body is hashed
    for content in references.content(manifest)[: -len(manifest.manifests) or None]:
        assert content.digest is not None
        data = await pull(await repository.blob(content.digest))
        if SHA256.digest(data) != content.digest:
            outcome.wrong.append(f"{content.digest} has other bytes")
        outcome.blobs += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backups", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = soak(Path(scratch), backups=given.backups, seed=given.seed, workers=given.workers)
    print(
        f"{outcome.snapshots} snapshots, {outcome.manifests} manifests and {outcome.blobs} blobs"
        f" read, {outcome.deleted} images deleted meanwhile"
    )
    print(*outcome.wrong[:20], sep="\n")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
