"""Room that is kept free for what has to go on when the disk is full.

A delete makes room, but only after it has written a few pages; so do the collector's transactions,
the lease that goes with "this blob is here", and what the deployer notes. Without room for those a
full disk could never become less full. So a part of the disk is taken in advance. Whatever meets a
full disk and is no push gives that part up and is tried again; and from then on no push is begun or
goes on, in any process, until the collector could take the part back: else whoever pushes would eat
what the deletes need.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Final, Protocol, TypeVar

from storage.errors import Full
from storage.records.database import Connection, Database, Step

T = TypeVar("T")

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve(Protocol):
    """A part of the disk, shared by all processes on one data directory."""

    @property
    def whole(self) -> bool:
        """Whether all of it is there. Asked for every push, and some microseconds of work."""
        ...

    async def give_up(self) -> None:
        """Make its room free. What of it cannot be given up stays."""
        ...

    async def fill(self) -> bool:
        """Take what is missing, if there is room; whether it is whole then. Raises other OSErrors.

        What others took beyond that stays. Nobody sees it less whole meanwhile.
        """
        ...

    async def trim(self) -> None:
        """Make free what is more than it is to be, since the settings asked for more earlier."""
        ...


class Boundless:
    """Reserve where nothing can be full, or nobody asked for one."""

    whole = True

    async def give_up(self) -> None:
        pass

    async def fill(self) -> bool:
        return True

    async def trim(self) -> None:
        pass


def demand(reserve: Reserve) -> None:
    """Before anything that a push would keep. Raises Full."""
    if not reserve.whole:
        raise Full("the disk is full: what is left of it is kept for deletes")


async def afford(reserve: Reserve, work: Callable[[], Awaitable[T]]) -> T:
    """Do it, for the price of the reserve if the disk is full. `work` may be begun twice."""
    try:
        return await work()
    except OSError as error:
        if error.errno not in FULL:
            raise
    await reserve.give_up()
    return await work()


class Reserved:
    """Database whose changes may use the reserve: for everything but pushes."""

    def __init__(self, database: Database, reserve: Reserve) -> None:
        self._database = database
        self._reserve = reserve

    # Plain functions, so that a read is not a coroutine within a coroutine.

    def read(self, query: Callable[[Connection], T]) -> Coroutine[None, None, T]:
        return self._database.read(query)

    def scan(self, query: Callable[[Connection], T]) -> Coroutine[None, None, T]:
        return self._database.scan(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        return await afford(self._reserve, lambda: self._database.write(change))

    async def snapshot(self, path: str, query: Callable[[Connection], T]) -> T:
        return await self._database.snapshot(path, query)

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        await afford(self._reserve, lambda: self._database.migrate(room, steps))

    async def close(self) -> None:
        await self._database.close()
