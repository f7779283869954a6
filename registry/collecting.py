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

NO_ROOM: Final = "the disk is full: pushes are refused until there is room for limits.reserve"
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
    whole = True
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
        whole = await _refill(store, whole)
        await asyncio.sleep(settings.interval)


async def _refill(store: Store, before: bool) -> bool:
    """Put the reserve back, which anybody may have given up; tell when that changed anything."""
    log = structlog.get_logger()
    try:
        given_up = not store.reserve.whole
        whole = await store.reserve.fill()
    except OSError:
        log.exception("the reserve cannot be put back; it is tried again")
        return before
    if before and not whole:
        log.warning(NO_ROOM)
    elif whole and not before:
        log.warning("there is room again: pushes are taken")
    elif given_up:
        log.warning("the disk was full: the reserve was given up, and put back")
    return whole


def summary(done: Collected) -> dict[str, int]:
    return {
        "manifests": len(done.manifests),
        "links": len(done.links),
        "blobs": len(done.blobs),
        "uploads": len(done.uploads),
        "bytes": done.freed,
    }
