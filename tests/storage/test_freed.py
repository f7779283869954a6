"""What a deletion frees, told beforehand: never more than the collector then frees."""

from __future__ import annotations

from typing import Any

import pytest

from storage.blobs import BlobStore
from storage.collect import Collector
from storage.digest import SHA256
from storage.freed import Forecast, Freed, freed
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import descriptor, image, index, push
from tests.storage.test_collect import Clock

GRACE, QUARANTINE, UNTAGGED = 1000.0, 100.0, 5000.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: SQLite, blobs: BlobStore, clock: Clock) -> Store:
    return await Store.open(database, blobs, now=clock, grace=GRACE)


def forecast(store: Store, untagged: float | None = UNTAGGED) -> Forecast:
    return Forecast(store, lambda _: untagged, QUARANTINE)


async def put(repository: Repository, note: str, *layers: bytes, **fields: Any) -> Manifest:
    for data in layers:
        await push(repository, data)
    named = [descriptor(SHA256.digest(data), len(data)) for data in layers]
    manifest = image(note, layers=named, **fields)
    await repository.put_manifest(manifest, [Tag.parse(note)])
    return manifest


async def collected(store: Store, clock: Clock) -> int:
    """The bytes that a collector frees when it is given all the time it wants."""
    collector = Collector(store, untagged=lambda _: UNTAGGED, quarantine=QUARANTINE)
    total = 0
    for _ in range(6):
        clock.goes_on(UNTAGGED + GRACE + QUARANTINE + 1)
        total += (await collector.cycle()).freed
    return total


async def test_a_manifest_frees_what_it_alone_named(
    store: Store, repository: Repository, clock: Clock
) -> None:
    other = store.repository(RepositoryName.parse("other"))
    await put(other, "c", b"elsewhere")
    gone = await put(repository, "a", b"alone", b"shared", b"elsewhere")
    await put(repository, "b", b"shared")
    released = await repository.delete_manifest(gone.digest)
    found, earliest = await forecast(store).released(repository.name, released)
    assert found == Freed(set(), {SHA256.digest(b"alone").text: 5})
    assert earliest == clock.now + GRACE + QUARANTINE
    assert await collected(store, clock) == 5


async def test_what_a_manifest_kept_goes_with_it_all_the_way_down(
    store: Store, repository: Repository, clock: Clock
) -> None:
    """A layer of two images of one index, a signature, and a signature of the signature."""
    children = [await put(repository, note, b"both", note.encode()) for note in ("x", "y")]
    for note in ("x", "y"):
        await repository.delete_tag(Tag.parse(note))
    top = index(*(descriptor(one.digest, len(one.body), one.media_type) for one in children))
    await repository.put_manifest(top, [Tag.parse("top")])
    about = top
    for note in ("signature", "of-the-signature"):
        about = await put(
            repository, note, note.encode(), subject=descriptor(about.digest, len(about.body))
        )
        await repository.delete_tag(Tag.parse(note))
    released = await repository.delete_manifest(top.digest)
    kept, _ = await forecast(store, untagged=None).released(repository.name, released)
    assert kept == Freed()
    found, _ = await forecast(store).released(repository.name, released)
    assert len(found.manifests) == 4
    assert found.bytes == len(b"bothxysignatureof-the-signature")
    assert await collected(store, clock) == found.bytes


@pytest.mark.parametrize("keeper", ["tag", "index", "hold"])
async def test_what_something_else_keeps_is_not_counted(
    keeper: str, store: Store, repository: Repository, database: SQLite
) -> None:
    child = await put(repository, "child", b"layer")
    as_child = descriptor(child.digest, len(child.body), child.media_type)
    top = index(as_child)
    await repository.put_manifest(top)
    if keeper != "tag":
        await repository.delete_tag(Tag.parse("child"))
    if keeper == "index":
        await repository.put_manifest(index(as_child, annotations={"another": "one"}))
    if keeper == "hold":
        await database.write(
            lambda c: c.execute(
                "INSERT INTO holds (repository_name, digest, holder, reason)"
                " VALUES (?, ?, 'app', 'runs')",
                *(repository.name.text, child.digest.text),
            )
        )
    released = await repository.delete_manifest(top.digest)
    assert (await forecast(store).released(repository.name, released))[0] == Freed()


async def test_a_tag_frees_what_no_other_tag_keeps(store: Store, repository: Repository) -> None:
    manifest = await put(repository, "a", b"layer")
    await repository.put_manifest(manifest, [Tag.parse("b")])
    first = [await repository.delete_tag(Tag.parse("a"))]
    assert (await forecast(store).released(repository.name, first))[0] == Freed()
    last = [await repository.delete_tag(Tag.parse("b"))]
    assert (await forecast(store).released(repository.name, last))[0].bytes == 5


async def test_a_blob_is_free_when_no_repository_has_it(
    store: Store, repository: Repository, clock: Clock
) -> None:
    other = store.repository(RepositoryName.parse("other"))
    digest = await push(repository, b"a blob")
    await push(other, b"a blob")
    await store.database.write(  # as if it was found on the disk before it had a row
        lambda c: c.execute("INSERT INTO trash (digest, size, since) VALUES (?, 6, 0)", digest.text)
    )
    await repository.delete_blob(digest)
    assert (await forecast(store).unlinked(digest))[0] == Freed()
    await other.delete_blob(digest)
    found, earliest = await forecast(store).unlinked(digest)
    assert (found.bytes, earliest) == (6, clock.now + QUARANTINE)


async def test_the_work_is_bounded_and_where_it_ends_that_is_told(
    store: Store, repository: Repository, database: SQLite
) -> None:
    layers = [b"%d" % number for number in range(30)]
    manifest = await put(repository, "a", *layers)
    released = await repository.delete_manifest(manifest.digest)

    async def found(steps: int) -> Freed:
        digests = [digest.text for digest in released]
        return await database.scan(lambda c: freed(c, 1, digests, manifests=True, steps=steps))

    assert (await found(10)).complete is False
    assert 0 < (await found(10)).bytes < (await found(1000)).bytes
    assert (await found(1000)).complete is True
