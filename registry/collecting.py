"""Collecting garbage in the server: again and again, beside everything else."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final

import structlog

from registry.audit import COLLECTOR, RETENTION, Audit, Event, Outcome
from registry.leaps import Leaps
from registry.settings import NEVER, CollectSettings, Config
from storage import retention
from storage.collect import Collected, Collector
from storage.errors import StorageError
from storage.freed import Forecast
from storage.names import RepositoryName
from storage.retain import Retainer
from storage.retention import Decision, Rule, Scope
from storage.store import Store

STRAYS: Final = 24 * 3600.0  # seconds between two readings of all names in the store


def untagged_age(
    settings: CollectSettings, rules: Sequence[Rule]
) -> Callable[[RepositoryName], float | None]:
    """How many seconds a manifest stays that nothing keeps; None: for ever."""

    @lru_cache(1000)  # the collector asks for every manifest that nothing keeps
    def age(name: RepositoryName) -> float | None:
        said = retention.untagged(rules, name, settings.untagged)
        return None if said == NEVER else said

    return age


def collector(store: Store, settings: CollectSettings, rules: Sequence[Rule] = ()) -> Collector:
    ages = {settings.untagged, *(rule.untagged for rule in rules)} - {None}
    return Collector(
        store,
        untagged=None if ages == {NEVER} else untagged_age(settings, rules),
        quarantine=settings.quarantine,
        upload_age=settings.upload_age,
    )


def forecast(store: Store, config: Config) -> Forecast:
    age = untagged_age(config.collect, config.retention)
    return Forecast(store, age, config.collect.quarantine)


async def keep_collecting(
    store: Store,
    settings: CollectSettings,
    *,
    rules: Sequence[Rule] = (),
    immutable: Sequence[Scope] = (),
    audit: Audit | None = None,
    ticks: Callable[[], float] = time.monotonic,
) -> None:
    """Until it is cancelled. What goes wrong is logged and tried again: nothing depends on it.

    `ticks` is a clock that cannot be set, in seconds.
    """
    log = structlog.get_logger()
    collecting = collector(store, settings, rules)
    retaining = Retainer(store, rules, immutable)
    leaps = Leaps(max(settings.grace, settings.quarantine, settings.upload_age))
    resting = False
    looked = float("-inf")
    doubts: list[str] = []
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
            if not resting:
                done = await collecting.cycle()
                if done.doubts != doubts:
                    doubts = done.doubts
                    if doubts:
                        log.error("no garbage is collected", reasons=doubts)
                    else:
                        log.info("garbage is collected again")
                if done:
                    log.info("garbage collected", **summary(done))
                    await tell(audit, collected(done, COLLECTOR))
                async for name, decision in retaining.cycle():
                    log.info("tag removed by retention", **line(name, decision))
                    await tell(audit, retained(name, decision, RETENTION))
        except (StorageError, OSError, sqlite3.Error):
            log.exception("collecting garbage failed; it is tried again")
        await asyncio.sleep(settings.interval)


async def tell(audit: Audit | None, event: Event) -> None:
    """What is done is done: a line that cannot be written now is written later."""
    if audit is not None:
        with suppress(OSError):
            await audit.record(event)


def collected(done: Collected, by: str) -> Event:
    """One line for a whole cycle. What a manifest or a blob was kept by, went before, with a line
    of its own.
    """
    counts = ", ".join(f"{count} {what}" for what, count in summary(done).items())
    return Event("collect", Outcome.DONE, by, detail=f"{counts}: nothing kept them any more")


def retained(name: RepositoryName, decision: Decision, by: str) -> Event:
    return Event(
        *("tag.delete", Outcome.DONE, by),
        repository=name.text,
        reference=decision.tagged.tag.text,
        digest=decision.tagged.digest.text,
        detail=f"retention: {decision.reason}",
    )


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
