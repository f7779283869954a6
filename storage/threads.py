"""Named threads for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A small pool of its own, so that slow disks starve nobody else's work."""

    def __init__(self, name: str, count: int) -> None:
        self._count = count
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

    async def each(self, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
        """`work` for each item, as many at once as there are threads.

        The first error ends it all and is raised, when what was under way has ended.
        """
        left = iter(items)

        async def some() -> None:
            for item in left:
                await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._count):
                    group.create_task(some())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def close(self) -> None:
        """Wait for work under way, and end the threads."""
        self._pool.shutdown()
