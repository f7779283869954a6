"""`spindle backup`: copies of the data directory, also beside a running server."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from registry import app
from registry.commands.display import safe, table
from registry.commands.serve import CannotStart
from registry.settings import Bytes, Config
from storage.backup import Verified, prune, verify
from storage.backup import backup as take
from storage.errors import Damaged, StorageError
from storage.filesystem.backups import Backups
from storage.filesystem.layout import Layout
from storage.pause import PauseLost
from storage.snapshot import Loss


def backup(config: Config, target: Path, *, link: bool, keep: int | None) -> bool:
    """Take one, then remove what is older than `keep`; whether all is in it. Raises CannotStart."""
    require_data(config)
    if target.resolve().is_relative_to(config.data.resolve()):
        raise CannotStart(f"{target} is in the data directory itself; name a place outside of it")
    try:
        return asyncio.run(_backup(config, target, link, keep))
    except (StorageError, OSError, PauseLost, sqlite3.Error) as error:
        raise CannotStart(str(error)) from None


async def _backup(config: Config, target: Path, link: bool, keep: int | None) -> bool:
    backups = Backups.make(target)
    async with app.open_records(config) as records:
        snapshot, copied = await take(
            records.store, backups, link=link, others=records.layout.written_by_hand
        )
    print(
        f"{snapshot.id}  {snapshot.blobs} blobs, {Bytes(snapshot.size)} bytes,"
        f" of which {copied.blobs} blobs, {Bytes(copied.bytes)} bytes are new"
    )
    print_lost(snapshot.lost)
    if keep is not None:
        pruned = await prune(backups, keep)
        for id in pruned.snapshots:
            print(f"removed   {id}")
        print(f"removed   {pruned.blobs} blobs, {Bytes(pruned.bytes)} bytes")
    return not snapshot.lost


def require_data(config: Config) -> None:
    """What reads a data directory makes none. Raises CannotStart."""
    if not Layout.is_at(config.data):
        raise CannotStart(f"{config.data} is no data directory; name it with --data")


def list_snapshots(target: Path) -> bool:
    """Whether each can be read. Raises CannotStart."""
    rows, whole = [], True
    try:
        backups = Backups.open(target)
        for id in backups.ids():
            try:
                found = backups.snapshot(id)
            except Damaged as error:
                rows.append((id, "", "", "", str(error)))
                whole = False
            else:
                lost = f"lacks {len(found.lost)} blobs" if found.lost else ""
                rows.append((id, found.time, str(found.blobs), str(found.size), lost))
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None
    table(("SNAPSHOT", "TIME", "BLOBS", "BYTES", ""), rows)
    return whole


def verify_all(target: Path) -> bool:
    """Whether everything is as it was written. Raises CannotStart."""
    try:
        done: Verified = asyncio.run(verify(Backups.open(target)))
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None
    for sentence in done.wrong:
        print(f"damaged   {safe(sentence)}")
    print(f"{done.snapshots} snapshots, {done.blobs} blobs, {Bytes(done.bytes)} bytes were read")
    return not done.wrong


def print_lost(lost: tuple[Loss, ...]) -> None:
    for loss in lost:
        print(f"lost      {loss.digest}  {safe(loss.why)}")
