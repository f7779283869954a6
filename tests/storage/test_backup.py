"""Backups and what is restored from them: whole, hashed, shown last."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from storage.backup import backup, prune, verify
from storage.blobs import PIECE, BlobStore
from storage.collect import Collector
from storage.digest import SHA256, SHA512, Digest
from storage.errors import BlobUnknown, Damaged, Held, LayoutRefused, LayoutUnknown
from storage.filesystem import calls
from storage.filesystem.backups import Backups
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.pause import TTL, PauseLost, pause
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.restore import restore
from storage.snapshot import Snapshot
from storage.store import Store
from tests.storage.content import descriptor, image, pull, push, tags

DATA = b"some bytes"
DIGEST = SHA256.digest(DATA)
OF_DATA = image("of data", layers=[descriptor(DIGEST, len(DATA))])
OTHER = b"other bytes"
GRACE = 1000.0


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def blobs(layout: Layout) -> AsyncIterator[BlobStore]:
    found = FilesystemBlobs(layout)
    yield found
    await found.close()


@pytest.fixture
async def store(database: SQLite, blobs: BlobStore, clock: Clock) -> Store:
    return await Store.open(database, blobs, now=clock, grace=GRACE)


@pytest.fixture
def backups(tmp_path: Path) -> Backups:
    return Backups.make(tmp_path / "backups")


@asynccontextmanager
async def opened(root: Path, *, grace: float = GRACE) -> AsyncIterator[Store]:
    layout = Layout.open(root)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout), grace=grace)
    try:
        yield store
    finally:
        await store.close()


def names(root: Path) -> set[str]:
    """The files of the blobs in a data directory or in backups."""
    return {path.name for path in root.glob("blobs/*/??/*")}


def flip(path: Path) -> None:
    """One bit of a file becomes another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


# What is in a backup


async def test_a_restored_store_has_everything(
    store: Store, repository: Repository, backups: Backups, tmp_path: Path
) -> None:
    other = SHA512.digest(OTHER)
    await push(repository, DATA)
    await push(repository, OTHER, other)
    await repository.put_manifest(OF_DATA, tags("v1", "v2"))
    snapshot, copied = await backup(store, backups)
    assert (snapshot.blobs, snapshot.size) == (2, len(DATA + OTHER))
    assert (copied.blobs, copied.bytes) == (2, len(DATA + OTHER))
    done = await restore(backups, tmp_path / "data", open_records=SQLite.open)
    assert (done.blobs, done.bytes, done.lost) == (2, len(DATA + OTHER), ())
    async with opened(tmp_path / "data") as restored:
        there = restored.repository(repository.name)
        assert (await there.manifest(Tag("v2"))).body == OF_DATA.body
        assert await pull(await there.blob(DIGEST)) == DATA
        assert await pull(await there.blob(other)) == OTHER


@pytest.mark.parametrize("in_kernel", [True, False])
async def test_a_large_blob_is_copied_whole(
    store: Store,
    repository: Repository,
    backups: Backups,
    monkeypatch: pytest.MonkeyPatch,
    in_kernel: bool,
) -> None:
    """Also where the kernel stops copying half-way, as it may."""
    data = os.urandom(2 * PIECE + 12345)
    digest = await push(repository, data)
    real, asked = calls.copy_file_range, []

    def copy(source: int, target: int, count: int, *offsets: int) -> int:
        asked.append(count)
        if in_kernel:
            return real(source, target, count, *offsets)
        if len(asked) > 1:
            raise OSError(18, "Invalid cross-device link")
        return real(source, target, 1000, *offsets)

    monkeypatch.setattr(calls, "copy_file_range", copy)
    assert (await backup(store, backups))[0].lost == ()
    assert Path(backups.blob(digest)).read_bytes() == data
    assert asked


async def test_a_second_backup_copies_only_what_is_new(
    store: Store, repository: Repository, backups: Backups
) -> None:
    await push(repository, DATA)
    await backup(store, backups)
    await push(repository, OTHER)
    snapshot, copied = await backup(store, backups)
    assert (snapshot.blobs, copied.blobs, copied.bytes) == (2, 1, len(OTHER))


async def test_a_snapshot_is_of_its_own_time(
    store: Store, repository: Repository, backups: Backups, tmp_path: Path
) -> None:
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA, tags("v1"))
    first, _ = await backup(store, backups)
    await repository.delete_manifest(OF_DATA.digest)
    await repository.delete_blob(DIGEST)
    await push(repository, OTHER)
    second, _ = await backup(store, backups)
    await restore(backups, tmp_path / "first", open_records=SQLite.open, id=first.id)
    await restore(backups, tmp_path / "second", open_records=SQLite.open, id=second.id)
    assert names(tmp_path / "first") == {DIGEST.encoded}
    assert names(tmp_path / "second") == {SHA256.digest(OTHER).encoded}


async def test_any_program_can_check_the_blobs(
    store: Store, repository: Repository, backups: Backups
) -> None:
    await push(repository, DATA)
    await push(repository, OTHER, SHA512.digest(OTHER))
    snapshot, _ = await backup(store, backups)
    for algorithm in ("sha256", "sha512"):
        sums = f"snapshots/{snapshot.id}/{algorithm}sums"
        command = [f"{algorithm}sum", "--check", "--strict", sums]
        await asyncio.to_thread(subprocess.run, command, cwd=backups.root, check=True)


async def test_an_empty_store_can_be_backed_up(
    store: Store, backups: Backups, tmp_path: Path
) -> None:
    await backup(store, backups)
    assert (await restore(backups, tmp_path / "data", open_records=SQLite.open)).blobs == 0


# What is damaged, and what is linked


async def test_a_link_takes_no_space(
    store: Store, repository: Repository, backups: Backups, layout: Layout
) -> None:
    await push(repository, DATA)
    await backup(store, backups, link=True)
    assert os.path.samefile(layout.blob(DIGEST), backups.blob(DIGEST))
    assert await pull(await repository.blob(DIGEST)) == DATA


async def test_without_being_asked_nothing_is_linked(
    store: Store, repository: Repository, backups: Backups, layout: Layout
) -> None:
    await push(repository, DATA)
    await backup(store, backups)
    assert not os.path.samefile(layout.blob(DIGEST), backups.blob(DIGEST))


async def test_on_another_file_system_a_link_becomes_a_copy(
    store: Store, repository: Repository, layout: Layout
) -> None:
    await push(repository, DATA)
    elsewhere = Path("/dev/shm") / f"spindle-test-{os.getpid()}"
    try:
        backups = Backups.make(elsewhere)
        assert os.stat(elsewhere).st_dev != os.stat(layout.root).st_dev
        snapshot, _ = await backup(store, backups, link=True)
        assert Path(backups.blob(DIGEST)).read_bytes() == DATA
        assert snapshot.lost == ()
    finally:
        shutil.rmtree(elsewhere)


@pytest.mark.parametrize("link", [False, True])
async def test_a_damaged_blob_is_told_and_the_rest_is_saved(
    store: Store,
    repository: Repository,
    backups: Backups,
    layout: Layout,
    tmp_path: Path,
    link: bool,
) -> None:
    await push(repository, DATA)
    await push(repository, OTHER)
    flip(Path(layout.blob(DIGEST)))
    snapshot, _ = await backup(store, backups, link=link)
    assert [loss.digest for loss in snapshot.lost] == [DIGEST]
    assert "not what they were" in snapshot.lost[0].why
    assert names(backups.root) == {SHA256.digest(OTHER).encoded}
    done = await restore(backups, tmp_path / "data", open_records=SQLite.open)
    assert done.lost == snapshot.lost
    async with opened(tmp_path / "data") as restored:
        there = restored.repository(repository.name)
        assert await pull(await there.blob(SHA256.digest(OTHER))) == OTHER
        with pytest.raises(Damaged, match="push it again"):
            await there.blob(DIGEST)
        assert await there.has_blob(DIGEST) is None  # or no client would push it again
        await push(there, DATA)
        assert await pull(await there.blob(DIGEST)) == DATA


async def test_a_missing_or_shortened_blob_is_told(
    store: Store, repository: Repository, backups: Backups, layout: Layout
) -> None:
    await push(repository, DATA)
    await push(repository, OTHER)
    Path(layout.blob(DIGEST)).unlink()
    short = Path(layout.blob(SHA256.digest(OTHER)))
    short.chmod(0o600)
    short.write_bytes(OTHER[:3])
    snapshot, _ = await backup(store, backups)
    why = {loss.digest: loss.why for loss in snapshot.lost}
    assert why[DIGEST] == "its bytes are gone"
    assert "3 bytes and should have 11" in why[SHA256.digest(OTHER)]
    assert snapshot.blobs == 0


async def test_a_blob_that_cannot_be_read_is_told(
    store: Store,
    repository: Repository,
    backups: Backups,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push(repository, DATA)

    def fail(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(calls, "copy_file_range", fail)
    monkeypatch.setattr(calls, "pread", fail)
    with pytest.raises(OSError, match="Input"):  # the records cannot be read either
        await backup(store, backups)
    monkeypatch.undo()
    monkeypatch.setattr(calls, "copy_file_range", fail)
    snapshot, _ = await backup(store, backups)  # the kernel's way fails, and the other does not
    assert snapshot.lost == ()


async def test_a_blob_that_cannot_be_opened_is_told(
    store: Store,
    repository: Repository,
    backups: Backups,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push(repository, DATA)
    await push(repository, OTHER)
    real, number = calls.open, errno.EIO

    def fail(path: str, *rest: Any, **more: Any) -> int:
        if path == layout.blob(DIGEST):
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **more)

    monkeypatch.setattr(calls, "open", fail)
    snapshot, _ = await backup(store, backups)
    assert [loss.digest for loss in snapshot.lost] == [DIGEST]
    assert snapshot.blobs == 1
    number = errno.EMFILE  # says nothing of the blob
    with pytest.raises(OSError, match="Too many open files"):
        await backup(store, backups)
    assert backups.ids() == [snapshot.id]


async def test_a_full_disk_ends_it_and_shows_nothing(
    store: Store,
    repository: Repository,
    backups: Backups,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await push(repository, DATA)

    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calls, "copy_file_range", fail)
    with pytest.raises(OSError, match="No space"):
        await backup(store, backups)
    assert backups.ids() == []
    assert os.listdir(backups.root / "drafts") == []


# Beside the collector


async def delete_all(repository: Repository) -> None:
    await repository.delete_blob(DIGEST)


async def test_bytes_stay_while_a_backup_is_at_work(
    store: Store, repository: Repository, blobs: BlobStore, clock: Clock
) -> None:
    collector = Collector(store, quarantine=1)
    await push(repository, DATA)
    async with pause(store):
        await delete_all(repository)
        clock.now += 10
        assert not (await collector.cycle()).blobs
        await (await blobs.open(DIGEST)).close()
    assert (await collector.cycle()).blobs == [(DIGEST, len(DATA))]
    with pytest.raises(BlobUnknown):
        await blobs.open(DIGEST)


async def test_a_pause_that_begins_while_the_collector_is_at_work_holds(
    store: Store, repository: Repository, blobs: BlobStore, clock: Clock, layout: Layout
) -> None:
    """Between its look at what is in quarantine and the removal."""
    await push(repository, DATA)
    await delete_all(repository)
    clock.now += 10
    discard = blobs.discard
    begun = pause(store)

    async def discard_later(digest: Digest, needed: Any) -> bool:
        await begun.__aenter__()
        return await discard(digest, needed)

    blobs.discard = discard_later  # type: ignore[method-assign]  # the moment to be at
    collector = Collector(store, quarantine=1)
    assert not (await collector.cycle()).blobs
    assert Path(layout.blob(DIGEST)).exists()
    await begun.__aexit__(None, None, None)
    blobs.discard = discard  # type: ignore[method-assign]
    assert (await collector.cycle()).blobs == [(DIGEST, len(DATA))]


async def test_one_that_died_is_not_waited_for_for_ever(
    store: Store, repository: Repository, database: SQLite, clock: Clock
) -> None:
    await push(repository, DATA)
    now = clock.now
    await database.write(
        lambda c: c.execute(
            "INSERT INTO pauses (id, since, expires) VALUES ('dead', ?, ?)", now, now + TTL
        )
    )
    await delete_all(repository)
    collector = Collector(store, quarantine=1)
    clock.now += TTL - 1
    assert not (await collector.cycle()).blobs
    clock.now += 2
    assert (await collector.cycle()).blobs


async def test_a_backup_that_was_stopped_for_too_long_shows_nothing(
    store: Store, repository: Repository, backups: Backups, clock: Clock
) -> None:
    """What it misses may have been there when it read the records."""
    await push(repository, DATA)
    snapshot = store.database.snapshot

    async def slow(path: str, query: Any) -> Any:
        found = await snapshot(path, query)
        clock.now += TTL + 1
        return found

    store.database.snapshot = slow  # type: ignore[method-assign]
    with pytest.raises(PauseLost, match="run it again"):
        await backup(store, backups)
    assert backups.ids() == []


async def test_no_pause_is_left_behind(store: Store, backups: Backups, database: SQLite) -> None:
    await backup(store, backups)
    assert await database.read(lambda c: c.all("SELECT * FROM pauses")) == []


async def test_the_blobs_are_those_of_the_very_state_that_is_kept(
    store: Store, repository: Repository, backups: Backups, tmp_path: Path, layout: Layout
) -> None:
    """A push in the midst of it is in the snapshot with its bytes, or not at all."""
    await push(repository, DATA)
    other = await SQLite.open(layout)
    snapshot = store.database.snapshot

    async def beside_a_push(path: str, query: Any) -> Any:
        def then_push(c: Connection) -> Any:
            found = query(c)
            digest = SHA256.digest(OTHER).text
            other._transaction(
                lambda c: c.execute(
                    "INSERT INTO links (repository, digest, size, created) VALUES (1, ?, ?, 0)",
                    digest,
                    len(OTHER),
                )
            )
            return found

        return await snapshot(path, then_push)

    store.database.snapshot = beside_a_push  # type: ignore[method-assign]
    made, _ = await backup(store, backups)
    assert (made.blobs, made.lost) == (1, ())
    await other.close()
    done = await restore(backups, tmp_path / "data", open_records=SQLite.open)
    assert (done.blobs, done.lost) == (1, ())


# Looking after backups


async def three(store: Store, repository: Repository, backups: Backups) -> list[Snapshot]:
    made = []
    for number in range(3):
        data = f"blob {number}".encode()
        await push(repository, data)
        if number:
            await repository.delete_blob(SHA256.digest(f"blob {number - 1}".encode()))
        store.now.now += 0.001  # type: ignore[attr-defined]  # Clock
        made.append((await backup(store, backups))[0])
    return made


async def test_older_snapshots_go_with_what_only_they_need(
    store: Store, repository: Repository, backups: Backups, tmp_path: Path
) -> None:
    made = await three(store, repository, backups)
    assert backups.ids() == [snapshot.id for snapshot in made]
    pruned = await prune(backups, 2)
    assert pruned.snapshots == (made[0].id,)
    assert (pruned.blobs, pruned.bytes) == (1, 6)
    assert backups.ids() == [made[1].id, made[2].id]
    assert names(backups.root) == {
        SHA256.digest(b"blob 1").encoded,
        SHA256.digest(b"blob 2").encoded,
    }
    assert (await verify(backups)).wrong == []


async def test_nothing_is_removed_beside_a_backup(
    store: Store, repository: Repository, backups: Backups
) -> None:
    await three(store, repository, backups)
    with backups.locked(), pytest.raises(Held, match="at work"):
        await prune(backups, 1)
    with backups.locked(alone=True), pytest.raises(Held, match="at work"):
        await backup(store, backups)


async def test_nothing_is_removed_when_it_is_not_known_what_is_needed(
    store: Store, repository: Repository, backups: Backups
) -> None:
    made = await three(store, repository, backups)
    flip(backups.root / "snapshots" / made[2].id / "sha256sums")
    with pytest.raises(Damaged, match="sha256sums"):
        await prune(backups, 1)
    assert len(backups.ids()) == 3
    assert len(names(backups.root)) == 3


async def test_what_a_dead_backup_left_goes(store: Store, backups: Backups) -> None:
    draft = backups.begin("20010909T014640.000Z-00000000")
    (Path(draft.records)).write_bytes(b"half")
    (backups.root / "drafts" / draft.id / DIGEST.encoded).write_bytes(b"half")
    await backup(store, backups)
    assert os.listdir(backups.root / "drafts") == [draft.id]
    await prune(backups, 1)
    assert os.listdir(backups.root / "drafts") == []


async def test_damage_is_found_and_the_next_backup_heals_it(
    store: Store, repository: Repository, backups: Backups
) -> None:
    await push(repository, DATA)
    first, _ = await backup(store, backups)
    assert (await verify(backups)).wrong == []
    flip(Path(backups.blob(DIGEST)))
    [sentence] = (await verify(backups)).wrong
    assert DIGEST.text in sentence
    assert first.id in sentence
    [sentence] = (await verify(backups)).wrong
    assert "No such file" in sentence
    _, copied = await backup(store, backups)
    assert copied.blobs == 1
    assert (await verify(backups)).wrong == []


@pytest.mark.parametrize("name", ["records.db", "sha256sums", "manifest.json"])
async def test_a_damaged_snapshot_is_told(
    store: Store, repository: Repository, backups: Backups, tmp_path: Path, name: str
) -> None:
    await push(repository, DATA)
    snapshot, _ = await backup(store, backups)
    path = backups.root / "snapshots" / snapshot.id / name
    path.write_bytes(path.read_bytes()[:-3])
    [sentence] = (await verify(backups)).wrong
    assert name.partition(".")[0] in sentence
    assert snapshot.id in sentence


@pytest.mark.parametrize("name", ["records.db", "manifest.json"])
async def test_a_snapshot_without_its_records_is_not_restored(
    store: Store, backups: Backups, tmp_path: Path, name: str
) -> None:
    snapshot, _ = await backup(store, backups)
    path = backups.root / "snapshots" / snapshot.id / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Damaged):
        await restore(backups, tmp_path / "data", open_records=SQLite.open)
    assert not (tmp_path / "data").exists()


def test_something_else_is_no_directory_of_backups(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(LayoutRefused, match=r"letter\.txt"):
        Backups.make(tmp_path)
    with pytest.raises(LayoutRefused, match="no directory of backups"):
        Backups.open(tmp_path)
    with pytest.raises(LayoutRefused, match="no directory of backups"):
        Backups.open(tmp_path / "none")


def test_a_link_to_a_directory_is_followed(tmp_path: Path) -> None:
    """Whoever names it knows what it is."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert Backups.make(tmp_path / "link").root == tmp_path / "disk"
    assert Backups.open(tmp_path / "link").ids() == []


async def test_two_that_make_it_at_once_do_not_mix(tmp_path: Path) -> None:
    made = await asyncio.gather(
        *(asyncio.to_thread(Backups.make, tmp_path / "backups") for _ in range(4)),
        return_exceptions=True,
    )
    assert all(isinstance(each, Backups | Held) for each in made), made
    assert Backups.make(tmp_path / "backups").ids() == []


def test_backups_of_a_newer_release_are_left_alone(backups: Backups) -> None:
    (backups.root / "backups.json").write_text('{"backups": 2}')
    for open_them in (Backups.open, Backups.make):
        with pytest.raises(LayoutUnknown, match="newer release"):
            open_them(backups.root)


async def test_a_snapshot_of_a_newer_release_is_told_as_such(
    store: Store, backups: Backups
) -> None:
    snapshot, _ = await backup(store, backups)
    path = backups.root / "snapshots" / snapshot.id / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(LayoutUnknown, match="newer release"):
        backups.snapshot(snapshot.id)


@pytest.mark.parametrize("id", ["../snapshots", "20010909T014640.000Z-00000000", "", "x" * 1000])
async def test_a_snapshot_that_is_not_there_is_told(backups: Backups, id: str) -> None:
    with pytest.raises(LayoutRefused, match="no snapshot"):
        backups.snapshot(id)


# Restoring


@pytest.fixture
async def made(store: Store, repository: Repository, backups: Backups) -> Snapshot:
    await push(repository, DATA)
    await push(repository, OTHER)
    await repository.put_manifest(OF_DATA, tags("v1"))
    return (await backup(store, backups))[0]


@pytest.mark.usefixtures("made")
async def test_nothing_is_restored_over_anything(
    backups: Backups, tmp_path: Path, layout: Layout
) -> None:
    (tmp_path / "letter.txt").touch()
    for root in (layout.root, tmp_path):
        before = sorted(os.listdir(root))
        with pytest.raises(LayoutRefused):
            await restore(backups, root, open_records=SQLite.open)
        assert sorted(os.listdir(root)) == before


@pytest.mark.usefixtures("made")
async def test_an_empty_directory_is_fine(backups: Backups, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    await restore(backups, tmp_path / "data", open_records=SQLite.open)
    Layout.open(tmp_path / "data")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("made")
async def test_one_that_was_cut_short_is_gone_on_with(backups: Backups, tmp_path: Path) -> None:
    root = tmp_path / "data"

    class Cut(Exception):
        pass

    async def cut(_: Any) -> None:
        raise Cut

    with pytest.raises(Cut):
        await restore(backups, root, open_records=SQLite.open, settle=cut)
    with pytest.raises(LayoutRefused, match="not finished"):
        Layout.open(root)
    # One blob is there, and another one only half.
    digest = SHA256.digest(OTHER)
    (root / "blobs/sha256" / DIGEST.encoded[:2] / DIGEST.encoded).write_bytes(DATA)
    (root / "blobs/sha256" / digest.encoded[:2] / digest.encoded).write_bytes(OTHER[:4])
    (root / "uploads" / ("a" * 64)).write_bytes(b"half")
    await restore(backups, root, open_records=SQLite.open)
    assert os.listdir(root / "uploads") == []
    restored_file = root / "blobs/sha256" / digest.encoded[:2] / digest.encoded
    assert restored_file.read_bytes() == OTHER
    async with opened(root) as restored:
        there = restored.repository(RepositoryName.parse("acme/shop"))
        assert await pull(await there.blob(DIGEST)) == DATA
        assert await pull(await there.blob(digest)) == OTHER


@pytest.mark.usefixtures("made")
async def test_two_at_once_do_not_mix(backups: Backups, tmp_path: Path) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Any) -> None:
        inside.set()
        await go_on.wait()

    first = asyncio.create_task(
        restore(backups, tmp_path / "data", open_records=SQLite.open, settle=wait)
    )
    await inside.wait()
    with pytest.raises(LayoutRefused, match="another restore"):
        await restore(backups, tmp_path / "data", open_records=SQLite.open)
    go_on.set()
    assert (await first).lost == ()


@pytest.mark.usefixtures("made")
async def test_damage_in_the_backup_is_told_and_nothing_wrong_is_restored(
    backups: Backups, tmp_path: Path
) -> None:
    flip(Path(backups.blob(DIGEST)))
    done = await restore(backups, tmp_path / "data", open_records=SQLite.open)
    assert [loss.digest for loss in done.lost] == [DIGEST]
    assert names(tmp_path / "data") == {SHA256.digest(OTHER).encoded}


@pytest.mark.usefixtures("made")
async def test_records_of_a_newer_release_are_not_restored(
    backups: Backups, database: SQLite, store: Store, clock: Clock, tmp_path: Path
) -> None:
    clock.now += 1
    await database.write(lambda c: c.execute("UPDATE migrations SET step = 99"))
    await backup(store, backups)
    with pytest.raises(LayoutUnknown, match="newer release"):
        await restore(backups, tmp_path / "data", open_records=SQLite.open)


async def test_what_nothing_refers_to_has_its_whole_grace_again(
    store: Store, repository: Repository, backups: Backups, clock: Clock, tmp_path: Path
) -> None:
    """Its client was told that it is there, and may be about to push the manifest."""
    await push(repository, DATA)
    await backup(store, backups)
    later = clock.now + 100 * GRACE
    await restore(backups, tmp_path / "data", open_records=SQLite.open, now=lambda: later)
    layout = Layout.open(tmp_path / "data")
    database, blobs = await SQLite.open(layout), FilesystemBlobs(layout)
    clock.now = later
    restored = await Store.open(database, blobs, now=clock, grace=GRACE)
    collector = Collector(restored, quarantine=1)
    clock.now += GRACE - 1
    assert not (await collector.cycle()).links
    clock.now += 2
    assert (await collector.cycle()).links
    await restored.close()


async def test_a_restored_store_waits_for_nobody_who_was_elsewhere(
    store: Store, repository: Repository, backups: Backups, database: SQLite, tmp_path: Path
) -> None:
    """Not even for the backup itself, which was at work when the records were read."""
    await push(repository, DATA)
    await delete_all(repository)
    await backup(store, backups)
    await restore(backups, tmp_path / "data", open_records=SQLite.open)
    async with opened(tmp_path / "data") as restored:
        for table in ("pauses", "trash"):
            rows = await restored.database.read(lambda c, t=table: c.all(f"SELECT * FROM {t}"))  # type: ignore[misc]
            assert rows == []


# What lasts


def order(steps: list[tuple[str, str]], wanted: tuple[str, str]) -> int:
    assert wanted in steps
    return steps.index(wanted)


async def test_a_snapshot_shows_itself_when_everything_is_durable(
    store: Store, repository: Repository, backups: Backups, steps: list[tuple[str, str]]
) -> None:
    await push(repository, DATA)
    steps.clear()
    snapshot, _ = await backup(store, backups)
    root = str(backups.root)
    draft = f"{root}/drafts/{snapshot.id}"
    shown = order(steps, ("rename", f"{root}/snapshots/{snapshot.id}"))
    blob = backups.blob(DIGEST)
    lasting = [
        order(steps, ("fdatasync", f"{draft}/{DIGEST.encoded}")),
        order(steps, ("rename", blob)),
        order(steps, ("fsync", os.path.dirname(blob))),
    ]
    assert lasting == sorted(lasting)
    for name in ("records.db", "sha256sums.new", "sha512sums.new", "manifest.json.new"):
        lasting.append(order(steps, ("fdatasync", f"{draft}/snapshot/{name}")))
    lasting.append(
        max(at for at, step in enumerate(steps) if step == ("fsync", f"{draft}/snapshot"))
    )
    assert max(lasting) < shown
    assert ("fsync", f"{root}/snapshots") in steps[shown:]


async def test_what_was_there_already_is_made_sure_of(
    store: Store, repository: Repository, backups: Backups, steps: list[tuple[str, str]]
) -> None:
    """Whoever put it there may have been killed before its name was durable."""
    await push(repository, DATA)
    await backup(store, backups)
    steps.clear()
    await backup(store, backups)
    assert ("fsync", os.path.dirname(backups.blob(DIGEST))) in steps


@pytest.mark.usefixtures("made")
async def test_a_restored_directory_can_be_opened_when_everything_is_durable(
    backups: Backups, tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    steps.clear()
    root = tmp_path / "data"
    await restore(backups, root, open_records=SQLite.open)
    shown = order(steps, ("rename", f"{root}/layout.json"))
    place = f"{root}/blobs/sha256/{DIGEST.encoded[:2]}"
    named = order(steps, ("rename", f"{place}/{DIGEST.encoded}"))
    assert ("fsync", place) in steps[named:shown]
    assert ("fdatasync", f"{root}/records.db") in steps[:shown]
    assert ("fsync", str(root)) in steps[named:shown]
    assert ("fsync", str(root)) in steps[shown:]
