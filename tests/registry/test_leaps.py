"""T13: nothing is removed early because the clock was set."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from registry.collecting import keep_collecting
from registry.leaps import LEAP, Leaps
from registry.settings import CollectSettings, Seconds
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.storage.content import push

GRACE = 1000.0
DAY = 24 * 3600.0
YEARS = 10 * 365 * DAY


def test_a_clock_that_runs_like_the_other_leaps_never() -> None:
    leaps = Leaps(GRACE)
    assert [leaps.rest(5e8 + 700 * cycle, 700 * cycle) for cycle in range(20)] == [0.0] * 20


def test_after_a_leap_nothing_goes_until_what_was_young_is_old() -> None:
    leaps = Leaps(GRACE)
    assert leaps.rest(0, 0) == 0
    assert leaps.rest(YEARS, 10) == GRACE
    assert leaps.rest(YEARS + 400, 410) == GRACE - 400
    assert leaps.rest(YEARS + 1000, 1010) == 0


def test_what_a_time_service_puts_right_is_no_leap() -> None:
    leaps = Leaps(GRACE)
    leaps.rest(0, 0)
    assert leaps.rest(LEAP + 10, 10) == 0
    assert leaps.rest(2 * LEAP + 20.1, 20) > 0


def test_a_clock_set_back_is_none_and_neither_is_its_return_a_reason_to_hurry() -> None:
    leaps = Leaps(GRACE)
    leaps.rest(YEARS, 0)
    assert leaps.rest(0, 10) == 0
    assert leaps.rest(YEARS, 20) == GRACE


async def test_the_server_takes_nothing_because_the_clock_was_set_forward(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "data")
    clock, ticks = [1000.0], [0.0]
    store = await Store.open(
        await SQLite.open(layout), FilesystemBlobs(layout), now=lambda: clock[0], grace=GRACE
    )
    repository = store.repository(RepositoryName.parse("app"))
    digest = await push(repository, b"a blob")
    open_upload = await repository.start_upload()
    settings = replace(
        CollectSettings(), interval=Seconds(0.001), grace=Seconds(GRACE), quarantine=Seconds(1)
    )
    cycles = 0

    def counted() -> float:
        nonlocal cycles
        cycles += 1
        return ticks[0]

    collecting = asyncio.create_task(keep_collecting(store, settings, ticks=counted))

    async def some_cycles() -> None:
        until = cycles + 6
        while cycles < until:
            assert not collecting.done()
            await asyncio.sleep(0.001)

    await some_cycles()
    clock[0] += YEARS
    await some_cycles()
    assert await repository.has_blob(digest) is not None
    await repository.upload(open_upload.id)

    # All of it was young at the leap, and goes once it has truly become old.
    clock[0] += 2 * DAY
    ticks[0] += 2 * DAY
    await some_cycles()
    assert await store.database.read(lambda c: c.all("SELECT digest FROM links")) == []
    collecting.cancel()
    await store.close()
