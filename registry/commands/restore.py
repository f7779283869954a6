"""`spindle restore`: a data directory out of a backup."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from registry.commands.backup import print_lost
from registry.commands.serve import CannotStart
from registry.deploy import lease
from registry.deploy.journal import Journal
from registry.settings import Bytes, Config
from storage.errors import StorageError
from storage.filesystem.backups import Backups
from storage.records.database import Database
from storage.records.sqlite import SQLite
from storage.restore import restore as bring_back


def restore(config: Config, target: Path, *, id: str | None) -> bool:
    """Into `config.data`; whether all is there that was. Raises CannotStart."""
    try:
        done = asyncio.run(
            bring_back(
                Backups.open(target),
                config.data,
                open_records=SQLite.open,
                id=id,
                settle=_settle,
            )
        )
    except (StorageError, OSError, sqlite3.Error) as error:
        raise CannotStart(str(error)) from None
    print_lost(done.lost)
    print(
        f"{done.snapshot.id} of {done.snapshot.time} is in {config.data}: {done.blobs} blobs,"
        f" {Bytes(done.bytes)} bytes"
    )
    return not done.lost


async def _settle(database: Database) -> None:
    """The deployer of the machine that was may not hold up the one that comes."""
    await Journal(database).open()
    await lease.forget(database)
