"""The catalogue's driver on SQLite: what `storage.records.database` promises."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from storage.errors import LayoutUnknown
from storage.filesystem import calls
from storage.filesystem.layout import Layout
from storage.records import sessions
from storage.records import sqlite as driver
from storage.records.database import Connection
from storage.records.schema import STEPS
from storage.records.sqlite import SQLite

TABLE = [["CREATE TABLE things (id {serial}, name {text} NOT NULL UNIQUE, data {bytes})"]]


@pytest.fixture
async def things(database: SQLite) -> SQLite:
    await database.migrate("test", TABLE)
    return database


def add(connection: Connection, name: str) -> None:
    connection.execute("INSERT INTO things (name) VALUES (?)", name)


def names(connection: Connection) -> list[str]:
    return [str(name) for (name,) in connection.all("SELECT name FROM things ORDER BY name")]


async def test_what_was_written_is_read(things: SQLite) -> None:
    await things.write(lambda c: add(c, "a"))
    assert await things.read(names) == ["a"]


async def test_a_change_returns_what_its_function_returns(things: SQLite) -> None:
    row = await things.write(
        lambda c: c.one(
            "INSERT INTO things (name, data) VALUES (?, ?) RETURNING id, data", "a", b""
        )
    )
    assert row == (1, b"")


async def test_the_number_of_changed_rows_is_told(things: SQLite) -> None:
    await things.write(lambda c: (add(c, "a"), add(c, "b")))
    assert await things.write(lambda c: c.execute("UPDATE things SET data = NULL")) == 2
    assert await things.write(lambda c: c.execute("DELETE FROM things WHERE name = 'x'")) == 0


async def test_a_change_that_fails_happened_not_at_all(things: SQLite) -> None:
    def change(connection: Connection) -> None:
        add(connection, "a")
        raise LookupError

    with pytest.raises(LookupError):
        await things.write(change)
    assert await things.read(names) == []
    await things.write(lambda c: add(c, "b"))
    assert await things.read(names) == ["b"]


async def test_a_full_disk_is_told_as_such_and_changes_nothing(things: SQLite) -> None:
    await things.write(lambda c: c.one("PRAGMA max_page_count = 1"))  # no less than there are
    with pytest.raises(OSError, match="No space left"):
        await things.write(lambda c: (add(c, "a"), add(c, "b" * 1_000_000)))
    await things.write(lambda c: c.one("PRAGMA max_page_count = 1000000"))
    assert await things.read(names) == []
    await things.write(lambda c: add(c, "c"))
    assert await things.read(names) == ["c"]


class Failing(sqlite3.Connection):
    """A connection on a disk that says no to statements that begin with these words."""

    words: tuple[str, ...] = ()
    error: Exception = MemoryError()

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith(Failing.words):
            raise Failing.error
        return super().execute(statement, *parameters)


async def succeeds(work: Awaitable[None]) -> bool:
    try:
        await work
    except (OSError, sqlite3.Error):
        return False
    return True


def trouble(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it says no")
    error.sqlite_errorcode = code
    return error


@pytest.fixture
async def failing(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SQLite]:
    """A catalogue on such a disk, with a table of things."""
    monkeypatch.setattr(
        driver, "connect", lambda *given, **more: sqlite3.connect(*given, factory=Failing, **more)
    )
    monkeypatch.setattr(Failing, "words", ())
    found = await SQLite.open(layout)
    await found.migrate("test", TABLE)
    yield found
    Failing.words = ()
    await found.close()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        pytest.param(trouble(sqlite3.SQLITE_FULL), errno.ENOSPC, id="full"),
        pytest.param(trouble(sqlite3.SQLITE_IOERR_FSYNC), errno.EIO, id="an I/O error"),
        pytest.param(trouble(sqlite3.SQLITE_READONLY), errno.EROFS, id="read-only"),
        pytest.param(trouble(sqlite3.SQLITE_CANTOPEN), errno.EIO, id="cannot open"),
        pytest.param(MemoryError(), errno.ENOMEM, id="no memory"),
    ],
)
@pytest.mark.parametrize("words", [("INSERT",), ("COMMIT",), ("COMMIT", "ROLLBACK"), ("BEGIN",)])
async def test_what_the_disk_says_is_told_in_its_words_and_once_it_is_well_all_works(
    failing: SQLite, layout: Layout, words: tuple[str, ...], error: Exception, number: int
) -> None:
    Failing.words, Failing.error = words, error
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is looked at
        await failing.write(lambda c: add(c, "a"))
    assert caught.value.errno == number
    Failing.words = ()
    assert await failing.read(names) == []
    assert await succeeds(failing.write(lambda c: add(c, "b")))
    other = await SQLite.open(layout)
    await other.write(lambda c: add(c, "c"))  # so no lock was left
    await other.close()
    assert await failing.read(names) == ["b", "c"]


@pytest.mark.parametrize("words", [("SELECT",), ("COMMIT",), ("BEGIN",)])
async def test_a_reader_that_met_an_error_of_the_disk_reads_again(
    failing: SQLite, words: tuple[str, ...]
) -> None:
    Failing.words, Failing.error = words, trouble(sqlite3.SQLITE_IOERR_READ)
    for read in (failing.read, failing.scan):
        with pytest.raises(OSError, match="Input/output error"):
            await read(names)
    Failing.words = ()
    await failing.write(lambda c: add(c, "a"))
    assert await failing.read(names) == ["a"]
    assert await failing.scan(names) == ["a"]


async def test_why_a_file_could_not_be_opened_or_grow_is_asked_of_the_disk(
    failing: SQLite, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite tells neither a quota nor a lack of inodes."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "no more for you")

    monkeypatch.setattr(calls, "posix_fallocate", refuse)
    Failing.words, Failing.error = ("COMMIT",), trouble(sqlite3.SQLITE_IOERR_WRITE)
    with pytest.raises(OSError, match="no more for you"):
        await failing.write(lambda c: add(c, "a"))
    # But of a sync nobody knows what it did, and a full disk would mean that nothing happened.
    Failing.error = trouble(sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(OSError, match="Input/output error"):
        await failing.write(lambda c: add(c, "a"))
    assert [path.name for path in layout.root.glob("*probe*")] == []


async def test_a_catalogue_that_is_gone_is_not_made_anew(failing: SQLite, layout: Layout) -> None:
    Failing.words, Failing.error = ("COMMIT",), trouble(sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(OSError, match="Input/output error"):
        await failing.write(lambda c: add(c, "a"))
    Failing.words = ()
    layout.records.rename(layout.root / "elsewhere")
    with pytest.raises(OSError, match="Input/output error"):
        await failing.write(lambda c: add(c, "b"))
    assert not layout.records.exists()
    (layout.root / "elsewhere").rename(layout.records)
    await failing.write(lambda c: add(c, "c"))
    assert await failing.read(names) == ["c"]


async def test_what_was_closed_stays_closed(layout: Layout) -> None:
    database = await SQLite.open(layout)
    await database.close()
    with pytest.raises(sqlite3.ProgrammingError):
        await database.read(names)


async def test_a_reader_cannot_change_anything(things: SQLite) -> None:
    with pytest.raises(OSError, match="Read-only"):
        await things.read(lambda c: add(c, "a"))
    assert await things.read(names) == []


async def test_a_query_sees_one_state_with_all_its_statements(
    things: SQLite, layout: Layout
) -> None:
    other = await SQLite.open(layout)

    def query(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        other._transaction(lambda c: add(c, "meanwhile"))
        return before, names(connection)

    assert await things.read(query) == ([], [])
    assert await things.read(names) == ["meanwhile"]
    await other.close()


async def test_a_query_that_fails_leaves_the_reader_fit(things: SQLite) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await things.read(lambda c: c.all("SELECT nothing FROM nowhere"))
    assert await things.read(names) == []


async def test_a_reader_does_not_wait_for_a_writer(things: SQLite) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def change(connection: Connection) -> None:
        add(connection, "a")
        begun.set()
        assert go_on.wait(10)

    writing = asyncio.create_task(things.write(change))
    await asyncio.to_thread(begun.wait, 10)
    assert await things.read(names) == []
    go_on.set()
    await writing
    assert await things.read(names) == ["a"]


async def test_a_cancelled_change_is_whole_and_the_next_one_works(things: SQLite) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def change(connection: Connection) -> None:
        add(connection, "a")
        begun.set()
        assert go_on.wait(10)
        add(connection, "b")

    writing = asyncio.create_task(things.write(change))
    await asyncio.to_thread(begun.wait, 10)
    behind = asyncio.create_task(things.write(lambda c: add(c, "never begun")))
    await asyncio.sleep(0)
    writing.cancel()
    behind.cancel()
    go_on.set()
    assert await asyncio.gather(writing, behind, return_exceptions=True) != [None, None]
    assert await things.read(names) == ["a", "b"]
    await things.write(lambda c: add(c, "c"))
    assert await things.read(names) == ["a", "b", "c"]


async def test_changes_of_two_stores_on_one_file_are_all_kept(
    things: SQLite, layout: Layout
) -> None:
    other = await SQLite.open(layout)

    def count_up(connection: Connection) -> None:
        add(connection, f"{len(names(connection)):03}")

    await asyncio.gather(*(store.write(count_up) for store in [things, other] * 20))
    assert await things.read(names) == [f"{number:03}" for number in range(40)]
    await other.close()


async def test_references_are_enforced(database: SQLite) -> None:
    await database.migrate("storage", STEPS)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(
            lambda c: c.execute(
                "INSERT INTO tags (repository, name, digest, generation)"
                " VALUES (1, 'a', 'sha256:0', 1)"
            )
        )


async def test_what_is_written_survives_a_power_cut(database: SQLite) -> None:
    """WAL with synchronous=NORMAL would lose the last commits."""
    assert await database.write(lambda c: c.one("PRAGMA synchronous")) == (2,)
    assert await database.write(lambda c: c.one("PRAGMA journal_mode")) == ("wal",)


async def test_text_is_ordered_by_its_bytes(things: SQLite) -> None:
    for name in ("b", "B", "a", "_", "é", "a-b", "a.b", "aa"):
        await things.write(lambda c, name=name: add(c, name))  # type: ignore[misc]  # untyped default
    assert await things.read(names) == ["B", "_", "a", "a-b", "a.b", "aa", "b", "é"]


# Snapshots


async def test_a_snapshot_is_of_one_moment_while_others_write(
    things: SQLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many steps, and a writer gets in between; each moment has an even number of rows."""
    monkeypatch.setattr(sessions, "SNAPSHOT_STEP", 1)
    await things.write(lambda c: [add(c, f"{number} " + "x" * 500) for number in range(2000)])
    written, done = 0, False

    def two(c: Connection) -> None:
        add(c, f"meanwhile {written}")
        add(c, f"meanwhile {written} too")

    async def write() -> None:
        nonlocal written
        while not done:
            await things.write(two)
            written += 1

    writing = asyncio.create_task(write())
    found = await things.snapshot(str(tmp_path / "copy.db"), names)
    done = True
    await writing
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept = [name for (name,) in copy.execute("SELECT name FROM things ORDER BY name")]
    copy.close()
    assert kept == found
    assert len(kept) % 2 == 0
    assert written > 0


async def test_a_snapshot_that_cannot_be_written_is_an_error(
    things: SQLite, tmp_path: Path
) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await things.snapshot(str(tmp_path / "none" / "copy.db"), names)
    await things.write(lambda c: add(c, "a"))


# Migrations


async def test_steps_are_done_once_and_in_order(database: SQLite) -> None:
    steps = [
        ["CREATE TABLE t (x {text})"],
        ["ALTER TABLE t ADD y BIGINT", "INSERT INTO t (y) VALUES (1)"],
    ]
    await database.migrate("test", steps[:1])
    await database.migrate("test", steps)
    await database.migrate("test", steps)
    assert await database.read(lambda c: c.all("SELECT x, y FROM t")) == [(None, 1)]


async def test_rooms_count_their_steps_apart(database: SQLite) -> None:
    await database.migrate("one", [["CREATE TABLE one (x {text})"]])
    await database.migrate("two", [["CREATE TABLE two (x {text})"]])
    assert await database.read(lambda c: c.all("SELECT * FROM two")) == []


async def test_a_step_that_fails_is_not_half_done(database: SQLite) -> None:
    steps = [["CREATE TABLE t (x {text})"], ["CREATE TABLE u (x {text})", "nonsense"]]
    with pytest.raises(sqlite3.OperationalError):
        await database.migrate("test", steps)
    await database.migrate("test", [steps[0], ["CREATE TABLE u (x {text})"]])
    assert await database.read(lambda c: c.all("SELECT * FROM u")) == []


async def test_records_of_a_newer_release_are_left_alone(database: SQLite) -> None:
    await database.migrate("test", [["CREATE TABLE t (x {text})"], ["CREATE TABLE u (x {text})"]])
    with pytest.raises(LayoutUnknown, match="newer release"):
        await database.migrate("test", [["CREATE TABLE t (x {text})"]])


async def test_stores_that_start_together_migrate_once(layout: Layout) -> None:
    stores = [await SQLite.open(layout) for _ in range(4)]
    await asyncio.gather(*(store.migrate("storage", STEPS) for store in stores))
    for store in stores:
        await store.close()


async def test_the_log_is_written_back_by_the_last_to_close(
    database: SQLite, layout: Layout
) -> None:
    other = await SQLite.open(layout)
    await other.migrate("test", TABLE)
    await other.close()
    assert Path(f"{layout.records}-wal").exists()


# Plans: what pages and hot paths cost

PLANS = [
    (
        "SELECT name FROM tags WHERE repository = 1 AND name > 'a' ORDER BY name LIMIT 9",
        "SEARCH tags USING PRIMARY KEY (repository=? AND name>?)",
    ),
    (
        "SELECT digest FROM manifests WHERE repository = 1 AND subject = 'd' AND digest > ''"
        " ORDER BY digest LIMIT 9",
        "SEARCH manifests USING COVERING INDEX referrers (repository=? AND subject=? AND digest>?)",
    ),
    (
        "SELECT digest FROM manifests WHERE repository = 1 AND subject = 'd'"
        " AND artifact_type = 't' AND digest > '' ORDER BY digest LIMIT 9",
        "SEARCH manifests USING COVERING INDEX referrers_by_type"
        " (repository=? AND subject=? AND artifact_type=? AND digest>?)",
    ),
    (
        "SELECT size FROM links WHERE digest = 'd' LIMIT 1",
        "SEARCH links USING INDEX links_by_digest (digest=?)",
    ),
    (
        "DELETE FROM tags WHERE repository = 1 AND digest = 'd'",
        "SEARCH tags USING COVERING INDEX tags_by_digest (repository=? AND digest=?)",
    ),
    (
        "SELECT tag FROM tag_moves WHERE generation > 5 ORDER BY generation LIMIT 9",
        "SEARCH tag_moves USING PRIMARY KEY (generation>?)",
    ),
]


@pytest.mark.parametrize(("statement", "plan"), PLANS)
async def test_a_page_costs_its_own_size(database: SQLite, statement: str, plan: str) -> None:
    """No scan, and no sort of what is not on the page."""
    await database.migrate("storage", STEPS)
    rows = await database.read(lambda c: c.all(f"EXPLAIN QUERY PLAN {statement}"))
    assert [row[3] for row in rows] == [plan]
