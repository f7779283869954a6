"""Dies at the n-th step: what the sweeps of backups and upgrades are made of.

A step is a call that changes the disk, or a statement of the database; the process is killed before
it, and so after the one before.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName
from storage.records import sqlite
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store

CALLS = (
    *("pwrite", "write", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "fchmod", "mkdir"),
    *("link", "copy_file_range", "rmdir"),
)


class Steps:
    """Counts the steps, and dies before one of them."""

    def __init__(self, die_at: int) -> None:
        self._die_at = die_at
        self._count = 0

    def watch(self) -> None:
        for name in CALLS:
            setattr(calls, name, self._watched(getattr(calls, name)))
        connect = sqlite.connect

        def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
            class Watched(sqlite3.Connection):
                pass

            Watched.execute = self._watched(sqlite3.Connection.execute)  # type: ignore[method-assign]  # that is the point
            return connect(*arguments, factory=Watched, **options)

        sqlite.connect = watched

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            # One of the 512 directories alike is enough, and one of the tables sealed alike.
            what = str(arguments[isinstance(arguments[0], sqlite3.Connection)])
            if not re.search(r"/[0-689a-f][0-9a-f]$|^(?!.*\"tags\").*(\bseal\b|\"seal_)", what):
                self._count += 1
            if self._count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return stepped


async def opened(root: Path) -> tuple[Store, Repository]:
    layout = Layout.open(root)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    return store, store.repository(RepositoryName.parse("acme/shop"))


def forked(work: Callable[[int], Awaitable[None]]) -> tuple[int, list[str]]:
    """Run it in a process of its own; its exit status (negative: a signal) and what it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            asyncio.run(work(writing))  # type: ignore[arg-type]  # an async function
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        lines = told.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lines
