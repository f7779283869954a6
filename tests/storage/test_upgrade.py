"""Stores of earlier releases: all they keep is there after an upgrade, however that goes.

`steps/<n>.sql` are the rows that the release wrote whose schema had n steps, by its own code. The
blobs it kept are the same at every step.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage.collect import Collector
from storage.digest import SHA256, SHA512, Digest
from storage.errors import Held, LayoutUnknown
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records import seals
from storage.records.schema import STEPS
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import descriptor, empty, image, index, pull
from tests.storage.crash import Steps, forked

DUMPS = Path(__file__).with_name("steps")
OLDER = sorted(int(path.stem) for path in DUMPS.iterdir())
BLOBS = {SHA256.digest(data): data for data in (b"{}", b"a layer", b"loose")} | {
    SHA512.digest(b"a layer of sha512"): b"a layer of sha512"
}
ONE = image("one", layers=[descriptor(SHA256.digest(b"a layer"), 7)])
TWO = image("two", layers=[descriptor(SHA512.digest(b"a layer of sha512"), 17)])
BOTH = index(*(descriptor(m.digest, len(m.body), m.media_type) for m in (ONE, TWO)))
SIGNATURE = image(
    "signature",
    subject=descriptor(BOTH.digest, len(BOTH.body), BOTH.media_type),
    artifactType="a/signature",
)
NOW = 1e9  # when all of it was written


def write(layout: Layout, step: int) -> None:
    """A store as the release with so many steps left it."""
    empty(layout.root)
    with sqlite3.connect(layout.records) as connection:
        connection.executescript((DUMPS / f"{step}.sql").read_text())
    connection.close()
    for digest, data in BLOBS.items():
        Path(layout.blob(digest)).write_bytes(data)


async def opened(layout: Layout) -> Store:
    return await Store.open(
        await SQLite.open(layout), FilesystemBlobs(layout), now=lambda: NOW, grace=1000.0
    )


async def check(store: Store) -> None:
    """Everything is there, and nothing that is needed is garbage."""
    shop, other = (
        store.repository(RepositoryName.parse(name)) for name in ("acme/shop", "acme/other")
    )
    assert await digests(shop) == {"v1": ONE.digest, "v2": BOTH.digest, "latest": BOTH.digest}
    assert await digests(other) == {"copy": ONE.digest}
    for manifest in (ONE, TWO, BOTH, SIGNATURE):
        assert (await shop.manifest(manifest.digest)).body == manifest.body
    for digest, data in BLOBS.items():
        assert await pull(await shop.blob(digest)) == data
    [referrer] = await shop.referrers(BOTH.digest, artifact_type=None, after=None, limit=9)
    assert referrer.digest == SIGNATURE.digest
    moves = await store.moves(after=0, limit=99)
    assert [str(move.tag) for move in moves] == ["v1", "v2", "latest", "gone", "gone", "copy"]
    with pytest.raises(Held):
        await shop.delete_manifest(ONE.digest)
    store.now = lambda: NOW + 2000
    due = await Collector(store, untagged=lambda _: 1.0).preview()
    assert due.manifests == []
    assert [digest for _, digest in due.links] == [SHA256.digest(b"loose")]
    assert due.blobs == []


async def digests(repository: Repository) -> dict[str, Digest]:
    found = await repository.tags(after=None, limit=99)
    return {tag.text: (await repository.stat_manifest(Tag(tag.text))).digest for tag in found}


def test_there_are_stores_of_earlier_steps() -> None:
    """Whoever releases a new step adds the rows of the release before it."""
    assert {1, 2, 4} <= set(OLDER)
    assert max(OLDER) < len(STEPS)
    for step in OLDER:
        rows = (DUMPS / f"{step}.sql").read_text()
        assert f"('storage',{step})" in rows or f"('storage',{step}," in rows  # with a seal


@pytest.mark.parametrize("step", OLDER)
async def test_everything_is_there_after_an_upgrade(layout: Layout, step: int) -> None:
    write(layout, step)
    store = await opened(layout)
    await check(store)
    await store.close()


@pytest.mark.parametrize("step", OLDER)
async def test_an_upgraded_schema_is_that_of_a_new_store(
    layout: Layout, tmp_path: Path, step: int
) -> None:
    write(layout, step)
    store, new = await opened(layout), await opened(Layout.open(tmp_path / "new"))
    assert await store.database.read(schema) == await new.database.read(schema)
    await store.close()
    await new.close()


def schema(connection: object) -> list[object]:
    return connection.all(  # type: ignore[attr-defined,no-any-return]
        "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    )


@pytest.mark.parametrize("step", OLDER)
def test_an_upgrade_that_is_killed_anywhere_is_gone_on_with(layout: Layout, step: int) -> None:
    async def upgrade(pipe: int) -> None:
        await (await opened(layout)).close()

    async def look(pipe: int) -> None:
        store = await opened(layout)
        await check(store)
        await store.close()

    for at in itertools.count(1):
        write(layout, step)

        async def die(pipe: int, at: int = at) -> None:
            Steps(at).watch()
            await upgrade(pipe)

        status, _ = forked(die)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert forked(look)[0] == 0, f"killed before step {at}"
    assert at > 15


@pytest.mark.parametrize("step", OLDER)
def test_processes_that_start_together_upgrade_once(layout: Layout, step: int) -> None:
    write(layout, step)
    reading, writing = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if not child:
            status = 1
            try:
                os.read(reading, 1)  # all at once
                asyncio.run(close_again(layout))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.write(writing, b"go!!")
    os.close(reading)
    os.close(writing)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]

    async def look(_: int) -> None:
        store = await opened(layout)
        await check(store)
        await store.close()

    assert forked(look)[0] == 0


async def test_who_makes_the_catalogue_at_the_same_time_is_waited_for(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(layout.root)
    with closing(sqlite3.connect(layout.records, isolation_level=None)) as other:
        other.execute("CREATE TABLE anything (x)")
        other.execute("BEGIN IMMEDIATE")  # before it changes the journal's mode itself
        waits = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr("time.sleep", wait)
        succeeded = True
        try:
            await close_again(layout)
        except sqlite3.OperationalError:
            succeeded = False
    assert waits
    assert succeeded


async def close_again(layout: Layout) -> None:
    await (await opened(layout)).close()


# Newer ones


@pytest.fixture
def kept(layout: Layout) -> Iterator[Layout]:
    """A store of this release."""
    write(layout, OLDER[-1])
    asyncio.run(close_again(layout))
    yield layout
    for path in layout.root.glob("layout.json"):
        path.write_text('{"layout": 1}')


def everything(root: Path) -> dict[str, str]:
    """Each file with a digest of its content."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_records_of_a_newer_release_are_refused_and_left_as_they_are(kept: Layout) -> None:
    with sqlite3.connect(kept.records) as connection:
        seals.register(connection)
        connection.execute("UPDATE migrations SET step = ?", (len(STEPS) + 1,))
        connection.execute("CREATE TABLE of_tomorrow (x TEXT)")
    connection.close()
    before = everything(kept.root)

    async def start() -> None:
        database = await SQLite.open(kept)
        try:
            with pytest.raises(LayoutUnknown, match=r"newer release.*restore a backup"):
                await Store.open(database, FilesystemBlobs(kept))
        finally:
            await database.close()

    asyncio.run(start())
    assert everything(kept.root) == before


def test_a_directory_of_a_newer_release_is_refused_and_left_as_it_is(kept: Layout) -> None:
    (kept.root / "layout.json").write_text('{"layout": 2}')
    before = everything(kept.root)
    with pytest.raises(LayoutUnknown, match="newer release"):
        Layout.open(kept.root)
    assert everything(kept.root) == before


def test_a_store_that_is_up_to_date_is_opened_without_a_write(kept: Layout) -> None:
    before = everything(kept.root)
    asyncio.run(close_again(kept))
    assert everything(kept.root) == before


def test_another_room_is_refused_before_anything_of_its_own_is_made(kept: Layout) -> None:
    async def start() -> None:
        database = await SQLite.open(kept)
        await database.migrate("deploy", [["CREATE TABLE a (x {text})"]] * 1)
        await database.write(
            lambda c: c.execute("UPDATE migrations SET step = 9 WHERE room = 'deploy'")
        )
        with pytest.raises(LayoutUnknown):
            await database.migrate("deploy", [["CREATE TABLE b (x {text})"]])
        rows = await database.read(lambda c: c.all("SELECT 1 FROM sqlite_master WHERE name = 'b'"))
        assert rows == []
        await database.close()

    asyncio.run(start())
