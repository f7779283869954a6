"""Collecting garbage in the server: again and again, beside everything else."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Final

import structlog

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


async def keep_collecting(store: Store, settings: CollectSettings) -> None:
    """Until it is cancelled. What goes wrong is logged and tried again: nothing depends on it."""
    log = structlog.get_logger()
    collecting = collector(store, settings)
    looked = float("-inf")
    while True:
        try:
            if time.monotonic() - looked >= STRAYS:
                found = await collecting.strays()
                looked = time.monotonic()
                if found:
                    log.warning("blobs without a repository are in quarantine", blobs=found)
            done = await collecting.cycle()
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
