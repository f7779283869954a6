"""Named threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A small pool of its own, so that slow disks starve nobody else's work."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` to its end, whatever becomes of the caller.

        A caller that is cancelled hears of it when `work` has ended (or before it began), so that
        nobody closes a file or reuses a connection under a thread that still works with it.
        """
        job = self._pool.submit(work)
        watched = asyncio.wrap_future(job)
        try:
            return await watched
        except asyncio.CancelledError:
            if not job.cancelled():
                ended = asyncio.wrap_future(job)
                while not ended.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait([ended])
                ended.exception()  # looked at, or asyncio complains of an error nobody retrieved
            raise

    def close(self) -> None:
        """Wait for work under way, and end the threads."""
        self._pool.shutdown()
