"""The steps of a scenario: what changes the disk or the database, one after the other.

A step is a call of the seam `storage.filesystem.calls` that changes something, or a statement of
the writing connection that does. The process is killed right before the n-th of them, or right
after it, before anything hears of its end. Work that goes to threads runs in this one instead, so
that the same seed takes the same steps in the same order.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import re
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from storage import threads, uploads
from storage.filesystem import calls
from storage.records import sqlite

READING: Final = {
    *("close", "flock", "fstat", "listdir", "lstat", "open", "pread", "preadv", "scandir"),
}
# What the deployer unpacks does not go through the seam, but through these.
OUTSIDE: Final = ("mkdir", "chmod", "rename", "rmdir", "unlink")
CHANGING: Final = re.compile(r"(?:INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|REPLACE)\b", re.IGNORECASE)
# The 512 directories of blobs are alike: one of each algorithm is enough.
ALIKE: Final = re.compile(r"/blobs/\w+/(?!7f)[0-9a-f]{2}$")
PIECE: Final = 16  # bytes written at once, so that a small blob is written in several pieces


class Side(Enum):
    BEFORE = "before"
    AFTER = "after"


class Steps:
    """Counts from `begin` on, and kills this process at one of them; at 0 never."""

    def __init__(self, die_at: int = 0, side: Side = Side.BEFORE) -> None:
        self.labels: list[str] = []
        """What was done, or begun."""
        self._die_at = die_at
        self._side = side
        self._counting = False
        self._tell: Callable[[str], None] = lambda _: None

    def begin(self, tell: Callable[[str], None]) -> None:
        """Count from here on; `tell` hears what the process dies of."""
        self._counting = True
        self._tell = tell

    def watch(self, *, outside: bool = False) -> None:
        """Put this in the place of every call; with `outside` also of those past the seam."""
        for name in set(calls.__all__) - READING:
            setattr(calls, name, self._watched(name, getattr(calls, name)))
        calls.open = self._opening(calls.open)  # type: ignore[assignment]
        if outside:
            for name in OUTSIDE:
                setattr(os, name, self._watched(name, getattr(os, name)))
        connect, taken = sqlite.connect, self.taken

        class Watched(sqlite3.Connection):
            reads = False

            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                real = super().execute
                self.reads = self.reads or "query_only" in statement
                if self.reads or not (
                    CHANGING.match(statement.strip())
                    or statement == "BEGIN IMMEDIATE"
                    or (self.in_transaction and statement in ("COMMIT", "ROLLBACK"))
                ):
                    return real(statement, *parameters)
                label = " ".join(statement.split()[:3])
                return taken(label, lambda: real(statement, *parameters))

        sqlite.connect = lambda *given, **options: connect(*given, factory=Watched, **options)

    def taken(self, label: str, work: Callable[[], Any]) -> Any:
        """Do a step, or die of it."""
        if not self._counting:
            return work()
        self.labels.append(label)
        if len(self.labels) != self._die_at:
            return work()
        if self._side is Side.AFTER:
            with suppress(OSError):  # it may fail, and be expected to
                work()
        self._tell(f"{self._side.value} step {self._die_at}, {label}")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a process outlived SIGKILL")

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **options: Any) -> Any:
            if ALIKE.search(str(arguments[0])):
                return real(*arguments, **options)
            return self.taken(name, lambda: real(*arguments, **options))

        return stepped

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def opened(path: str, flags: int, *arguments: Any, **options: Any) -> int:
            def work() -> int:
                return real(path, flags, *arguments, **options)

            return self.taken("open", work) if flags & os.O_CREAT else work()

        return opened


def run_inline(seed: int | None = None) -> None:
    """Put in the place of threads what works at once; a seed lets other tasks go before."""
    dice = None if seed is None else random.Random(seed)
    exclusive: set[int] = set()
    flock, close = calls.flock, calls.close

    def locking(file: int, operation: int) -> None:
        flock(file, operation)
        if operation & fcntl.LOCK_EX and stat.S_ISDIR(os.fstat(file).st_mode):
            exclusive.add(file)

    def closing(file: int) -> None:
        exclusive.discard(file)
        close(file)

    class Inline:
        def __init__(self, name: str, count: int) -> None:
            pass

        async def run(self, work: Callable[[], Any]) -> Any:
            # Who has the lock of a directory goes on: another one would wait for it, in the only
            # thread there is.
            for _ in range(dice.randrange(6) if dice and not exclusive else 0):
                await asyncio.sleep(0)
            return work()

        def close(self) -> None:
            pass

    calls.flock, calls.close = locking, closing  # type: ignore[assignment]
    real = threads.Threads
    for module in list(sys.modules.values()):
        if getattr(module, "Threads", None) is real:
            module.Threads = Inline  # type: ignore[attr-defined]
    uploads.PIECE = PIECE  # type: ignore[misc]
