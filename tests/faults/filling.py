"""A disk is filled by pushes to the last byte, and emptied by deletes and the collector; again."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from structlog.testing import capture_logs

from storage.collect import Collector
from storage.digest import SHA256
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.reserve import FilesystemReserve
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import Registry, descriptor, digest_of, image
from tests.faults.disks import Ballast, mounted

DISK: Final = 48 << 20  # bytes
RESERVE: Final = 8 << 20  # bytes: more than the log of the catalogue grows to
DAY: Final = 24 * 3600.0  # seconds


class Wrong(AssertionError):
    """What a full disk must not do."""


class Filling:
    """A registry on a small disk, and what it has."""

    def __init__(self, registry: Registry, disk: Path, clock: list[float], seed: int) -> None:
        self._registry = registry
        self._disk = disk
        self._clock = clock
        self._random = random.Random(seed)
        self._ballast = Ballast(disk)
        self._images: dict[str, tuple[bytes, bytes]] = {}
        """By tag: the layer and the manifest."""
        self.done: Counter[str] = Counter()

    async def cycle(self) -> None:
        """Raises Wrong."""
        cushion = self._disk / "cushion"
        cushion.write_bytes(bytes(1 << 20))
        await self._push_until_full()
        cushion.unlink()
        shrunk = self.done["cycles"] % 2 == 0
        if shrunk:
            self._shrink_log()
        self._ballast.take_bytes()
        self._whole("after it was full")
        await self._pull_all()
        await self._delete_half()
        await self._pull_all()
        if not self._registry.store.reserve.whole:
            self.done["given up"] += 1
            await self._refused_at_the_door()
        elif shrunk:
            raise Wrong("the deletes had room left, so the disk was not full")
        await self._collect()
        self._ballast.drop()
        if not await self._registry.store.reserve.fill():
            raise Wrong("the reserve could not be put back")
        if await self._push() != 201:
            raise Wrong("after the collection a push is refused")
        self._whole("at the end")
        self.done["cycles"] += 1

    def _shrink_log(self) -> None:
        """As a restart does, if there is room to. Else the catalogue has room in its own log."""
        with closing(sqlite3.connect(self._disk / "data" / "records.db")) as catalogue:
            catalogue.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def _push_until_full(self) -> None:
        while (status := await self._push()) == 201:
            pass
        if status != 507:
            raise Wrong(f"a push to a full disk was answered with {status}")
        self.done["refused"] += 1

    async def _push(self) -> int:
        """An image of one layer; the status of the request that decided."""
        layer = self._random.randbytes(self._random.randrange(1 << 14, 1 << 20))
        tag = f"v{self._random.getrandbits(64):x}"
        body = image(layers=[descriptor(layer, "a/layer")], annotations={"is": tag})
        for blob in (b"{}", layer):
            target = f"/v2/app/blobs/uploads/?digest={digest_of(blob)}"
            answer = await self._registry("POST", target, body=blob)
            if answer.status != 201:
                return answer.status
        answer = await self._registry.push_manifest("app", tag, body)
        if answer.status == 201:
            self._images[tag] = (layer, body)
            self.done["pushed"] += 1
        return answer.status

    async def _pull_all(self) -> None:
        answer = await self._registry("GET", "/v2/app/tags/list")
        if answer.json["tags"] != sorted(self._images):
            raise Wrong("the list of tags is another one")
        for tag, (layer, body) in self._images.items():
            blob = f"/v2/app/blobs/{digest_of(layer)}"
            if (await self._registry("GET", f"/v2/app/manifests/{tag}")).body != body:
                raise Wrong(f"{tag} is not what was pushed")
            if (await self._registry("HEAD", blob)).status != 200:
                raise Wrong(f"the layer of {tag} is not there")
            if (await self._registry("GET", blob)).body != layer:
                raise Wrong(f"the layer of {tag} has other bytes")
            self.done["pulled"] += 1

    async def _delete_half(self) -> None:
        for tag in self._random.sample(sorted(self._images), len(self._images) // 2 + 1):
            layer, body = self._images.pop(tag)
            for target in (
                f"manifests/{tag}",
                f"manifests/{digest_of(body)}",
                f"blobs/{digest_of(layer)}",
            ):
                answer = await self._registry("DELETE", f"/v2/app/{target}")
                if answer.status != 202:
                    raise Wrong(
                        f"DELETE {target} on a full disk: {answer.status}, with the reserve"
                        f" {'whole' if self._registry.store.reserve.whole else 'given up'},"
                        f" {os.statvfs(self._disk).f_bfree} blocks free, {dict(self.done)}"
                    )
            self.done["deleted"] += 1

    async def _refused_at_the_door(self) -> None:
        answer = await self._registry("POST", "/v2/app/blobs/uploads/", body=b"x")
        if (answer.status, answer.reads) != (507, 0):
            raise Wrong("a push was begun though the reserve was given up")

    async def _collect(self) -> None:
        collector = Collector(self._registry.store, quarantine=0.0, upload_age=DAY)
        self._clock[0] += 2 * DAY
        await collector.strays()  # of pushes whose bytes had room, and whose row had none
        for _ in range(2):
            self.done["collected bytes"] += (await collector.cycle()).freed
            self._clock[0] += 1

    def _whole(self, when: str) -> None:
        for path in (self._disk / "data" / "blobs" / "sha256").glob("??/*"):
            if SHA256.digest(path.read_bytes()).encoded != path.name:
                raise Wrong(f"{when} {path.name} has {path.stat().st_size} other bytes")


@asynccontextmanager
async def opened(disk: Path, seed: int) -> AsyncIterator[Filling]:
    clock = [time.time()]
    layout = Layout.open(disk / "data")
    reserve = FilesystemReserve(layout, RESERVE)
    store = await Store.open(
        await SQLite.open(layout),
        FilesystemBlobs(layout, reserve),
        now=lambda: clock[0],
        reserve=reserve,
    )
    if not await reserve.fill():
        raise Wrong("an empty disk has no room for the reserve")
    try:
        yield Filling(Registry(store), disk, clock, seed)
    finally:
        await store.close()


async def fill(cycles: int, seed: int = 0) -> Counter[str]:
    """Raises Wrong, and CannotMount."""
    with mounted(DISK) as disk, capture_logs():
        async with opened(disk, seed) as filling:
            for _ in range(cycles):
                await filling.cycle()
            return filling.done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    done = asyncio.run(fill(given.cycles, given.seed))
    print(dict(done), f"in {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
