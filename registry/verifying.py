"""Verifying in the server: a slow pass over all that is kept, again and again.

A pass remembers how far it got, so a server that is started anew goes on there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from registry.settings import VerifySettings
from storage.errors import StorageError
from storage.store import Store
from storage.verify import Finding, Report, Verifier, last_began

NAME: Final = "server"
RETRY: Final = 600.0  # seconds after a pass that failed


class Throttle:
    """Pace of so many bytes a second; 0: no bound. `sleep` takes seconds."""

    def __init__(
        self, rate: int, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._rate = rate
        self._sleep = sleep

    async def __call__(self, count: int) -> None:
        if self._rate:
            await self._sleep(count / self._rate)


class Known:
    """Logs each finding once, for as long as the process lives."""

    def __init__(self) -> None:
        self._told: set[Finding] = set()
        self._log = structlog.get_logger()

    def __call__(self, finding: Finding) -> None:
        if finding not in self._told:
            self._told.add(finding)
            self._log.error(
                "something kept is wrong",
                what=finding.what,
                where=finding.where,
                reason=finding.reason,
                remedy=finding.remedy,
            )


async def keep_verifying(
    store: Store,
    settings: VerifySettings,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Until it is cancelled. What goes wrong is logged and tried again: nothing depends on it."""
    log = structlog.get_logger()
    verifier = Verifier(store, read=True, pace=Throttle(settings.rate, sleep), found=Known())
    while True:
        try:
            await sleep(await _pause(store, settings.interval))
            report = await verifier.run(NAME)
            log.info("all that is kept was verified", **summary(report))
        except (StorageError, OSError, sqlite3.Error):
            log.exception("verifying failed; it is tried again")
            await sleep(RETRY)


async def _pause(store: Store, interval: float) -> float:
    """Seconds until the next pass is due; one that has not ended is."""
    last = await last_began(store, NAME)
    if last is None or not last[1]:
        return 0.0
    # A clock that was set back must not put it off for ever.
    return min(max(last[0] + interval - store.now(), 0.0), interval)


def summary(report: Report) -> dict[str, int]:
    return {
        "blobs": report.blobs,
        "bytes": report.bytes,
        "manifests": report.manifests,
        "records": report.rows,
        "strays": report.strays,
        "findings": len(report.findings),
    }
