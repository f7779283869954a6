"""Putting the reserve of the disk back, whoever gave it up, as soon as there is room for it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from storage.store import Store

EVERY: Final = 2.0  # seconds; one look at a file's size, while the reserve is whole
NO_ROOM: Final = "the disk is full: pushes are refused until there is room for limits.reserve"


async def keep_reserve(store: Store) -> None:
    """Until it is cancelled. What changes is logged, and what goes wrong once."""
    log = structlog.get_logger()
    told: str | None = None
    while True:
        try:
            trouble = None if store.reserve.whole or await store.reserve.fill() else NO_ROOM
        except OSError as error:
            trouble = f"the reserve cannot be put back: {error}"
        if trouble and trouble != told:
            log.warning(trouble)
        elif told and not trouble:
            log.warning("there is room again: pushes are taken")
        told = trouble
        await asyncio.sleep(EVERY)
