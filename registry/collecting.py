"""Collecting garbage in the server: again and again, beside everything else."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import structlog

from registry.settings import NEVER, Config
from storage import retention
from storage.collect import Collected, Collector
from storage.errors import StorageError
from storage.freed import Forecast
from storage.names import RepositoryName
from storage.retain import Retainer
from storage.retention import Decision
from storage.store import Store

STRAYS: Final = 24 * 3600.0  # seconds between two readings of all names in the store


def untagged_age(config: Config) -> Callable[[RepositoryName], float | None]:
    """How many seconds a manifest stays that nothing keeps; None: for ever."""

    @lru_cache(1000)  # the collector asks for every manifest that nothing keeps
    def age(name: RepositoryName) -> float | None:
        said = retention.untagged(config.retention, name, config.collect.untagged)
        return None if said == NEVER else said

    return age


def collector(store: Store, config: Config) -> Collector:
    settings = config.collect
    ages = {settings.untagged, *(rule.untagged for rule in config.retention)} - {None}
    return Collector(
        store,
        untagged=None if ages == {NEVER} else untagged_age(config),
        quarantine=settings.quarantine,
        upload_age=settings.upload_age,
    )


def retainer(store: Store, config: Config) -> Retainer:
    return Retainer(store, config.retention, config.immutable)


def forecast(store: Store, config: Config) -> Forecast:
    return Forecast(store, untagged_age(config), config.collect.quarantine)


async def keep_collecting(store: Store, config: Config) -> None:
    """Until it is cancelled. What goes wrong is logged and tried again: nothing depends on it."""
    log = structlog.get_logger()
    retaining, collecting = retainer(store, config), collector(store, config)
    looked = float("-inf")
    while True:
        try:
            if time.monotonic() - looked >= STRAYS:
                found = await collecting.strays()
                looked = time.monotonic()
                if found:
                    log.warning("blobs without a repository are in quarantine", blobs=found)
            for name, decision in await retaining.cycle():
                log.info("tag removed by retention", **line(name, decision))
            done = await collecting.cycle()
            if done:
                log.info("garbage collected", **summary(done))
        except (StorageError, OSError, sqlite3.Error):
            log.exception("collecting garbage failed; it is tried again")
        await asyncio.sleep(config.collect.interval)


def line(name: RepositoryName, decision: Decision) -> dict[str, str]:
    return {
        "repository": name.text,
        "tag": decision.tagged.tag.text,
        "digest": decision.tagged.digest.text,
        "reason": decision.reason,
    }


def summary(done: Collected) -> dict[str, int]:
    return {
        "manifests": len(done.manifests),
        "links": len(done.links),
        "blobs": len(done.blobs),
        "uploads": len(done.uploads),
        "bytes": done.freed,
    }
