"""Verification: what is wrong is found, put aside or right, and healed by a push of the same."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.collect import Collector
from storage.digest import SHA256, Digest
from storage.errors import BlobUnknown, Damaged, ManifestUnknown
from storage.filesystem import calls
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.manifest import Manifest
from storage.memory import MemoryBlobs
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from storage.verify import Gravity, Report, Verifier
from tests.storage.content import descriptor, image, pull, push

DATA = b"some bytes" * 500
DIGEST = SHA256.digest(DATA)
OF_DATA = image("of data", layers=[descriptor(DIGEST, len(DATA))])
LATEST = Tag("latest")


@pytest.fixture
async def blobs(layout: Layout) -> AsyncIterator[FilesystemBlobs]:
    found = FilesystemBlobs(layout)
    yield found
    await found.close()


@pytest.fixture
async def filled(store: Store, repository: Repository) -> Repository:
    """A repository with a blob, a manifest that names it, and a tag."""
    await push(repository, b"{}")
    await push(repository, DATA)
    await repository.put_manifest(OF_DATA, [LATEST])
    return repository


async def verify(store: Store, *, read: bool = False, accept: bool = False) -> Report:
    return await Verifier(store, read=read, accept=accept).run()


def told(report: Report) -> list[str]:
    return [f"{finding.gravity.name} {finding.what}" for finding in report.findings]


def file_of(layout: Layout, digest: Digest = DIGEST) -> Path:
    return Path(layout.blob(digest))


def flip(path: Path, bit: int = 77) -> None:
    """As a disk does: the file is the same, its times are the same, and one bit is another."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


async def change(database: SQLite, statement: str, *parameters: object) -> None:
    """A row that changes by itself: its seal is left as it was."""
    connection = sqlite3.connect(database.path, isolation_level=None)
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall()
    connection.execute("BEGIN IMMEDIATE")
    for name, _ in triggers:
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute(statement, parameters)
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()


async def test_a_store_that_is_right_has_no_findings(store: Store, filled: Repository) -> None:
    report = await verify(store, read=True)
    assert report.findings == []
    assert report.finished
    assert (report.blobs, report.manifests, report.strays) == (2, 1, 0)
    assert report.bytes == len(DATA) + 2
    assert report.rows > 5


# Blobs


async def test_bytes_that_changed_are_found_by_reading_them_and_put_aside(
    store: Store, filled: Repository, layout: Layout
) -> None:
    assert await pull(await filled.blob(DIGEST)) == DATA
    flip(file_of(layout))
    wrong = file_of(layout).read_bytes()
    assert (await verify(store)).findings == []
    assert told(await verify(store, read=True)) == ["LOST blob"]
    assert not file_of(layout).exists()
    [kept] = Path(layout.quarantine).iterdir()
    assert kept.read_bytes() == wrong


async def damage_by_reading(store: Store, repository: Repository) -> None:
    with pytest.raises(Damaged):
        await pull(await repository.blob(DIGEST))


async def damage_by_verifying(store: Store, repository: Repository) -> None:
    assert told(await verify(store, read=True)) == ["LOST blob"]


@pytest.mark.parametrize("find", [damage_by_reading, damage_by_verifying])
async def test_a_damaged_blob_is_as_if_it_were_not_there_until_it_is_pushed_again(
    store: Store,
    filled: Repository,
    layout: Layout,
    find: Callable[[Store, Repository], object],
) -> None:
    """A client that asks first must be told to push it, and may not mount it."""
    other = store.repository(RepositoryName.parse("acme/other"))
    flip(file_of(layout))
    await find(store, filled)  # type: ignore[misc]  # an async function
    assert await filled.has_blob(DIGEST) is None
    with pytest.raises(BlobUnknown):
        await filled.stat_blob(DIGEST)
    assert not await other.mount(DIGEST, None)
    assert not await other.mount(DIGEST, filled.name)
    with pytest.raises(Damaged, match="push it again"):
        await filled.blob(DIGEST)
    assert told(await verify(store)) == ["LOST blob"]

    await push(filled, DATA)
    assert await filled.has_blob(DIGEST) == len(DATA)
    assert await pull(await filled.blob(DIGEST)) == DATA
    assert await other.mount(DIGEST, filled.name)
    assert (await verify(store, read=True)).findings == []


def a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    path.symlink_to(tmp_path / "secret")


def a_fifo(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)


def a_directory(path: Path, tmp_path: Path) -> None:
    path.mkdir()
    (path / "file").write_bytes(DATA)


def a_socket(path: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def a_device(path: Path, tmp_path: Path) -> None:
    try:
        os.mknod(path, 0o20600, os.makedev(1, 5))  # zeros without end
    except PermissionError:
        pytest.skip("only root may make a device")


def a_hard_link(path: Path, tmp_path: Path) -> None:
    """To something as long, so that only its bytes tell."""
    (tmp_path / "secret").write_bytes(DATA[::-1])
    os.link(tmp_path / "secret", path)


def a_longer_file(path: Path, tmp_path: Path) -> None:
    path.write_bytes(DATA + b"!")


def a_shorter_file(path: Path, tmp_path: Path) -> None:
    path.write_bytes(DATA[:-1])


def nothing(path: Path, tmp_path: Path) -> None:
    pass


STRANGE = [
    *(a_link, a_fifo, a_directory, a_socket, a_device),
    *(a_hard_link, a_longer_file, a_shorter_file, nothing),
]


@pytest.mark.parametrize("plant", STRANGE)
async def test_what_is_in_the_place_of_a_blob_is_not_served_and_a_push_heals_it(
    store: Store,
    filled: Repository,
    layout: Layout,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
) -> None:
    file_of(layout).unlink()
    plant(file_of(layout), tmp_path)
    with pytest.raises(Damaged):
        await pull(await filled.blob(DIGEST))
    assert await filled.has_blob(DIGEST) is None
    await push(filled, DATA)
    assert await pull(await filled.blob(DIGEST)) == DATA
    assert (await verify(store, read=True)).findings == []


@pytest.mark.parametrize("plant", STRANGE)
async def test_what_is_in_the_place_of_a_blob_is_found(
    store: Store,
    filled: Repository,
    layout: Layout,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
) -> None:
    file_of(layout).unlink()
    plant(file_of(layout), tmp_path)
    assert told(await verify(store, read=plant is a_hard_link)) == ["LOST blob"]
    assert await filled.has_blob(DIGEST) is None
    assert not os.path.lexists(file_of(layout))
    await push(filled, DATA)
    assert (await verify(store, read=True)).findings == []


@pytest.mark.parametrize("plant", [a_directory, a_fifo, a_link])
async def test_a_push_replaces_what_nobody_has_found_yet(
    filled: Repository, layout: Layout, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    file_of(layout).unlink()
    plant(file_of(layout), tmp_path)
    await push(filled, DATA)
    assert await pull(await filled.blob(DIGEST)) == DATA


async def test_a_second_name_of_a_file_is_fine(
    store: Store, filled: Repository, layout: Layout, tmp_path: Path
) -> None:
    """A backup may be made of hard links."""
    os.link(file_of(layout), tmp_path / "backup")
    assert (await verify(store, read=True)).findings == []
    assert await pull(await filled.blob(DIGEST)) == DATA


async def test_a_file_that_others_may_write_is_told_and_served(
    store: Store, filled: Repository, layout: Layout
) -> None:
    file_of(layout).chmod(0o620)
    report = await verify(store)
    assert told(report) == ["ODD blob"]
    assert "can be written by others" in str(report.findings[0])
    assert await pull(await filled.blob(DIGEST)) == DATA


async def test_a_disk_that_gives_nothing_today_does_not_empty_the_store(
    store: Store, filled: Repository, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is marked, so that a push heals it, and right again when it can be read."""

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(calls, "pread", fail)
        assert told(await verify(store, read=True)) == ["LOST blob"] * 2
        assert told(await verify(store, read=True)) == ["LOST blob"] * 2
    assert file_of(layout).exists()
    assert await filled.has_blob(DIGEST) is None
    assert told(await verify(store)) == ["LOST blob"] * 2
    assert (await verify(store, read=True)).findings == []
    assert await filled.has_blob(DIGEST) == len(DATA)


async def test_other_errors_end_the_pass_and_accuse_no_blob(
    store: Store, filled: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(calls, "pread", fail)
        with pytest.raises(OSError, match="memory"):
            await verify(store, read=True)
    assert (await verify(store, read=True)).findings == []


async def test_a_file_system_without_advice_is_fine(
    store: Store, filled: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(calls, "posix_fadvise", fail)
    assert (await verify(store, read=True)).findings == []


async def test_a_file_with_a_name_that_is_none_is_told(store: Store, layout: Layout) -> None:
    (file_of(layout).parent / "note.txt").write_text("")
    assert told(await verify(store)) == ["ODD file"]


async def test_bytes_without_a_row_are_counted_and_left_to_the_collector(
    store: Store, blobs: BlobStore, filled: Repository
) -> None:
    upload = await blobs.start_upload("ab" * 32, SHA256)
    await upload.hold()
    await upload.write(b"stray")
    await upload.commit(SHA256.digest(b"stray"))
    await upload.close()
    report = await verify(store, read=True)
    assert (report.findings, report.strays) == ([], 1)


async def test_a_size_that_is_wrong_in_a_row_is_put_right_by_the_bytes(
    store: Store, filled: Repository, database: SQLite
) -> None:
    """One bit in a row must not take the blob away from everybody."""
    await change(database, "UPDATE links SET size = size + 1 WHERE digest = ?", DIGEST.text)
    with pytest.raises(Damaged):
        await filled.blob(DIGEST)
    assert "MENDED blob" in told(await verify(store))
    assert await filled.has_blob(DIGEST) == len(DATA)
    assert await pull(await filled.blob(DIGEST)) == DATA
    assert (await verify(store, read=True)).findings == []


async def test_a_blob_that_is_pushed_while_it_is_put_aside_stays(
    store: Store, filled: Repository, layout: Layout, blobs: BlobStore
) -> None:
    """Found wrong, and healed before that was written down: what is there now is right."""
    flip(file_of(layout))
    assert await blobs.scrub(DIGEST) is not None
    await push(filled, DATA)

    async def mark() -> None:
        pytest.fail("it was marked")

    assert not await blobs.set_aside(DIGEST, mark)
    assert await pull(await filled.blob(DIGEST)) == DATA


async def test_nothing_is_put_aside_while_somebody_commits(
    store: Store, filled: Repository, layout: Layout, blobs: BlobStore
) -> None:
    """Whoever commits is about to say that it is there, whatever is found meanwhile."""
    upload = await blobs.start_upload("ab" * 32, SHA256)
    await upload.hold()
    await upload.write(DATA)
    await upload.commit(DIGEST)
    flip(file_of(layout))
    assert await blobs.scrub(DIGEST) is not None
    marked: list[Digest] = []

    async def mark() -> None:
        marked.append(DIGEST)

    assert not await blobs.set_aside(DIGEST, mark)
    await upload.close()
    assert await blobs.set_aside(DIGEST, mark)
    assert marked == [DIGEST]


async def test_a_damaged_blob_that_is_deleted_is_forgotten(
    store: Store, filled: Repository, layout: Layout
) -> None:
    flip(file_of(layout))
    await verify(store, read=True)
    await filled.delete_blob(DIGEST)
    assert (await verify(store, read=True)).findings == []


# Manifests


async def breaks_its_body(database: SQLite) -> None:
    body = OF_DATA.body.replace(b"of data", b"of Data")
    await change(database, "UPDATE manifests SET body = ?", body)


async def breaks_its_type(database: SQLite) -> None:
    """Its body does not say what type it has."""
    await change(database, "UPDATE manifests SET body = CAST(body AS TEXT)")


@pytest.mark.parametrize("broken", [breaks_its_body, breaks_its_type])
@pytest.mark.parametrize("verified", [False, True], ids=["read", "verified"])
async def test_a_damaged_manifest_is_as_if_it_were_not_there_until_it_is_pushed_again(
    store: Store,
    filled: Repository,
    database: SQLite,
    broken: Callable[[SQLite], object],
    verified: bool,
) -> None:
    await broken(database)  # type: ignore[misc]  # an async function
    if verified:
        assert told(await verify(store)) == ["LOST manifest"]
    for reference in (LATEST, OF_DATA.digest):
        with pytest.raises(Damaged, match="push it again"):
            await filled.manifest(reference)
        with pytest.raises(ManifestUnknown):
            await filled.stat_manifest(reference)
    assert told(await verify(store)) == ["LOST manifest"]

    await filled.put_manifest(OF_DATA, [LATEST])
    for reference in (LATEST, OF_DATA.digest):
        assert (await filled.manifest(reference)).body == OF_DATA.body
        assert (await filled.stat_manifest(reference)).size == len(OF_DATA.body)
    assert (await verify(store)).findings == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE manifests SET size = size + 1",
        "UPDATE manifests SET annotations = '{}'",
        "UPDATE manifests SET subject = 'sha256:0'",
        "UPDATE manifests SET artifact_type = 'a/b'",
        "UPDATE manifests SET media_type = 'application/vnd.oci.image.index.v1+json'",
        "UPDATE manifests SET media_type = CAST(x'ff' AS TEXT)",
        "UPDATE manifests SET created = created + 1",
        "UPDATE manifests SET seal = seal + 1",
        "UPDATE edges SET child = 'sha256:0' WHERE rowid_of",
        "DELETE FROM edges",
        "INSERT INTO edges VALUES (1, 'sha256:1', 'sha256:0', 'content')",
        "UPDATE edges SET relation = 'contents'",
        "UPDATE edges SET relation = CAST(x'ff' AS TEXT)",
    ],
)
async def test_what_the_body_of_a_manifest_proves_is_put_right(
    store: Store, filled: Repository, database: SQLite, statement: str
) -> None:
    edges = "SELECT * FROM edges ORDER BY child"
    before = await database.read(lambda c: c.all(edges))
    digest = "(SELECT min(child) FROM edges)"
    await change(database, statement.replace("rowid_of", f"child = {digest}"))
    report = await verify(store)
    assert {finding.gravity for finding in report.findings} == {Gravity.MENDED}
    assert await database.read(lambda c: c.all(edges)) == before
    stored = await filled.manifest(LATEST)
    assert (stored.media_type, stored.size) == (OF_DATA.media_type, len(OF_DATA.body))
    assert (await verify(store)).findings == []


async def test_a_type_that_the_body_does_not_prove_is_damage(
    store: Store, repository: Repository, database: SQLite
) -> None:
    untyped = Manifest.parse(b'{"key": "value"}', content_type="application/vnd.acme+json")
    await repository.put_manifest(untyped)
    await change(database, "UPDATE manifests SET media_type = 'application/vnd.acne+json'")
    assert told(await verify(store)) == ["LOST manifest"]
    await repository.put_manifest(untyped)
    assert (await repository.manifest(untyped.digest)).media_type == untyped.media_type
    assert (await verify(store)).findings == []


async def test_a_damaged_manifest_can_be_deleted(
    store: Store, filled: Repository, database: SQLite
) -> None:
    await breaks_its_body(database)
    assert told(await verify(store)) == ["LOST manifest"]
    await filled.delete_manifest(OF_DATA.digest)
    assert (await verify(store)).findings == []


# Tags and other rows


async def test_a_tag_that_points_elsewhere_is_found_and_pushing_it_again_puts_it_right(
    store: Store, filled: Repository, database: SQLite
) -> None:
    await filled.put_manifest(image("another"))
    digest = image("another").digest.text
    await change(database, "UPDATE tags SET digest = ?", digest)
    assert told(await verify(store)) == ["RECORD record", "RECORD tag"]
    await filled.put_manifest(OF_DATA, [LATEST])
    assert (await verify(store)).findings == []


async def test_a_move_that_the_tag_does_not_know_is_found(
    store: Store, filled: Repository, database: SQLite
) -> None:
    statement = (
        "INSERT INTO tag_moves (generation, repository, tag, digest, at, seal)"
        " VALUES (2, 1, 'latest', 'sha256:0', 0, 0)"
    )
    await change(database, statement)
    assert "RECORD tag" in told(await verify(store))


async def test_a_tag_without_its_manifest_is_found(
    store: Store, filled: Repository, database: SQLite
) -> None:
    await change(database, "DELETE FROM manifests")
    report = await verify(store)
    assert "refers to a row of manifests that is not there" in str(report.findings[0])


async def test_a_row_that_changed_is_found_until_it_is_accepted(
    store: Store, filled: Repository, database: SQLite
) -> None:
    await change(database, "UPDATE tag_moves SET at = at + 1")
    for _ in range(2):
        [finding] = (await verify(store)).findings
        assert (finding.gravity, finding.where) == (Gravity.RECORD, "tag_moves 1")
        assert "--accept" in finding.remedy
    assert told(await verify(store, accept=True)) == ["MENDED record"]
    assert (await verify(store)).findings == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER seal_update_tags",
        "DROP INDEX tags_by_digest",
        "CREATE TABLE another (x)",
        "DELETE FROM sealed_schema",
    ],
)
async def test_tables_that_changed_are_found_though_the_store_is_opened_anew(
    store: Store, filled: Repository, database: SQLite, layout: Layout, statement: str
) -> None:
    """Opening makes what is missing: it must not take for right what it finds."""
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    other = await SQLite.open(layout)
    again = await Store.open(other, MemoryBlobs())
    report = await Verifier(again).run()
    assert "the definitions of tables" in str(report.findings)
    await again.close()


async def test_an_index_that_does_not_fit_its_table_is_found(
    store: Store, filled: Repository, database: SQLite
) -> None:
    row = "type, name, tbl_name, rootpage, sql"
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    index = "FROM sqlite_schema WHERE name = 'links_by_digest'"
    kept = connection.execute(f"SELECT {row} {index}").fetchone()
    connection.execute(f"DELETE {index}")
    connection.close()
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("DELETE FROM links WHERE digest = ?", [DIGEST.text])
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(f"INSERT INTO sqlite_schema ({row}) VALUES (?, ?, ?, ?, ?)", kept)
    connection.close()
    report = await verify(store)
    assert "index links_by_digest" in str(report.findings)


# Collecting


async def damaged_manifest(database: SQLite) -> None:
    await breaks_its_body(database)


async def damaged_record(database: SQLite) -> None:
    await change(database, "UPDATE tag_moves SET at = at + 1")


@pytest.mark.parametrize("broken", [damaged_manifest, damaged_record])
async def test_nothing_is_collected_while_a_manifest_or_record_is_damaged(
    store: Store,
    blobs: BlobStore,
    filled: Repository,
    database: SQLite,
    broken: Callable[[SQLite], object],
) -> None:
    garbage = await push(filled, b"nothing refers to this")
    stray = SHA256.digest(b"stray")
    upload = await blobs.start_upload("ab" * 32, SHA256)
    await upload.hold()
    await upload.write(b"stray")
    await upload.commit(stray)
    await upload.close()
    later = Store(database, blobs, now=lambda: store.now() + 1e8)
    collector = Collector(later, untagged=lambda _: 0.0)
    await broken(database)  # type: ignore[misc]  # an async function
    await verify(store)
    for _ in range(2):
        done = await collector.cycle()
        assert not done
        assert "is damaged" in done.doubts[0]
        assert await collector.strays() == 0
        assert (await collector.preview()).doubts == done.doubts
    assert await filled.has_blob(garbage) is not None

    await filled.put_manifest(OF_DATA, [LATEST])
    await verify(store, accept=True)
    assert await collector.strays() == 1
    done = await collector.cycle()
    assert [digest for _, digest in done.links] == [garbage]
    assert done.doubts == []


async def test_a_damaged_blob_keeps_nobody_from_collecting(
    store: Store, blobs: BlobStore, filled: Repository, database: SQLite, layout: Layout
) -> None:
    garbage = await push(filled, b"nothing refers to this")
    flip(file_of(layout))
    await verify(store, read=True)
    done = await Collector(Store(database, blobs, now=lambda: store.now() + 1e8)).cycle()
    assert [digest for _, digest in done.links] == [garbage]


# Stopping and going on


async def test_a_pass_that_is_stopped_again_and_again_covers_everything_once(
    store: Store, filled: Repository, layout: Layout
) -> None:
    blobs = [b"blob %d" % number for number in range(5)]
    for data in blobs:
        await push(filled, data)
        flip(file_of(layout, SHA256.digest(data)))
    found: list[str] = []
    for _ in range(2000):
        verifier = Verifier(store, read=True, clock=iter(range(1000)).__next__)
        report = await verifier.run("test", within=0)
        found += [finding.where for finding in report.findings]
        if report.finished:
            break
    assert report.finished
    assert sorted(found) == sorted(str(SHA256.digest(data)) for data in blobs)


async def test_a_pass_without_a_name_begins_at_the_beginning(
    store: Store, filled: Repository
) -> None:
    assert not (await Verifier(store).run("test", within=0)).finished
    report = await Verifier(store).run()
    assert report.finished
    assert report.blobs == 2


async def test_what_cannot_be_read_as_text_is_found_and_ends_nothing(
    store: Store, filled: Repository, database: SQLite
) -> None:
    await change(database, "UPDATE tags SET name = CAST(x'ff' AS TEXT)")
    await change(database, "UPDATE repositories SET name = CAST(x'fe' AS TEXT)")
    report = await verify(store)
    assert report.finished
    assert {"RECORD record", "RECORD tag"} <= set(told(report))
