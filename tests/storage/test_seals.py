"""Seals: what SQLite's rows have one more column for."""

from __future__ import annotations

import sqlite3

import pytest

from storage.filesystem.layout import Layout
from storage.records import seals
from storage.records.database import Connection
from storage.records.schema import STEPS
from storage.records.sqlite import SQLite

THINGS = [
    ["CREATE TABLE things (id {serial}, name {text} UNIQUE, at DOUBLE PRECISION, data {bytes})"],
]
PAIRS = ["CREATE TABLE pairs (a {text}, b BIGINT, c {text}, PRIMARY KEY (a, b)) {clustered}"]


def broken(c: Connection) -> dict[str, list[seals.Key]]:
    return {
        table.name: page.broken
        for table in seals.tables(c)
        if (page := seals.page(c, table, None, 100)).broken
    }


async def test_what_is_written_fits_its_seal_whatever_it_is(database: SQLite) -> None:
    await database.migrate("test", [*THINGS, PAIRS])

    def change(c: Connection) -> None:
        for value in (None, "", "é\0\n", "x" * 5000):
            c.execute("INSERT INTO things (name, at, data) VALUES (?, 5, ?)", value, b"\xff\0")
        for number in (0, -1, 2**63 - 1, -(2**63)):
            c.execute("INSERT INTO pairs (a, b) VALUES ('', ?)", number)
        c.execute("UPDATE things SET at = 1e300 WHERE name = ''")
        c.execute("UPDATE things SET at = 0.1, data = NULL WHERE name IS NULL")
        c.execute("UPDATE pairs SET b = 7, c = 'moved' WHERE b = 0")
        c.execute(
            "INSERT INTO pairs (a, b, c) VALUES ('', 7, 'again')"
            " ON CONFLICT (a, b) DO UPDATE SET c = excluded.c"
        )

    await database.write(change)
    assert await database.read(broken) == {}
    assert await database.read(seals.structure) == []


@pytest.mark.parametrize(
    ("statement", "key"),
    [
        ("UPDATE things SET name = 'b'", (1,)),
        ("UPDATE things SET name = CAST('a' AS BLOB)", (1,)),
        ("UPDATE things SET name = CAST(x'ff' AS TEXT)", (1,)),
        ("UPDATE things SET at = 5.000000000000001", (1,)),
        ("UPDATE things SET data = NULL", (1,)),
        ("UPDATE things SET seal = NULL", (1,)),
        ("UPDATE pairs SET b = '1'", None),
        ("UPDATE pairs SET a = CAST(x'ff' AS TEXT)", (b"\xff", 1)),
        ("UPDATE pairs SET c = ''", (b"a", 1)),
    ],
)
async def test_what_changes_by_itself_does_not(
    database: SQLite, statement: str, key: seals.Key | None
) -> None:
    await database.migrate("test", [*THINGS, PAIRS])
    await database.write(
        lambda c: (
            c.execute("INSERT INTO things (name, at, data) VALUES ('a', 5, x'00')"),
            c.execute("INSERT INTO pairs (a, b) VALUES ('a', 1)"),
        )
    )
    connection = sqlite3.connect(database.path, isolation_level=None)
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.close()
    # What SQLite makes of '1' in a column of numbers is 1 again.
    found = [one for keys in (await database.read(broken)).values() for one in keys]
    assert found == ([] if key is None else [key])


async def test_rows_that_were_there_before_are_sealed_as_they_are(layout: Layout) -> None:
    connection = sqlite3.connect(layout.records, isolation_level=None)
    connection.execute("CREATE TABLE migrations (room TEXT PRIMARY KEY, step BIGINT NOT NULL)")
    connection.execute("CREATE TABLE things (name TEXT)")
    connection.execute("INSERT INTO things (name) VALUES ('old')")
    connection.execute("INSERT INTO migrations (room, step) VALUES ('test', 1)")
    connection.close()
    database = await SQLite.open(layout)
    await database.migrate("test", [["CREATE TABLE things (name {text})"]])
    assert await database.read(broken) == {}
    assert await database.read(seals.structure) == []
    await database.write(lambda c: c.execute("UPDATE things SET name = 'new'"))
    assert await database.read(broken) == {}
    await database.close()


async def test_a_table_that_gets_another_column_is_sealed_with_it(database: SQLite) -> None:
    more = ["ALTER TABLE things ADD COLUMN more BIGINT", "UPDATE things SET more = 1"]
    await database.migrate("test", THINGS)
    await database.write(lambda c: c.execute("INSERT INTO things (name) VALUES ('a')"))
    await database.migrate("test", [*THINGS, more])
    assert await database.read(broken) == {}
    assert await database.read(seals.structure) == []
    things = next(t for t in await database.read(seals.tables) if t.name == "things")
    assert things.columns == ("id", "name", "at", "data", "more")


async def test_every_table_is_sealed_but_what_can_be_derived(database: SQLite) -> None:
    await database.migrate("storage", STEPS)
    found = await database.read(seals.tables)
    assert all(table.sealed for table in found)
    there = await database.read(
        lambda c: c.all("SELECT name FROM sqlite_schema WHERE type = 'table'")
    )
    names = {name for (name,) in there}
    assert names - {table.name for table in found} == {"edges", "sqlite_sequence"}


async def test_opening_again_changes_nothing(database: SQLite, layout: Layout) -> None:
    await database.migrate("storage", STEPS)
    schema = "SELECT * FROM sqlite_schema"
    before = await database.read(lambda c: (c.all(schema), c.all("PRAGMA schema_version")))
    other = await SQLite.open(layout)
    await other.migrate("storage", STEPS)
    assert await other.read(lambda c: (c.all(schema), c.all("PRAGMA schema_version"))) == before
    await other.close()


async def test_rows_are_looked_at_page_by_page(database: SQLite) -> None:
    await database.migrate("test", [PAIRS])
    await database.write(
        lambda c: [
            c.execute("INSERT INTO pairs (a, b) VALUES (?, ?)", name, number)
            for name in "ab"
            for number in range(5)
        ]
    )
    table = next(t for t in await database.read(seals.tables) if t.name == "pairs")
    after, rows = None, 0
    while True:
        page = await database.read(lambda c, after=after: seals.page(c, table, after, 3))  # type: ignore[misc]  # untyped default
        rows += page.rows
        after = page.last
        if after is None:
            break
    assert rows == 10
