"""`spindle` with one thing broken that only a power cut shows: `tests.power.served NAME …`.

These are the controls: a run that finds nothing lost with them has shown nothing.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

SHIPPED: Final = "as shipped"


def _sync(*, files: bool) -> None:
    """Make directories, and unless `files` files too, never durable. Not those of SQLite."""

    def careless(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(file: int) -> None:
            if files and not stat.S_ISDIR(os.fstat(file).st_mode):
                real(file)

        return sync

    os.fsync = careless(os.fsync)  # type: ignore[assignment]
    os.fdatasync = careless(os.fdatasync)


def _try_again() -> None:
    """Believe the second fsync, when the first has failed."""
    real = os.fdatasync

    def sync(file: int) -> None:
        try:
            real(file)
        except OSError:
            real(file)

    os.fdatasync = sync


def _synchronous(level: str) -> None:
    class Careless(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            if statement == "PRAGMA synchronous = FULL":
                statement = f"PRAGMA synchronous = {level}"
            return super().execute(statement, *parameters)

    connect = sqlite3.connect

    def careless(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Careless, **options)

    sqlite3.connect = careless  # type: ignore[assignment]


NO_DIRECTORIES: Final = "no fsync of directories"
CONTROLS: Final[Mapping[str, Callable[[], None]]] = {
    "no fsync of files and directories": lambda: _sync(files=False),
    NO_DIRECTORIES: lambda: _sync(files=True),
    "SQLite with synchronous=NORMAL": lambda: _synchronous("NORMAL"),
    "SQLite with synchronous=OFF": lambda: _synchronous("OFF"),
}

TWICE: Final = "fsync tried again"  # the control of tests.power.refused


def main() -> None:
    mode = sys.argv.pop(1)
    if mode != SHIPPED:
        {**CONTROLS, TWICE: _try_again}[mode]()
    sys.argv[0] = "spindle"
    from registry.cli import main as spindle  # only now: nothing may have kept the real functions

    spindle()


if __name__ == "__main__":
    main()
