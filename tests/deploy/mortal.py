"""A database that fails from some moment on, as for a process that is killed or a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from storage.records.database import Connection, Database

T = TypeVar("T")


class Killed(Exception):
    """What the rest of a killed deployer runs into."""


class Mortal:
    """A database for a deployer that is killed at its n-th write."""

    def __init__(self, database: Database, n: int, *, after: bool) -> None:
        self._database = database
        self._left = n
        self._after = after
        self.dead = asyncio.Event()

    async def read(self, query: Callable[[Connection], T]) -> T:
        return await self._database.read(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        if self.dead.is_set():
            raise Killed
        self._left -= 1
        if self._left == 0:
            self.dead.set()
            if self._after:
                await self._database.write(change)
            raise Killed
        return await self._database.write(change)

    async def migrate(self, room: str, steps: Sequence[Sequence[str]]) -> None:
        await self._database.migrate(room, steps)

    async def close(self) -> None:
        await self._database.close()
