"""Garbage: what stays, what goes and when. The clock is the test's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from storage.blobs import BlobStore
from storage.collect import Collected, Collector
from storage.digest import SHA256, Digest
from storage.errors import BlobUnknown
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.open_uploads import OpenUploads
from storage.records import schema
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from storage.uploads import UploadSession
from tests.storage.content import descriptor, image, index, pull, push, stream

DATA = b"some bytes"
DIGEST = SHA256.digest(DATA)
OF_DATA = image("of data", layers=[descriptor(DIGEST, len(DATA))])
LATEST = Tag("latest")
GRACE = 1000.0
QUARANTINE = 100.0
UNTAGGED = 5000.0


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now

    def goes_on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(database: SQLite, blobs: BlobStore, clock: Clock) -> Store:
    return await Store.open(database, blobs, now=clock, grace=GRACE)


@pytest.fixture
def collector(store: Store) -> Collector:
    return Collector(store, quarantine=QUARANTINE)


@pytest.fixture
def thrifty(store: Store) -> Collector:
    """Takes manifests that nothing keeps, too."""
    return Collector(store, untagged=lambda _: UNTAGGED, quarantine=QUARANTINE)


def other(store: Store) -> Repository:
    return store.repository(RepositoryName.parse("acme/other"))


async def is_kept(blobs: BlobStore, digest: Digest = DIGEST) -> bool:
    try:
        await (await blobs.open(digest)).close()
    except BlobUnknown:
        return False
    return True


async def has_manifest(repository: Repository, manifest: Manifest) -> bool:
    """Without asking the repository, which would renew its lease."""
    row = await repository._database.read(
        lambda c: c.one("SELECT 1 FROM manifests WHERE digest = ?", manifest.digest.text)
    )
    return row is not None


async def is_linked(repository: Repository, digest: Digest = DIGEST) -> bool:
    return await repository._linked(digest) is not None


# Blobs


async def test_a_blob_that_nothing_refers_to_goes_first_its_link_and_then_its_bytes(
    repository: Repository, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    await push(repository, DATA)
    clock.goes_on(GRACE)
    assert not await collector.cycle()
    assert await is_linked(repository)

    clock.goes_on(1)
    done = await collector.cycle()
    assert done.links == [(repository.name, DIGEST)]
    assert not await is_linked(repository)
    assert await is_kept(blobs)

    clock.goes_on(QUARANTINE + 1)
    done = await collector.cycle()
    assert (done.blobs, done.freed) == ([(DIGEST, len(DATA))], len(DATA))
    assert not await is_kept(blobs)
    assert not await collector.cycle()


async def test_a_blob_that_a_manifest_names_stays(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA)
    clock.goes_on(1e9)
    assert not await collector.cycle()
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_a_blob_that_came_after_its_manifest_stays(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await repository.put_manifest(OF_DATA)
    await push(repository, DATA)
    clock.goes_on(1e9)
    assert not await collector.cycle()


async def test_the_lease_of_what_a_manifest_named_begins_when_that_is_deleted(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA)
    clock.goes_on(1e6)
    await repository.delete_manifest(OF_DATA.digest)
    clock.goes_on(GRACE)
    assert not await collector.cycle()
    clock.goes_on(1)
    assert (await collector.cycle()).links == [(repository.name, DIGEST)]


async def test_what_another_manifest_names_too_stays(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA)
    await repository.put_manifest(image("too", layers=[descriptor(DIGEST, len(DATA))]))
    await repository.delete_manifest(OF_DATA.digest)
    clock.goes_on(1e6)
    assert not await collector.cycle()


async def test_who_was_told_that_a_blob_is_there_can_rely_on_it(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    for _ in range(5):
        clock.goes_on(0.9 * GRACE)
        assert not await collector.cycle()
        assert await repository.has_blob(DIGEST) == len(DATA)
    clock.goes_on(GRACE + 1)
    assert await collector.cycle()


async def test_asking_again_at_once_writes_nothing(
    repository: Repository, database: SQLite, clock: Clock
) -> None:
    await push(repository, DATA)
    before = await database.read(lambda c: c.all("SELECT * FROM leases"))
    clock.goes_on(GRACE / 10)
    await repository.has_blob(DIGEST)
    assert await database.read(lambda c: c.all("SELECT * FROM leases")) == before


async def test_a_blob_pushed_again_has_a_new_lease(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    clock.goes_on(0.9 * GRACE)
    await push(repository, DATA)
    clock.goes_on(0.9 * GRACE)
    assert not await collector.cycle()


async def test_a_mounted_blob_has_a_lease_of_its_own_and_keeps_the_bytes(
    store: Store, repository: Repository, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    await push(repository, DATA)
    clock.goes_on(0.9 * GRACE)
    assert await other(store).mount(DIGEST, repository.name)
    clock.goes_on(0.2 * GRACE)
    assert (await collector.cycle()).links == [(repository.name, DIGEST)]
    clock.goes_on(QUARANTINE + 1)
    assert not await collector.cycle()
    assert await other(store).has_blob(DIGEST) == len(DATA)
    assert await is_kept(blobs)


async def test_a_manifest_put_before_the_cycle_saves_its_blobs(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    clock.goes_on(GRACE + 1)
    await repository.put_manifest(OF_DATA)
    assert not await collector.cycle()


async def test_a_blob_pushed_in_the_quarantine_is_saved(
    repository: Repository, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    clock.goes_on(QUARANTINE - 1)
    await push(repository, DATA)
    clock.goes_on(2)
    await collector.cycle()
    assert await is_kept(blobs)
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_what_is_being_committed_is_left_alone(
    repository: Repository, store: Store, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    """Its bytes are there already, and its link is not yet."""
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    clock.goes_on(QUARANTINE + 1)
    upload = await blobs.start_upload("0" * 64, SHA256)
    await upload.hold()
    await upload.write(DATA)
    await upload.commit(DIGEST)
    assert not await collector.cycle()
    assert await is_kept(blobs)
    await upload.close()
    assert (await collector.cycle()).blobs == [(DIGEST, len(DATA))]


async def test_a_blob_is_left_alone_until_it_has_its_link(blobs: BlobStore) -> None:
    discarded = []

    async def nobody_has_it() -> bool:
        return False

    async def link(digest: Digest, size: int) -> None:
        discarded.append(await blobs.discard(digest, nobody_has_it))

    async def linked(digest: Digest) -> bool:
        return await nobody_has_it()

    await blobs.start_upload("0" * 64, SHA256)
    session = UploadSession(
        "id",
        0,
        key="0" * 64,
        blobs=blobs,
        link=link,
        linked=linked,
        open_uploads=OpenUploads(blobs),
    )
    await session.append(stream(DATA))
    await session.commit(DIGEST)
    assert discarded == [False]
    assert await blobs.discard(DIGEST, nobody_has_it)
    assert not await is_kept(blobs)


async def test_a_deleted_blob_is_not_kept_for_the_grace(
    repository: Repository, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    clock.goes_on(QUARANTINE + 1)
    assert (await collector.cycle()).freed == len(DATA)
    assert not await is_kept(blobs)


# Manifests


async def test_manifests_without_a_tag_stay_unless_somebody_wants_otherwise(
    repository: Repository, collector: Collector, clock: Clock
) -> None:
    await repository.put_manifest(OF_DATA)
    clock.goes_on(1e9)
    assert not await collector.cycle()
    assert await has_manifest(repository, OF_DATA)


async def test_a_manifest_that_nothing_keeps_goes_with_what_it_named(
    repository: Repository, thrifty: Collector, blobs: BlobStore, clock: Clock
) -> None:
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA)
    clock.goes_on(UNTAGGED)
    assert not await thrifty.cycle()
    clock.goes_on(1)
    assert (await thrifty.cycle()).manifests == [(repository.name, OF_DATA.digest)]
    clock.goes_on(GRACE + 1)
    await thrifty.cycle()
    clock.goes_on(QUARANTINE + 1)
    await thrifty.cycle()
    assert not await is_kept(blobs)


async def test_who_asks_for_a_manifest_by_digest_can_rely_on_it(
    repository: Repository, thrifty: Collector, clock: Clock
) -> None:
    await repository.put_manifest(OF_DATA)
    clock.goes_on(0.9 * UNTAGGED)
    await repository.stat_manifest(OF_DATA.digest)
    clock.goes_on(0.9 * UNTAGGED)
    assert not await thrifty.cycle()


@pytest.mark.parametrize("leave", ["move", "delete"])
async def test_a_tagged_manifest_has_a_lease_from_when_its_last_tag_leaves(
    repository: Repository, thrifty: Collector, clock: Clock, leave: str
) -> None:
    await repository.put_manifest(OF_DATA, [LATEST, Tag("too")])
    clock.goes_on(1e6)
    assert not await thrifty.cycle()
    await repository.delete_tag(Tag("too"))
    clock.goes_on(1e6)
    assert not await thrifty.cycle()
    if leave == "move":
        await repository.put_manifest(image("new"), [LATEST])
    else:
        await repository.delete_tag(LATEST)
    clock.goes_on(UNTAGGED)
    assert not await thrifty.cycle()
    clock.goes_on(1)
    assert (await thrifty.cycle()).manifests == [(repository.name, OF_DATA.digest)]


async def test_a_tag_set_before_the_cycle_saves_the_manifest(
    repository: Repository, thrifty: Collector, clock: Clock
) -> None:
    await repository.put_manifest(OF_DATA)
    clock.goes_on(UNTAGGED + 1)
    await repository.put_manifest(OF_DATA, [LATEST])
    assert not await thrifty.cycle()


def of(*manifests: Manifest, name: str = "index") -> Manifest:
    return index(*(descriptor(m.digest, len(m.body)) for m in manifests), name=name)


async def test_what_an_index_lists_stays_with_it_and_goes_after_it(
    repository: Repository, thrifty: Collector, clock: Clock
) -> None:
    inner = of(OF_DATA, name="inner")
    outer = of(inner, name="outer")
    for manifest in (OF_DATA, inner):
        await repository.put_manifest(manifest)
    await repository.put_manifest(outer, [LATEST])
    clock.goes_on(1e6)
    assert not await thrifty.cycle()
    await repository.delete_tag(LATEST)
    for expected in (outer, inner, OF_DATA):
        clock.goes_on(UNTAGGED + 1)
        assert (await thrifty.cycle()).manifests == [(repository.name, expected.digest)]


async def test_referrers_of_what_is_here_stay_and_those_of_nothing_go(
    repository: Repository, thrifty: Collector, clock: Clock
) -> None:
    signature = image("signature", subject=descriptor(OF_DATA.digest, len(OF_DATA.body)))
    await repository.put_manifest(signature)
    clock.goes_on(UNTAGGED - 1)
    await repository.put_manifest(OF_DATA, [LATEST])
    clock.goes_on(1e6)
    assert not await thrifty.cycle()
    await repository.delete_manifest(OF_DATA.digest)
    clock.goes_on(UNTAGGED + 1)
    assert (await thrifty.cycle()).manifests == [(repository.name, signature.digest)]


async def test_what_is_held_stays(
    repository: Repository, thrifty: Collector, database: SQLite, clock: Clock
) -> None:
    await repository.put_manifest(OF_DATA)
    await database.write(
        lambda c: c.execute(
            "INSERT INTO holds (repository_name, digest, holder, reason) VALUES (?, ?, ?, ?)",
            *(repository.name.text, OF_DATA.digest.text, "an app", "it is live"),
        )
    )
    clock.goes_on(1e6)
    assert not await thrifty.cycle()
    await database.write(lambda c: c.execute("DELETE FROM holds"))
    assert (await thrifty.cycle()).manifests == [(repository.name, OF_DATA.digest)]


async def test_rules_are_a_repositorys_own(
    store: Store, repository: Repository, clock: Clock
) -> None:
    rules = {repository.name: None, other(store).name: UNTAGGED}
    collector = Collector(store, untagged=lambda name: rules[name])
    await repository.put_manifest(OF_DATA)
    await other(store).put_manifest(OF_DATA)
    clock.goes_on(UNTAGGED + 1)
    assert (await collector.cycle()).manifests == [(other(store).name, OF_DATA.digest)]


# The whole


async def test_a_preview_says_what_a_cycle_does_and_changes_nothing(
    repository: Repository, thrifty: Collector, clock: Clock
) -> None:
    await push(repository, DATA)
    await push(repository, b"gone")
    await repository.delete_blob(SHA256.digest(b"gone"))
    await repository.put_manifest(image("loose"))
    clock.goes_on(UNTAGGED + 1)
    due = await thrifty.preview()
    assert await thrifty.preview() == due
    assert due == await thrifty.cycle()
    assert [len(due.manifests), len(due.links), len(due.blobs)] == [1, 1, 1]


async def test_bytes_to_which_no_row_leads_are_found(
    repository: Repository, collector: Collector, blobs: BlobStore, clock: Clock
) -> None:
    """A crash between the bytes and their row leaves such."""
    await push(repository, b"kept")
    upload = await blobs.start_upload("0" * 64, SHA256)
    await upload.hold()
    await upload.write(DATA)
    await upload.commit(DIGEST)
    await upload.close()
    assert await collector.strays() == 1
    assert await collector.strays() == 0
    clock.goes_on(QUARANTINE + 1)
    assert (await collector.cycle()).blobs == [(DIGEST, len(DATA))]
    assert await is_kept(blobs, SHA256.digest(b"kept"))


async def test_a_great_deal_of_garbage_goes_at_once(
    repository: Repository, collector: Collector, clock: Clock, database: SQLite
) -> None:
    """More than a page, all of the same age."""

    def fill(c: Connection) -> None:
        for number in range(450):
            digest = SHA256.digest(b"%d" % number).text
            c.execute(
                "INSERT INTO links (repository, digest, size, created) VALUES (1, ?, 1, 0)", digest
            )
            c.execute(
                "INSERT INTO leases (repository, digest, kind, since) VALUES (1, ?, 'blob', ?)",
                *(digest, clock.now),
            )

    await push(repository, DATA)
    await database.write(fill)
    clock.goes_on(GRACE + 1)
    assert len((await collector.cycle()).links) == 451
    clock.goes_on(QUARANTINE + 1)
    assert len((await collector.cycle()).blobs) == 451


async def test_an_upload_that_nobody_goes_on_with_is_forgotten(
    repository: Repository, store: Store, blobs: BlobStore
) -> None:
    store.now = time.time
    collector = Collector(store, upload_age=0.05)
    stale = await repository.start_upload()
    await stale.append(stream(b"12345"))
    held = await blobs.start_upload("0" * 64, SHA256)
    await held.hold()
    assert not await collector.cycle()
    await asyncio.sleep(0.06)
    new = await repository.start_upload()
    done = await collector.cycle()
    assert (done.uploads, done.freed) == ([5], 5)
    assert (await repository.upload(new.id)).size == 0
    await held.close()
    with pytest.raises(Exception, match="no such upload"):
        await repository.upload(stale.id)


@pytest.fixture
async def older(layout: Layout) -> AsyncIterator[SQLite]:
    """A database as it was before there were edges."""
    found = await SQLite.open(layout)
    await found.migrate("storage", schema.STEPS[:1])
    yield found
    await found.close()


async def test_what_was_kept_before_there_was_a_collector_is_read(
    layout: Layout, older: SQLite, clock: Clock
) -> None:
    blobs = FilesystemBlobs(layout)
    name = RepositoryName.parse("acme/shop")

    def fill(c: Connection) -> None:
        execute = c.execute
        execute("INSERT INTO repositories (name) VALUES (?)", name.text)
        for digest in (DIGEST, SHA256.digest(b"loose")):
            execute(
                "INSERT INTO links (repository, digest, size, created) VALUES (1, ?, 10, 0)",
                digest.text,
            )
        for manifest in (OF_DATA, of(OF_DATA)):
            execute(
                "INSERT INTO manifests (repository, digest, media_type, subject, artifact_type,"
                " annotations, size, created, body) VALUES (1, ?, ?, NULL, NULL, '{}', ?, 0, ?)",
                *(manifest.digest.text, manifest.media_type, len(manifest.body), manifest.body),
            )

    await older.write(fill)
    store = await Store.open(older, blobs, now=clock, grace=GRACE)
    collector = Collector(store, untagged=lambda _: UNTAGGED)
    done = await collector.cycle()
    assert done.links == [(name, SHA256.digest(b"loose"))]
    assert done.manifests == [(name, of(OF_DATA).digest)]
    await blobs.close()


def test_a_collection_of_nothing_is_false() -> None:
    assert not Collected()
