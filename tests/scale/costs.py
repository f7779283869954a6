"""What a question costs, in steps of SQLite's virtual machine: the same on every machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage.records import sqlite


class Steps:
    """Counts the steps of every connection that is opened while it watches."""

    def __init__(self) -> None:
        self.count = 0

    def _count(self) -> None:
        self.count += 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Put itself into the seam of the database."""
        real = sqlite.connect

        def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = real(*arguments, **options)
            connection.set_progress_handler(self._count, 1)
            return connection

        sqlite.connect = counted
        try:
            yield
        finally:
            sqlite.connect = real

    def taken(self) -> int:
        """How many there were since this was asked last."""
        count, self.count = self.count, 0
        return count
