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


@asynccontextmanager
async def pause(store: Store) -> AsyncIterator[None]:
    """No bytes are removed until the block ends. Raises PauseLost at its end if that did not hold.

    What is linked in any state of the records that is read within the block has its bytes.
    """
    id = store.token()
    now = store.now()
    await store.database.write(
        lambda c: c.execute(
            "INSERT INTO pauses (id, since, expires) VALUES (?, ?, ?)", id, now, now + TTL
        )
    )
    keeping = asyncio.create_task(_keep(store, id))
    try:
        yield
        await _renew(store, id)
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError, PauseLost):
            await keeping  # lost: the last renewal says so, or something else went wrong before
        # Also of those who died.
        now = store.now()
        with contextlib.suppress(OSError):  # it ends by itself, too
            await store.database.write(
                lambda c: c.execute("DELETE FROM pauses WHERE id = ? OR expires <= ?", id, now)
            )


async def _keep(store: Store, id: str) -> None:
    while True:
        await asyncio.sleep(RENEWAL)
        with contextlib.suppress(OSError):  # a full disk: there is time for many more
            await _renew(store, id)


async def _renew(store: Store, id: str) -> None:
    """Raises PauseLost."""
    now = store.now()

    def change(c: Connection) -> int:
        return c.execute(
            "UPDATE pauses SET expires = ? WHERE id = ? AND expires > ?",
            *(now + TTL, id, now),
        )

    if not await store.database.write(change):
        raise PauseLost(
            f"this took longer than the {TTL:.0f} seconds for which bytes are kept for who"
            " does not ask; run it again"
        )


def paused(now: float, c: Connection) -> bool:
    """Whether bytes must stay."""
    return c.one("SELECT 1 FROM pauses WHERE expires > ? LIMIT 1", now) is not None
