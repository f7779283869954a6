"""Collection is linear on graphs that were made to be slow (zot #4318: 2^depth paths)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from storage.collect import Collector
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.scale.costs import Steps
from tests.storage.content import descriptor, image, index

GRACE = 100.0
TAG = Tag.parse("latest")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def store(tmp_path: Path, steps: Steps, clock: Clock) -> AsyncIterator[Store]:
    layout = Layout.open(tmp_path / "data")
    with steps.watching():
        database = await SQLite.open(layout)
        opened = await Store.open(database, FilesystemBlobs(layout), now=clock, grace=GRACE)
        yield opened
        await opened.close()


def named(manifest: Manifest) -> dict[str, Any]:
    return descriptor(manifest.digest, len(manifest.body), manifest.media_type)


async def diamond(repository: Repository, depth: int) -> list[Manifest]:
    """Indexes of which each lists both of the level below: 2^depth paths; the root is the last."""
    made = [image("left"), image("right")]
    for level in range(depth):
        below = list(map(named, made[-2:]))
        made += [index(*below, annotations={"at": f"{level} {side}"}) for side in "ab"]
    made.append(index(*map(named, made[-2:])))
    for manifest in made[:-1]:
        await repository.put_manifest(manifest)
    await repository.put_manifest(made[-1], [TAG])
    return made


async def collected(store: Store, clock: Clock) -> tuple[int, int]:
    """Cycles of nothing but garbage until there is none: how many, and how many manifests went."""
    collector = Collector(store, untagged=lambda _: 0.0)
    cycles = gone = 0
    while True:
        clock.now += 2 * GRACE
        done = await collector.cycle()
        if not done.manifests:
            return cycles, gone
        cycles += 1
        gone += len(done.manifests)


async def test_a_diamond_of_fifty_levels_costs_its_size(
    store: Store, clock: Clock, steps: Steps
) -> None:
    costs = []
    for depth in (25, 50):
        repository = store.repository(RepositoryName.parse(f"depth/{depth}"))
        made = await diamond(repository, depth)
        steps.taken()
        assert await collected(store, clock) == (0, 0)
        idle = steps.taken()
        await repository.delete_tag(TAG)
        _, gone = await collected(store, clock)
        assert gone == len(made)
        costs.append(steps.taken())
        assert idle < costs[-1]
    assert costs[1] < 3 * costs[0]  # and not 2^25 times


async def test_ten_thousand_referrers_cost_their_number(
    store: Store, clock: Clock, steps: Steps
) -> None:
    costs = []
    for count in (1_000, 10_000):
        repository = store.repository(RepositoryName.parse(f"referred/{count}"))
        subject = image("subject")
        await repository.put_manifest(subject, [TAG])
        for number in range(count):
            await repository.put_manifest(image(f"{number}", subject=named(subject)))
        steps.taken()
        await collected(store, clock)  # they are looked at, and stay
        costs.append(steps.taken())
        await repository.delete_manifest(subject.digest)
        _, gone = await collected(store, clock)
        assert gone == count
        costs.append(steps.taken())
    kept, removed, kept_of_more, removed_of_more = costs
    assert kept_of_more < 15 * kept
    assert removed_of_more < 15 * removed


async def test_a_circle_of_records_does_not_hold_up_the_collector(
    store: Store, clock: Clock
) -> None:
    """No digests can make one; rows that are damaged could."""
    repository = store.repository(RepositoryName.parse("acme/circle"))
    pair = [image("a"), image("b")]
    for manifest in pair:
        await repository.put_manifest(manifest)
    await store.database.write(
        lambda c: [
            c.execute(
                "INSERT INTO edges (repository, parent, child, relation)"
                " SELECT id, ?, ?, 'content' FROM repositories",
                *(parent.digest.text, child.digest.text),
            )
            for parent, child in (pair, pair[::-1])
        ]
    )
    assert await collected(store, clock) == (0, 0)  # each keeps the other
    assert (await repository.manifest(pair[0].digest)).body == pair[0].body
