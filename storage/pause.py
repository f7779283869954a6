"""Whoever reads bytes by a list that was made earlier: none of them may go until it has ended.

A row says so, taken before the list is made and renewed while the work goes on; the collector looks
at it in the moment in which it would remove bytes. Links and manifests go as ever, so a deletion
waits for nobody. Who dies is waited for until its row is over, and no longer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from storage.records.database import Connection
from storage.store import Store

# Long, since nothing but some space on the disk waits for who died, and a disk that is busy with
# gigabytes may hold up a renewal for minutes.
TTL: Final = 900.0  # seconds
RENEWAL: Final = 60.0  # seconds


class PauseLost(Exception):
    """It was over before the work was, so that bytes may be gone."""


class Pause:
    """The row. Made by `pause`."""

    def __init__(self, store: Store, id: str) -> None:
        self._store = store
        self._id = id

    async def renew(self) -> None:
        """Raises PauseLost."""
        now = self._store.now()

        def change(c: Connection) -> int:
            return c.execute(
                "UPDATE pauses SET expires = ? WHERE id = ? AND expires > ?",
                *(now + TTL, self._id, now),
            )

        if not await self._store.database.write(change):
            raise PauseLost(
                f"this took longer than the {TTL:.0f} seconds for which bytes are kept for who"
                " does not ask; run it again"
            )

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            with contextlib.suppress(OSError):  # a full disk: there is time for many more
                await self.renew()


@asynccontextmanager
async def pause(store: Store) -> AsyncIterator[Pause]:
    """No bytes are removed until the block ends. Raises PauseLost at its end if that did not hold.

    What is linked in any state of the records that is read within the block has its bytes.
    """
    id = store.token()
    now = store.now()
    await store.database.write(
        lambda c: c.execute("INSERT INTO pauses VALUES (?, ?, ?)", id, now, now + TTL)
    )
    held = Pause(store, id)
    keeping = asyncio.create_task(held._keep())
    try:
        yield held
        await held.renew()
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, PauseLost):
            await keeping  # lost: the body heard it from `renew`, or failed of something else
        # Also of those who died.
        now = store.now()
        with contextlib.suppress(OSError):  # it ends by itself, too
            await store.database.write(
                lambda c: c.execute("DELETE FROM pauses WHERE id = ? OR expires <= ?", id, now)
            )


def paused(now: float, c: Connection) -> bool:
    """Whether bytes must stay."""
    return c.one("SELECT 1 FROM pauses WHERE expires > ? LIMIT 1", now) is not None
