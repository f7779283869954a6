"""Collecting garbage in the server: again and again, beside everything else."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Final

import structlog

from registry.leaps import Leaps
from registry.settings import NEVER, CollectSettings
from storage.collect import Collected, Collector
from storage.errors import StorageError
from storage.store import Store

STRAYS: Final = 24 * 3600.0  # seconds between two readings of all names in the store


def collector(store: Store, settings: CollectSettings) -> Collector:
    return Collector(
        store,
        untagged=None if settings.untagged == NEVER else lambda _: settings.untagged,
        quarantine=settings.quarantine,
        upload_age=settings.upload_age,
    )


async def keep_collecting(
    store: Store, settings: CollectSettings, *, ticks: Callable[[], float] = time.monotonic
) -> None:
    """Until it is cancelled. What goes wrong is logged and tried again: nothing depends on it.

    `ticks` is a clock that cannot be set, in seconds.
    """
    log = structlog.get_logger()
    collecting = collector(store, settings)
    leaps = Leaps(max(settings.grace, settings.quarantine, settings.upload_age))
    resting = False
    looked = float("-inf")
    while True:
        try:
            rest = leaps.rest(store.now(), ticks())
            if rest and not resting:
                log.warning("the clock was set forward; nothing is collected yet", seconds=rest)
            resting = bool(rest)
            if ticks() - looked >= STRAYS:
                found = await collecting.strays()
                looked = ticks()
                if found:
                    log.warning("blobs without a repository are in quarantine", blobs=found)
            done = Collected() if resting else await collecting.cycle()
            if done:
                log.info("garbage collected", **summary(done))
        except (StorageError, OSError, sqlite3.Error):
            log.exception("collecting garbage failed; it is tried again")
        await asyncio.sleep(settings.interval)


def summary(done: Collected) -> dict[str, int]:
    return {
        "manifests": len(done.manifests),
        "links": len(done.links),
        "blobs": len(done.blobs),
        "uploads": len(done.uploads),
        "bytes": done.freed,
    }
