"""Retention at work on a store: what goes, what that lets go of, and who comes between."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import pytest

from storage.blobs import BlobStore
from storage.collect import Collector
from storage.digest import SHA256, Digest
from storage.errors import RepositoryUnknown
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.records.database import Connection, Database
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.retain import EVERYTHING, Retainer
from storage.store import Store
from tests.storage.content import descriptor, image, index, push
from tests.storage.test_collect import Clock
from tests.storage.test_retention import rule, scope

T = TypeVar("T")

GRACE = 1000.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Interrupted:
    """A database; before its next write, something else happens."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.then: Callable[[], Awaitable[None]] | None = None
        self.read, self.scan = database.read, database.scan
        self.migrate, self.close = database.migrate, database.close

    async def write(self, change: Callable[[Connection], T]) -> T:
        then, self.then = self.then, None
        if then is not None:
            await then()
        return await self._database.write(change)


@pytest.fixture
def interrupted(database: SQLite) -> Interrupted:
    return Interrupted(database)


@pytest.fixture
async def store(interrupted: Interrupted, blobs: BlobStore, clock: Clock) -> Store:
    return await Store.open(interrupted, blobs, now=clock, grace=GRACE)


@pytest.fixture
def put(repository: Repository, clock: Clock) -> Callable[..., Any]:
    """Push a manifest under tags, a second after whatever was before; an image if none is given."""

    async def put(*names: str, manifest: Manifest | None = None) -> Manifest:
        clock.goes_on(1)
        manifest = manifest or image(names[0])
        await repository.put_manifest(manifest, [Tag.parse(name) for name in names])
        return manifest

    return put


async def names(repository: Repository) -> list[str]:
    return [tag.text for tag in await repository.tags(after=None, limit=1000)]


async def gone(retainer: Retainer) -> list[str]:
    return [decision.tagged.tag.text async for _, decision in retainer.cycle()]


def hold(repository: Repository, digest: Digest) -> Callable[[Connection], int]:
    return lambda c: c.execute(
        "INSERT INTO holds (repository_name, digest, holder, reason)"
        " VALUES (?, ?, 'app acme/shop', 'revision 1 is live')",
        *(repository.name.text, digest.text),
    )


async def test_tags_go_and_each_removal_is_a_move(
    store: Store, repository: Repository, put: Callable[..., Any]
) -> None:
    for name in ("a", "b", "c"):
        await put(name)
    retainer = Retainer(store, [rule(keep_last=2)])
    assert await gone(retainer) == ["a"]
    assert await names(repository) == ["b", "c"]
    [*_, last] = await store.moves(after=0, limit=100)
    assert (last.tag.text, last.digest) == ("a", None)
    assert await gone(retainer) == []


async def test_a_push_of_the_same_content_is_a_move_too(
    store: Store, repository: Repository, put: Callable[..., Any]
) -> None:
    for name in ("a", "b", "c", "a"):
        await put(name)
    assert await gone(Retainer(store, [rule(keep_last=2)])) == ["b"]
    assert await names(repository) == ["a", "c"]


async def test_other_repositories_keep_everything(
    store: Store, put: Callable[..., Any], clock: Clock
) -> None:
    other = store.repository(RepositoryName.parse("other/shop"))
    for name in ("a", "b"):
        await put(name)
        await other.put_manifest(image(name), [Tag.parse(name)])
    assert await gone(Retainer(store, [rule("acme/*", keep_last=1)])) == ["a"]
    assert await names(other) == ["a", "b"]


async def test_what_an_index_names_and_what_refers_to_it_stays_with_it(
    store: Store, repository: Repository, put: Callable[..., Any], clock: Clock
) -> None:
    child = await put("child")
    of_it = index(descriptor(child.digest, len(child.body), child.media_type))
    await put("index", manifest=of_it)
    signature = image("signature", subject=descriptor(of_it.digest, len(of_it.body)))
    await repository.put_manifest(signature)
    lost = await put("lost")
    await put("other")
    collector = Collector(store, untagged=lambda _: GRACE)
    retainer = Retainer(store, [rule(keep_tags="index other")])
    assert sorted(await gone(retainer)) == ["child", "lost"]
    clock.goes_on(GRACE + 1)
    assert (await collector.cycle()).manifests == [(repository.name, lost.digest)]
    # And with the index everything that it kept, one after the other.
    assert await gone(Retainer(store, [rule(keep_tags="other")])) == ["index"]
    went = []
    for _ in range(2):
        clock.goes_on(GRACE + 1)
        went += [digest for _, digest in (await collector.cycle()).manifests]
    assert sorted(went) == sorted([of_it.digest, child.digest, signature.digest])


async def test_what_runs_stays_and_it_is_told_for_whom(
    store: Store, repository: Repository, database: SQLite, put: Callable[..., Any]
) -> None:
    running = await put("old")
    await put("new")
    await database.write(hold(repository, running.digest))
    retainer = Retainer(store, [rule(keep_last=1)])
    assert await gone(retainer) == []
    [judged] = await retainer.preview()
    assert judged.decisions[-1].reason == "app acme/shop needs it: revision 1 is live"


async def test_a_signature_under_a_tag_goes_with_what_it_signs(
    store: Store, repository: Repository, put: Callable[..., Any], clock: Clock
) -> None:
    signed = await put("a")
    signature = f"sha256-{signed.digest.encoded}.sig"
    await put(signature)
    await put("b")
    retainer = Retainer(store, [rule(keep_last=2)])
    assert await gone(retainer) == []
    await put("c")
    assert await gone(retainer) == ["a"]
    assert await names(repository) == ["b", "c", signature]

    clock.goes_on(GRACE + 1)
    await Collector(store, untagged=lambda _: GRACE).cycle()
    await put("c")
    assert await gone(retainer) == [signature]


async def test_the_tag_of_a_longer_digest_is_cut_and_follows_all_the_same(
    store: Store, repository: Repository, put: Callable[..., Any], clock: Clock
) -> None:
    body = image("long").body
    manifest = Manifest.parse(
        body, digest=Digest.parse(f"sha512:{hashlib.sha512(body).hexdigest()}")
    )
    await repository.put_manifest(manifest)
    fallback = f"sha512-{manifest.digest.encoded[:64]}"
    await put(fallback)
    await put("b")
    clock.goes_on(GRACE + 1)
    assert await gone(Retainer(store, [rule(keep_last=1)])) == []
    await repository.delete_manifest(manifest.digest)
    assert await gone(Retainer(store, [rule(keep_last=1)])) == [fallback]


async def test_a_push_that_comes_between_wins(
    interrupted: Interrupted, store: Store, repository: Repository, put: Callable[..., Any]
) -> None:
    for name in ("a", "b", "c"):
        await put(name)

    async def then() -> None:
        await put("a", manifest=image("newer"))

    interrupted.then = then
    assert await gone(Retainer(store, [rule(keep_last=1)])) == ["b"]
    assert (await repository.stat_manifest(Tag.parse("a"))).digest == image("newer").digest


async def test_what_is_needed_since_just_now_stays(
    interrupted: Interrupted,
    store: Store,
    repository: Repository,
    database: SQLite,
    put: Callable[..., Any],
) -> None:
    first = await put("a")
    await put("b")

    async def then() -> None:
        await database.write(hold(repository, first.digest))

    interrupted.then = then
    assert await gone(Retainer(store, [rule(keep_last=1)])) == []
    assert await names(repository) == ["a", "b"]


async def test_a_signature_whose_subject_comes_just_now_stays(
    interrupted: Interrupted,
    store: Store,
    repository: Repository,
    put: Callable[..., Any],
    clock: Clock,
) -> None:
    subject = image("subject")
    signature = f"sha256-{subject.digest.encoded}.sig"
    await put(signature)
    clock.goes_on(GRACE + 1)

    async def then() -> None:
        await repository.put_manifest(subject)

    interrupted.then = then
    assert await gone(Retainer(store, [rule(keep_last=1)])) == []


async def test_a_great_many_go_page_by_page(
    store: Store, repository: Repository, clock: Clock
) -> None:
    await repository.put_manifest(image(), [Tag.parse(f"ci-{number}") for number in range(450)])
    assert len(await gone(Retainer(store, [rule(keep_last=7)]))) == 443
    assert len(await names(repository)) == 7


async def test_while_many_push_no_tag_goes_that_is_among_the_newest(
    store: Store, repository: Repository
) -> None:
    """The moves, which are in the order in which all that happened, are gone over again."""
    keep, pushing = 3, 4

    async def pusher(who: int) -> None:
        nonlocal pushing
        noise = Random(who)
        for number in range(40):
            tag = Tag.parse(f"t{noise.randrange(8)}")
            await repository.put_manifest(image(f"{who}-{number}"), [tag])
        pushing -= 1

    async def retaining() -> None:
        while pushing:
            await gone(Retainer(store, [rule(keep_last=keep)]))

    await asyncio.gather(retaining(), retaining(), *map(pusher, range(pushing)))
    await gone(Retainer(store, [rule(keep_last=keep)]))
    now: dict[Tag, int] = {}
    removed = 0
    for move in await store.moves(after=0, limit=10_000):
        if move.digest is not None:
            now[move.tag] = move.generation
            continue
        removed += 1
        of_it = now.pop(move.tag)
        assert sum(generation > of_it for generation in now.values()) >= keep
    assert removed > 0
    assert await names(repository) == sorted(tag.text for tag in now)
    assert len(now) == keep


async def test_what_nobody_touched_is_looked_at_now_and_then(
    store: Store, put: Callable[..., Any], clock: Clock
) -> None:
    retainer = Retainer(store, [rule(keep_younger=EVERYTHING * 1.5)])
    await put("a")
    assert await gone(retainer) == []
    clock.goes_on(EVERYTHING - 2)
    assert await gone(retainer) == []
    clock.goes_on(EVERYTHING)
    assert await gone(retainer) == ["a"]


async def test_a_preview_changes_nothing_and_tells_what_would_become_garbage(
    store: Store, repository: Repository, put: Callable[..., Any], clock: Clock
) -> None:
    shared, alone, elsewhere = b"shared", b"alone with one", b"in another repository too"
    other = store.repository(RepositoryName.parse("other"))
    for data in (shared, alone, elsewhere):
        await push(repository, data)
    await push(other, elsewhere)
    layers = [descriptor(SHA256.digest(data), len(data)) for data in (shared, alone, elsewhere)]
    old = await put("a", "also", manifest=image("a", layers=layers))
    await put("b", manifest=image("b", layers=layers[:1]))
    [judged] = await Retainer(store, [rule("acme/*", keep_last=1)]).preview()
    assert sorted(decision.tagged.tag.text for decision in judged.going) == ["a", "also"]
    assert judged.freed.manifests == {old.digest.text}
    assert judged.freed.bytes == len(alone)
    assert judged.freed.complete
    assert await names(repository) == ["a", "also", "b"]
    # With one tag left on it, nothing goes.
    [judged] = await Retainer(store, [rule("acme/*", keep_tags="also b")]).preview()
    assert (judged.freed.manifests, judged.freed.bytes) == (set(), 0)


async def test_a_preview_of_one_repository(
    store: Store, repository: Repository, put: Callable[..., Any]
) -> None:
    await put("a")
    retainer = Retainer(store, [rule("other", keep_last=1)])
    assert await retainer.preview() == []
    [judged] = await retainer.preview(repository.name)
    assert judged.decisions[0].reason == "no rule looks at it"
    with pytest.raises(RepositoryUnknown):
        await retainer.preview(RepositoryName.parse("nobody"))


async def test_immutable_tags_never_go(
    store: Store, repository: Repository, put: Callable[..., Any]
) -> None:
    for name in ("v1", "a", "b"):
        await put(name)
    assert await gone(Retainer(store, [rule(keep_last=1)], [scope(tags="v*")])) == ["a"]


async def test_without_rules_nothing_is_read(store: Store, put: Callable[..., Any]) -> None:
    await put("a")
    assert await gone(Retainer(store, [rule(untagged=1.0)])) == []
