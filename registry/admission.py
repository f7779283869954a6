"""How much is done at a time: each class of work has places of its own in a process.

So a crowd of downloads, which are long, takes none of what a short answer needs. Who finds no place
waits a little for one, with few others; everybody else is refused at once, before the body is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Final

from registry import blobs, manifests, uploads
from registry.errors import TooManyRequests
from registry.exchange import Exchange
from registry.settings import AdmissionSettings

AFTER: Final = 1.0  # seconds; most of what has a place is over by then


class Work(StrEnum):
    UPLOAD = "uploads"
    """Whatever reads a body."""
    PULL = "pulls of blobs"
    AUTH = "sign-ins"
    """Which are slow on purpose."""
    OTHER = "other requests"
    """Short, all of them: a slow client cannot hold one."""


_READ: Final[frozenset[Callable[[Exchange], Awaitable[None]]]] = frozenset(
    {uploads.start, uploads.append, uploads.finish, manifests.push}
)


def work_of(handler: Callable[[Exchange], Awaitable[None]], method: str) -> Work:
    if handler in _READ:
        return Work.UPLOAD
    return Work.PULL if handler is blobs.pull and method == "GET" else Work.OTHER


class Room:
    """The places of one class of work. On one event loop."""

    def __init__(self, name: str, places: int, *, patience: float) -> None:
        """As many as there are places may wait for one, for `patience` seconds each."""
        self._name = name
        self._places = places
        self._patience = patience
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def enter(self) -> None:
        """Take a place; `leave` must follow. Raises TooManyRequests."""
        if self._taken < self._places and not self._waiting:
            self._taken += 1
            return
        if len(self._waiting) >= self._places:
            raise self._refusal()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was ours just when we gave up
            else:
                with suppress(ValueError):
                    self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise

    def leave(self) -> None:
        """Whoever waits longest gets the place."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def _refusal(self) -> TooManyRequests:
        return TooManyRequests(
            f"{self._places} {self._name} are under way and no more are taken: try again shortly",
            after=AFTER,
        )


class Admission:
    def __init__(self, settings: AdmissionSettings) -> None:
        places: Mapping[Work, int] = {
            Work.UPLOAD: settings.uploads,
            Work.PULL: settings.pulls,
            Work.AUTH: settings.auth,
            Work.OTHER: settings.other,
        }
        self.rooms: Mapping[Work, Room] = {
            work: Room(work, count, patience=settings.wait) for work, count in places.items()
        }
