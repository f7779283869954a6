"""One line in the log for each deletion: how much becomes free by it, and when at the earliest.

Who deletes and then looks at the disk sees nothing happen; this tells why. It is found out after
the answer was sent, by bounded work on rows, and nothing depends on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from registry.exchange import Exchange
from storage.errors import StorageError
from storage.freed import Forecast, Freed

log = structlog.get_logger(__name__)


async def tell(
    exchange: Exchange, ask: Callable[[Forecast], Awaitable[tuple[Freed, float]]]
) -> None:
    """To be called after the answer."""
    forecast = exchange.registry.forecast
    if forecast is None:
        return
    try:
        freed, earliest = await ask(forecast)
    except (StorageError, OSError, sqlite3.Error):
        log.warning("it is not known what a deletion frees", id=exchange.request_id, exc_info=True)
        return
    log.info(
        "deleted",
        id=exchange.request_id,
        repository=exchange.name,
        reference=exchange.last,
        frees_at_least=freed.bytes,
        not_before=_moment(earliest) if freed.bytes else None,
        complete=freed.complete,
    )


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
