"""The reserve of the disk in a running server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from registry import reserve as keeping
from registry.reserve import NO_ROOM, keep_reserve
from storage.memory import MemoryBlobs
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.servers import Spindle, get, wait_for


class Tight:
    """Reserve on a disk that has room for it from time to time; or fails."""

    def __init__(self) -> None:
        self.whole = True
        self.room = True
        self.broken = False

    async def give_up(self) -> None:
        self.whole = False

    async def fill(self) -> bool:
        if self.broken:
            raise OSError(5, "Input/output error")
        self.whole = self.room
        return self.whole

    async def trim(self) -> None:
        pass


async def test_it_is_put_back_when_there_is_room_and_that_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "EVERY", 0.0)
    reserve = Tight()
    store = await Store.open(SQLite(tmp_path / "records.db"), MemoryBlobs(), reserve=reserve)
    with structlog.testing.capture_logs() as logs:
        keeper = asyncio.create_task(keep_reserve(store))

        async def told(count: int) -> list[str]:
            """All, after some rounds in which nothing more may be told."""
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(logs) == count
            return [log["event"] for log in logs]

        assert await told(0) == []
        await reserve.give_up()
        await told(0)
        assert reserve.whole
        assert logs == []
        reserve.room = False
        await reserve.give_up()
        assert await told(1) == [NO_ROOM]
        reserve.room = True
        assert (await told(2))[1:] == ["there is room again: pushes are taken"]
        reserve.broken = True
        await reserve.give_up()
        assert "cannot be put back" in (await told(3))[2]
        reserve.broken = False
        assert len(await told(4)) == 4
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
    await store.close()


def test_a_server_puts_it_back_though_it_collects_no_garbage(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Spindle(data, "--workers", "2", "--set", "collect.enabled=false") as server:
        parts = sorted((data / "reserve").iterdir())
        assert sum(part.stat().st_size for part in parts) == 64 << 10
        for part in parts:
            part.unlink()
        url = f"http://{server.registry}/v2/app/blobs/uploads/"
        wait_for(lambda: get(url, method="POST", data=b"")[0] == 202, "a push to be taken")
        assert all(part.exists() for part in parts)


def test_a_start_that_has_no_room_for_it_says_so_and_refuses_pushes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with Spindle(data, "--set", f"limits.reserve={1 << 40}GiB") as server:
        assert "pushes are refused" in server.log.read_text()
        url = f"http://{server.registry}/v2/app/blobs/uploads/"
        assert get(url, method="POST", data=b"")[0] == 507
        assert get(f"http://{server.registry}/v2/")[0] == 200
