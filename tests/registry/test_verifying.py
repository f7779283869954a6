"""The pass in the server: how fast, how often, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.settings import Bytes, Seconds, VerifySettings
from registry.verifying import NAME, Throttle, keep_verifying
from storage.filesystem.layout import Layout
from storage.memory import MemoryBlobs
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.store import Store
from storage.verify import Verifier, last_began
from tests.storage.content import push


class Time:
    """Goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1e9
        self.slept: list[float] = []
        self.enough: tuple[int, asyncio.Event] = (0, asyncio.Event())

    async def until(self, times: int) -> None:
        """Somebody has slept so many times."""
        self.enough = (times, asyncio.Event())
        await self.enough[1].wait()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        times, event = self.enough
        if len(self.slept) >= times:
            event.set()
        await asyncio.sleep(0)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(tmp_path: Path, time: Time) -> AsyncIterator[Store]:
    database = await SQLite.open(Layout.open(tmp_path / "data"))
    found = await Store.open(database, MemoryBlobs(), now=time)
    yield found
    await found.close()


async def test_bytes_are_read_at_a_rate(time: Time) -> None:
    throttle = Throttle(1000, time.sleep)
    await throttle(500)
    await throttle(2000)
    assert time.slept == [0.5, 2.0]


async def test_no_rate_is_no_wait(time: Time) -> None:
    await Throttle(0, time.sleep)(1 << 30)
    assert time.slept == []


async def test_a_pass_begins_when_the_last_one_began_long_enough_ago(
    store: Store, time: Time
) -> None:
    repository = store.repository(RepositoryName.parse("acme/shop"))
    await push(repository, b"x" * 1000)
    settings = VerifySettings(interval=Seconds(100), rate=Bytes(100))
    keeping = asyncio.create_task(keep_verifying(store, settings, sleep=time.sleep))
    await time.until(6)
    keeping.cancel()
    # At once, then ten seconds of reading, and so ninety more until the next.
    assert time.slept[:6] == [0.0, 10.0, 90.0, 10.0, 90.0, 10.0]


async def test_a_pass_that_a_stop_cut_short_goes_on_at_once(store: Store, time: Time) -> None:
    await Verifier(store).run(NAME, within=0)
    assert await last_began(store, NAME) == (1e9, False)
    keeping = asyncio.create_task(
        keep_verifying(store, VerifySettings(interval=Seconds(100)), sleep=time.sleep)
    )
    await time.until(2)
    keeping.cancel()
    assert time.slept[:2] == [0.0, 100.0]
