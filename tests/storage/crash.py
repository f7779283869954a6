"""Dies at the n-th step of a scenario, for every n, and looks at what a new process finds.

A step is a call that changes the disk, or a statement of the database; the process is killed before
it, and so after the one before. Run as a program: prints one line a death, and their number last.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from storage.digest import SHA256
from storage.errors import Unknown
from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records import sqlite
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import descriptor, empty, image, pull, push, stream, tags

CALLS = ("pwrite", "fdatasync", "fsync", "rename", "ftruncate", "unlink", "fchmod", "mkdir")

BLOB = b"a blob"
DIGEST = SHA256.digest(BLOB)
OLD = image("old", layers=[descriptor(DIGEST, len(BLOB))])
NEW = image("new", layers=[descriptor(DIGEST, len(BLOB))])
TAGS = tags("a", "b", "c")


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


async def first_start(root: Path, tell: Callable[[str], None]) -> None:
    store, _ = await opened(root)
    tell("started")
    await store.close()


async def changes(root: Path, tell: Callable[[str], None]) -> None:
    store, repository = await opened(root)
    await push(repository, BLOB)
    tell("blob")
    await repository.put_manifest(OLD, TAGS)
    tell("old")
    session = await repository.start_upload()
    await session.append(stream(BLOB))
    await session.commit(DIGEST)
    await repository.put_manifest(NEW, TAGS)
    tell("new")
    await repository.delete_manifest(NEW.digest)
    tell("deleted")
    await store.close()


async def check(root: Path, told: list[str]) -> list[str]:
    """What is wrong, in sentences: everything told is kept, the rest is wholly there or not."""
    wrong = []
    store, repository = await opened(root)

    async def digest_of(tag: Tag) -> str | None:
        try:
            return str((await repository.manifest(tag)).digest)
        except Unknown:
            return None

    if await repository.has_blob(DIGEST) is not None:
        if await pull(await repository.blob(DIGEST)) != BLOB:
            wrong.append("the blob has other bytes")
    elif "blob" in told:
        wrong.append("the blob is lost")
    found = {await digest_of(tag) for tag in TAGS}
    possible: list[str | None] = [None, str(OLD.digest), str(NEW.digest), None]
    known = len([word for word in told if word in ("old", "new", "deleted")])
    if len(found) > 1:
        wrong.append(f"the tags of one push differ: {found}")
    elif not found <= set(possible[known : known + 2]):
        wrong.append(f"the tags point to {found} after {told}")
    moves = await store.moves(after=0, limit=100)
    if len(moves) % len(TAGS) or len(moves) < len(TAGS) * known:
        wrong.append(f"{len(moves)} moves after {told}")
    await push(repository, BLOB)
    await repository.put_manifest(OLD, TAGS)
    if {await digest_of(tag) for tag in TAGS} != {str(OLD.digest)}:
        wrong.append("the same push again does not succeed")
    await store.close()
    return wrong


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


def sweep(
    scenario: Callable[..., Awaitable[None]], root: Path, clean: Callable[[Path], None]
) -> int:
    for step in itertools.count(1):
        clean(root)

        async def die(pipe: int, step: int = step) -> None:
            Steps(step).watch()
            await scenario(root, lambda word: os.write(pipe, f"{word}\n".encode()))

        status, told = forked(die)
        if status == 0:
            return step - 1
        assert status == -signal.SIGKILL, status

        async def look(pipe: int, told: list[str] = told) -> None:
            for sentence in await check(root, told):
                os.write(pipe, f"{sentence}\n".encode())

        status, wrong = forked(look)
        outcome = wrong or ["fine"] if status == 0 else [f"exit {status}"]
        print(f"{scenario.__name__} before step {step}", *outcome, sep=": ")
    raise AssertionError


def main(scenario: str, root: Path) -> None:
    if scenario == "first_start":
        deaths = sweep(first_start, root, partial(shutil.rmtree, ignore_errors=True))
    else:
        Layout.open(root)
        deaths = sweep(changes, root, empty)
    print(deaths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
