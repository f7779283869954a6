"""Store and Repository: who sees what, tags, referrers, deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.digest import SHA256, SHA512
from storage.errors import (
    BlobUnknown,
    Damaged,
    Held,
    ManifestInvalid,
    ManifestUnknown,
    RepositoryUnknown,
    StorageError,
)
from storage.filesystem.layout import Layout
from storage.manifest import OCI_IMAGE, Manifest
from storage.memory import MemoryBlobs
from storage.names import RepositoryName, Tag
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from storage.repository import Mover, Repository
from storage.store import Store
from tests.storage.content import descriptor, image, index, pull, push, tags

DATA = b"some bytes"
DIGEST = SHA256.digest(DATA)
LATEST = Tag("latest")


def other(store: Store, name: str = "acme/other") -> Repository:
    return store.repository(RepositoryName.parse(name))


# Blobs


async def test_a_pushed_blob_is_pulled(repository: Repository) -> None:
    digest = await push(repository, DATA)
    assert await repository.has_blob(digest) == len(DATA)
    assert await pull(await repository.blob(digest)) == DATA


async def test_one_content_under_two_algorithms_is_two_blobs(repository: Repository) -> None:
    await push(repository, DATA, SHA512.digest(DATA))
    assert await repository.has_blob(SHA512.digest(DATA)) == len(DATA)
    assert await repository.has_blob(SHA256.digest(DATA)) is None


async def test_a_blob_of_another_repository_is_not_seen(
    store: Store, repository: Repository
) -> None:
    """CVE-2024-39897: the bytes are there, but only a link shows them."""
    await push(repository, DATA)
    await push(other(store), b"else")
    assert await other(store).has_blob(DIGEST) is None
    with pytest.raises(BlobUnknown):
        await other(store).blob(DIGEST)


async def test_a_blob_of_a_repository_that_never_was_says_so(repository: Repository) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.blob(DIGEST)


async def test_a_deleted_blob_is_gone_at_once(repository: Repository) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    assert await repository.has_blob(DIGEST) is None
    with pytest.raises(BlobUnknown):
        await repository.blob(DIGEST)


async def test_a_blob_is_deleted_once(repository: Repository) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    with pytest.raises(BlobUnknown):
        await repository.delete_blob(DIGEST)


async def test_deleting_a_blob_of_a_repository_that_never_was_says_so(
    repository: Repository,
) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.delete_blob(DIGEST)


async def test_a_blob_that_a_manifest_names_can_be_deleted(repository: Repository) -> None:
    await push(repository, DATA)
    await repository.put_manifest(image(layers=[descriptor(DIGEST, len(DATA))]))
    await repository.delete_blob(DIGEST)


async def test_a_blob_pushed_again_after_its_delete_is_there_again(repository: Repository) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    await push(repository, DATA)
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_a_blob_whose_bytes_are_gone_is_damaged_not_unknown(
    repository: Repository, blobs: BlobStore
) -> None:
    await push(repository, DATA)
    await blobs.remove(DIGEST)
    with pytest.raises(Damaged, match="push it again"):
        await repository.blob(DIGEST)


async def test_a_blob_of_another_size_than_recorded_is_damaged(
    repository: Repository, blobs: BlobStore, layout: Layout
) -> None:
    await push(repository, DATA)
    if isinstance(blobs, MemoryBlobs):
        blobs.blobs[DIGEST] = DATA[1:]
    else:
        Path(layout.blob(DIGEST)).unlink()
        Path(layout.blob(DIGEST)).write_bytes(DATA[1:])
    with pytest.raises(Damaged, match="9 bytes and should have 10"):
        await repository.blob(DIGEST)


# Mounts


async def test_a_blob_is_mounted_from_a_repository_that_has_it(
    store: Store, repository: Repository
) -> None:
    await push(other(store), DATA)
    assert await repository.mount(DIGEST, other(store).name)
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_a_blob_is_mounted_from_anywhere(store: Store, repository: Repository) -> None:
    await push(other(store), DATA)
    assert await repository.mount(DIGEST, None)
    assert await repository.has_blob(DIGEST) == len(DATA)


@pytest.mark.parametrize("source", ["acme/other", "acme/third", None])
async def test_what_is_not_there_is_not_mounted(
    store: Store, repository: Repository, source: str | None
) -> None:
    await push(other(store, "acme/fourth"), b"else")
    if source is not None:
        await push(other(store, "acme/fifth"), DATA)
    name = RepositoryName.parse(source) if source else None
    assert not await repository.mount(DIGEST, name)
    assert await repository.has_blob(DIGEST) is None
    with pytest.raises(RepositoryUnknown):
        await repository.tags(after=None, limit=10)


async def test_a_blob_that_no_repository_shows_any_more_is_not_mounted(
    store: Store, repository: Repository
) -> None:
    await push(other(store), DATA)
    await other(store).delete_blob(DIGEST)
    assert not await repository.mount(DIGEST, None)


async def test_a_mounted_blob_stays_when_its_source_deletes_it(
    store: Store, repository: Repository
) -> None:
    await push(other(store), DATA)
    await repository.mount(DIGEST, other(store).name)
    await other(store).delete_blob(DIGEST)
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_mounting_what_is_there_already_is_fine(repository: Repository) -> None:
    await push(repository, DATA)
    assert await repository.mount(DIGEST, repository.name)


# Manifests


@pytest.mark.parametrize("reference", ["tag", "digest"])
async def test_a_manifest_is_pulled_as_it_was_pushed(
    repository: Repository, reference: str
) -> None:
    body = b'{ "schemaVersion":2,  "layers": [] }\n'
    manifest = Manifest.parse(body, content_type=OCI_IMAGE)
    await repository.put_manifest(manifest, [LATEST])
    found = await repository.manifest(LATEST if reference == "tag" else manifest.digest)
    assert (found.digest, found.media_type, found.size, found.body) == (
        manifest.digest,
        OCI_IMAGE,
        len(body),
        body,
    )
    stat = await repository.stat_manifest(LATEST if reference == "tag" else manifest.digest)
    assert (stat.digest, stat.media_type, stat.size, stat.body) == (
        manifest.digest,
        OCI_IMAGE,
        len(body),
        b"",
    )


async def test_a_manifest_pushed_by_sha512_is_found_under_it(repository: Repository) -> None:
    body = image().body
    manifest = Manifest.parse(body, digest=SHA512.digest(body))
    await repository.put_manifest(manifest, [LATEST])
    assert (await repository.manifest(LATEST)).digest == SHA512.digest(body)
    assert (await repository.manifest(SHA512.digest(body))).body == body
    with pytest.raises(ManifestUnknown):
        await repository.manifest(SHA256.digest(body))


@pytest.mark.parametrize("reference", [LATEST, DIGEST], ids=["tag", "digest"])
async def test_what_is_not_there_is_unknown(
    repository: Repository, reference: Tag | type[StorageError]
) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.manifest(reference)
    await push(repository, DATA)
    with pytest.raises(ManifestUnknown):
        await repository.manifest(reference)
    with pytest.raises(ManifestUnknown):
        await repository.stat_manifest(reference)


async def test_a_manifest_of_another_repository_is_not_seen(
    store: Store, repository: Repository
) -> None:
    await repository.put_manifest(image(), [LATEST])
    await push(other(store), DATA)
    with pytest.raises(ManifestUnknown):
        await other(store).manifest(image().digest)
    with pytest.raises(ManifestUnknown):
        await other(store).manifest(LATEST)


async def test_a_manifest_is_no_blob(repository: Repository) -> None:
    await repository.put_manifest(image())
    assert await repository.has_blob(image().digest) is None


async def test_what_a_manifest_names_need_not_be_there(repository: Repository) -> None:
    await repository.put_manifest(image(layers=[descriptor(DIGEST, 10)]), [LATEST])
    await repository.put_manifest(index(descriptor(DIGEST, 10)))


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 0])
async def test_a_manifest_that_lies_about_a_blob_that_is_there_is_refused(
    repository: Repository, size: int
) -> None:
    await push(repository, DATA)
    for manifest in (
        image(layers=[descriptor(DIGEST, size)]),
        image(config=descriptor(DIGEST, size)),
        index(descriptor(DIGEST, size)),
    ):
        with pytest.raises(ManifestInvalid, match=f"has {size} bytes, and it has 10"):
            await repository.put_manifest(manifest, [LATEST])
    with pytest.raises(ManifestUnknown):
        await repository.manifest(LATEST)


async def test_a_manifest_that_lies_about_a_manifest_that_is_there_is_refused(
    repository: Repository,
) -> None:
    await repository.put_manifest(image())
    with pytest.raises(ManifestInvalid):
        await repository.put_manifest(index(descriptor(image().digest, 1)))


async def test_only_what_this_repository_holds_is_compared(
    store: Store, repository: Repository
) -> None:
    """Else a size would tell that another repository has the blob."""
    await push(other(store), DATA)
    await repository.put_manifest(image(layers=[descriptor(DIGEST, 1)]))


async def test_a_manifest_may_be_pushed_again(repository: Repository) -> None:
    await repository.put_manifest(image(), [LATEST])
    await repository.put_manifest(image(), [LATEST])
    assert (await repository.manifest(LATEST)).body == image().body


async def test_a_deleted_manifest_is_gone_with_all_its_tags_and_no_others(
    repository: Repository,
) -> None:
    await repository.put_manifest(image("a"), tags("a1", "a2"))
    await repository.put_manifest(image("b"), tags("b"))
    await repository.delete_manifest(image("a").digest)
    assert await repository.tags(after=None, limit=10) == tags("b")
    with pytest.raises(ManifestUnknown):
        await repository.manifest(image("a").digest)
    with pytest.raises(ManifestUnknown):
        await repository.manifest(Tag("a1"))


async def test_deleting_a_manifest_that_is_not_there_says_so(repository: Repository) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.delete_manifest(DIGEST)
    await push(repository, DATA)
    with pytest.raises(ManifestUnknown):
        await repository.delete_manifest(DIGEST)


async def test_a_held_manifest_is_not_deleted_and_the_holder_named(
    repository: Repository, database: SQLite
) -> None:
    await repository.put_manifest(image(), [LATEST])

    def hold(connection: Connection) -> None:
        connection.execute(
            "INSERT INTO holds (repository_name, digest, holder, reason) VALUES (?, ?, ?, ?)",
            *("acme/shop", str(image().digest), "application acme/shop", "revision 3 is live"),
        )

    await database.write(hold)
    with pytest.raises(Held, match="application acme/shop: revision 3 is live"):
        await repository.delete_manifest(image().digest)
    assert (await repository.manifest(LATEST)).digest == image().digest


async def test_a_hold_in_one_repository_is_none_in_another(
    store: Store, repository: Repository, database: SQLite
) -> None:
    await repository.put_manifest(image())
    await database.write(
        lambda c: c.execute(
            "INSERT INTO holds (repository_name, digest, holder, reason) VALUES (?, ?, 'x', 'y')",
            *("acme/other", str(image().digest)),
        )
    )
    await repository.delete_manifest(image().digest)


# Tags


async def test_tags_are_listed_by_their_bytes(repository: Repository) -> None:
    """Distribution spec, "Listing Tags"; and that one is the prefix of another drops none."""
    names = ["a", "a-b", "a.b", "aa", "B", "_x", "b", "1"]
    await repository.put_manifest(image(), tags(*names))
    assert await repository.tags(after=None, limit=100) == tags(*sorted(names))


@pytest.mark.parametrize("limit", range(1, 6))
async def test_pages_together_are_the_list(repository: Repository, limit: int) -> None:
    names = sorted(["a", "a-b", "a.b", "aa", "B", "_x", "b", "1"])
    await repository.put_manifest(image(), tags(*names))
    found: list[Tag] = []
    while page := await repository.tags(after=found[-1].text if found else None, limit=limit):
        assert len(page) <= limit
        assert page[0] not in found
        found += page
    assert found == tags(*names)


async def test_a_page_goes_on_after_a_tag_that_is_not_there(repository: Repository) -> None:
    await repository.put_manifest(image(), tags("a", "c"))
    assert await repository.tags(after="b", limit=10) == tags("c")


async def test_a_page_of_none_is_empty(repository: Repository) -> None:
    await repository.put_manifest(image(), tags("a"))
    assert await repository.tags(after=None, limit=0) == []


async def test_a_repository_with_blobs_alone_has_no_tags(repository: Repository) -> None:
    await push(repository, DATA)
    assert await repository.tags(after=None, limit=10) == []


async def test_the_tags_of_a_repository_that_never_was_are_not_an_empty_list(
    repository: Repository,
) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.tags(after=None, limit=10)
    await repository.start_upload()
    with pytest.raises(RepositoryUnknown):
        await repository.tags(after=None, limit=10)


async def test_an_emptied_repository_is_still_known(repository: Repository) -> None:
    await repository.put_manifest(image(), [LATEST])
    await repository.delete_manifest(image().digest)
    assert await repository.tags(after=None, limit=10) == []


async def test_a_moved_tag_leaves_its_old_manifest_reachable(repository: Repository) -> None:
    await repository.put_manifest(image("a"), [LATEST])
    await repository.put_manifest(image("b"), [LATEST])
    assert (await repository.manifest(LATEST)).digest == image("b").digest
    assert (await repository.manifest(image("a").digest)).body == image("a").body


async def test_a_deleted_tag_leaves_other_tags_and_the_manifest(repository: Repository) -> None:
    await repository.put_manifest(image(), tags("a", "b"))
    await repository.delete_tag(Tag("a"))
    assert await repository.tags(after=None, limit=10) == tags("b")
    assert (await repository.manifest(image().digest)).body == image().body
    with pytest.raises(ManifestUnknown):
        await repository.delete_tag(Tag("a"))


async def test_deleting_a_tag_of_a_repository_that_never_was_says_so(
    repository: Repository,
) -> None:
    with pytest.raises(RepositoryUnknown):
        await repository.delete_tag(LATEST)


# Moves


async def test_every_move_of_a_tag_is_told_in_order(store: Store, repository: Repository) -> None:
    assert await store.newest_move() == 0
    await repository.put_manifest(image("a"), tags("x", "y"))
    await repository.put_manifest(image("a"), tags("x"))
    await repository.put_manifest(image("b"), tags("y"))
    await repository.delete_tag(Tag("x"))
    await repository.delete_manifest(image("b").digest)
    a, b = image("a").digest, image("b").digest
    moves = await store.moves(after=0, limit=100)
    assert [(move.tag.text, move.digest) for move in moves] == [
        ("x", a),
        ("y", a),
        ("x", a),  # to where it was: a move as well
        ("y", b),
        ("x", None),
        ("y", None),
    ]
    generations = [move.generation for move in moves]
    assert generations == sorted(set(generations))
    assert await store.newest_move() == generations[-1]
    assert {move.repository for move in moves} == {repository.name}
    assert await store.moves(after=generations[1], limit=2) == moves[2:4]
    assert await store.moves(after=generations[-1], limit=2) == []


async def test_a_move_tells_who_made_it_where_that_is_known(
    store: Store, repository: Repository
) -> None:
    mover = Mover("user:ada", may_deploy=False)
    await repository.put_manifest(image("a"), tags("x", "y"), mover=mover)
    await repository.put_manifest(image("b"), tags("x"))
    await repository.delete_tag(Tag("y"))
    moves = await store.moves(after=0, limit=9)
    assert [move.mover for move in moves] == [mover, mover, None, None]


class _Refused(Exception):
    pass


async def test_what_a_tag_would_leave_is_asked_about_in_the_same_transaction(
    store: Store, repository: Repository
) -> None:
    """Each tag that is something else; not one that is new, or is that already."""
    await repository.put_manifest(image("a"), tags("x", "y"))
    asked: list[Tag] = []
    await repository.put_manifest(image("a"), tags("x", "z"), overwriting=asked.append)
    assert asked == []

    def refuse(tag: Tag) -> None:
        raise _Refused(str(tag))

    for attempt in (
        repository.put_manifest(image("b"), tags("new", "y", "x"), overwriting=refuse),
        repository.refuse_moves(tags("new", "y", "x"), image("b").digest, overwriting=refuse),
    ):
        with pytest.raises(_Refused, match="y"):
            await attempt
    assert await repository.tags(after=None, limit=9) == tags("x", "y", "z")
    with pytest.raises(ManifestUnknown):
        await repository.manifest(image("b").digest)


async def test_a_change_that_fails_is_no_move(store: Store, repository: Repository) -> None:
    await push(repository, DATA)
    with pytest.raises(ManifestInvalid):
        await repository.put_manifest(image(layers=[descriptor(DIGEST, 1)]), [LATEST])
    with pytest.raises(ManifestUnknown):
        await repository.delete_tag(LATEST)
    assert await store.moves(after=0, limit=10) == []
    assert await store.newest_move() == 0


async def test_a_tag_named_twice_in_one_push_moves_once(
    store: Store, repository: Repository
) -> None:
    await repository.put_manifest(image(), tags("a", "a"))
    assert len(await store.moves(after=0, limit=10)) == 1


async def test_a_move_is_told_with_its_time(database: SQLite, blobs: BlobStore) -> None:
    store = await Store.open(database, blobs, now=lambda: 1234.5)
    await other(store).put_manifest(image(), [LATEST])
    assert [move.at for move in await store.moves(after=0, limit=1)] == [1234.5]


# Referrers

SUBJECT = image("subject")


def signature(note: str, **fields: object) -> Manifest:
    return image(note, subject=descriptor(SUBJECT.digest, len(SUBJECT.body), OCI_IMAGE), **fields)


async def test_a_referrer_is_listed_with_what_its_manifest_says(repository: Repository) -> None:
    manifest = signature("x", artifactType="a/signature")
    await repository.put_manifest(manifest)
    [found] = await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10)
    assert found.digest == manifest.digest
    assert found.media_type == OCI_IMAGE
    assert found.size == len(manifest.body)
    assert found.artifact_type == "a/signature"
    assert found.annotations == {"note": "x"}


async def test_an_index_may_be_a_referrer_without_a_type(repository: Repository) -> None:
    manifest = index(subject=descriptor(SUBJECT.digest, 1, OCI_IMAGE))
    await repository.put_manifest(manifest)
    [found] = await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10)
    assert found.artifact_type is None
    assert found.annotations == {}


async def test_referrers_are_listed_page_by_page_in_order(repository: Repository) -> None:
    manifests = [signature(str(number)) for number in range(7)]
    for manifest in manifests:
        await repository.put_manifest(manifest, [LATEST])
    found: list[str] = []
    while page := await repository.referrers(
        SUBJECT.digest, artifact_type=None, after=found[-1] if found else None, limit=3
    ):
        assert str(page[0].digest) not in found
        found += [str(referrer.digest) for referrer in page]
    assert found == sorted(str(manifest.digest) for manifest in manifests)


async def test_referrers_are_filtered_by_type(repository: Repository) -> None:
    await repository.put_manifest(signature("a", artifactType="a/sbom"))
    await repository.put_manifest(signature("b", artifactType="a/signature"))
    found = await repository.referrers(SUBJECT.digest, artifact_type="a/sbom", after=None, limit=10)
    assert [referrer.annotations["note"] for referrer in found] == ["a"]


async def test_a_referrer_pushed_twice_is_listed_once(repository: Repository) -> None:
    await repository.put_manifest(signature("a"))
    await repository.put_manifest(signature("a"))
    assert (
        len(await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10))
        == 1
    )


async def test_a_deleted_referrer_is_not_listed(repository: Repository) -> None:
    await repository.put_manifest(signature("a"))
    await repository.delete_manifest(signature("a").digest)
    assert (
        await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10) == []
    )


async def test_referrers_stay_listed_when_their_subject_is_deleted(repository: Repository) -> None:
    await repository.put_manifest(SUBJECT)
    await repository.put_manifest(signature("a"))
    await repository.delete_manifest(SUBJECT.digest)
    assert await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10)


async def test_referrers_in_another_repository_are_not_listed(
    store: Store, repository: Repository
) -> None:
    await other(store).put_manifest(signature("a"))
    assert (
        await repository.referrers(SUBJECT.digest, artifact_type=None, after=None, limit=10) == []
    )


# The catalogue


async def test_repositories_that_hold_something_are_listed_by_their_bytes(store: Store) -> None:
    for name in ("b", "a/b", "a", "a-b"):
        await push(other(store, name), DATA)
    await other(store, "c").put_manifest(image())
    await other(store, "d").start_upload()
    found = await store.repositories(after=None, limit=10)
    assert [str(name) for name in found] == ["a", "a-b", "a/b", "b", "c"]
    assert await store.repositories(after="a-b", limit=2) == found[2:4]
    assert await store.repositories(after="a.", limit=1) == found[2:3]
    assert await store.repositories(after=None, limit=0) == []


async def test_an_emptied_repository_is_not_listed(store: Store, repository: Repository) -> None:
    await push(repository, DATA)
    await repository.delete_blob(DIGEST)
    assert await store.repositories(after=None, limit=10) == []
