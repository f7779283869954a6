"""Flips one random bit at a time in a store at rest, and lets `verify` look for it.

Run as a program: `python -m tests.bitrot.flips --count 500 --seed 0`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from registry.deploy.apps import Settings
from registry.deploy.journal import Journal
from registry.deploy.lease import Holder, Lease
from storage.digest import SHA256
from storage.errors import StorageError
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records.seals import Unreadable
from storage.records.sqlite import SQLite
from storage.store import Move, Store
from storage.verify import Report, Verifier
from tests.storage.content import descriptor, image, index, push, tags

BLOBS: Final = 30


@dataclass
class Tally:
    """What became of the flips of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def miss(self, what: str) -> None:
        self.count("MISSED")
        self.missed.append(what)


class Sample:
    """A store with something in every table. `restore` undoes what was done to its database."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.layout = Layout.open(root)
        self.records = self.layout.records
        self.blobs = [chance.randbytes(chance.randrange(1, 1 << 16)) for _ in range(BLOBS)]
        self.template = root.with_name("template.db")

    async def fill(self) -> None:
        store = await self.opened()
        for name in ("acme/shop", "acme/other"):
            repository = store.repository(RepositoryName.parse(name))
            for data in self.blobs:
                await push(repository, data)
            described = [descriptor(SHA256.digest(data), len(data)) for data in self.blobs]
            images = [
                image(f"número {n}", config=described[n], layers=described[n + 1 : n + 4])
                for n in range(8)
            ]
            for n, one in enumerate(images):
                await repository.put_manifest(one, tags(f"v{n}", "latest"))
            listed = index(*(descriptor(m.digest, len(m.body), m.media_type) for m in images))
            await repository.put_manifest(listed, tags("all"))
            subject = descriptor(listed.digest, len(listed.body), listed.media_type)
            for n in range(3):
                await repository.put_manifest(
                    image(f"signature {n}", subject=subject, artifactType="a/b")
                )
            await repository.delete_tag(Tag("v3"))
            await push(repository, b"nothing refers to this " + name.encode())
        other = store.repository(RepositoryName.parse("acme/other"))
        alone = await push(other, b"gone, but its bytes are not")
        await other.delete_blob(alone)
        await self._deploy(store)
        await Verifier(store).run("sample")
        await store.close()
        shutil.copy(self.records, self.template)

    async def _deploy(self, store: Store) -> None:
        journal = Journal(store.database)
        await journal.open()
        await Lease(store.database, Holder.here()).take()
        move = (await store.moves(after=0, limit=1))[0]
        assert isinstance(move, Move)
        await journal.admit(move, "localhost")
        await journal.configure(
            move.repository, Settings({"key": "value"}, "/healthy"), "localhost"
        )
        await store.database.write(
            lambda c: c.execute(
                "INSERT INTO holds (repository_name, digest, holder, reason)"
                " VALUES ('acme/shop', ?, 'app x', 'revision 1 is live')",
                str(move.digest),
            )
        )
        await store.database.write(
            lambda c: c.execute(
                "INSERT INTO damaged (kind, repository, name, reason, since)"
                " VALUES ('blob', 0, ?, 'it is a sample', 12345.678)",
                SHA256.digest(b"").text,
            )
        )

    async def opened(self) -> Store:
        return await Store.open(await SQLite.open(self.layout), FilesystemBlobs(self.layout))

    def restore(self) -> None:
        for path in self.records.parent.glob("records.db-*"):
            path.unlink()
        shutil.copy(self.template, self.records)

    async def verify(self, store: Store) -> Report:
        return await Verifier(store, read=True).run()


# Blobs


async def in_blobs(sample: Sample, chance: random.Random, count: int) -> Tally:
    tally = Tally()
    store = await sample.opened()
    repository = store.repository(RepositoryName.parse("acme/shop"))
    for _ in range(count):
        data = chance.choice(sample.blobs)
        digest = SHA256.digest(data)
        path = Path(sample.layout.blob(digest))
        bit = chance.randrange(len(data) * 8)
        flip_in_file(path, bit)
        found = [finding.where for finding in (await sample.verify(store)).findings]
        if found == [str(digest)] and not path.exists():
            tally.count("found")
        else:
            tally.miss(f"bit {bit} of {digest}: {found}")
        await push(repository, data)
    left = (await sample.verify(store)).findings
    if left:
        tally.miss(f"after all was pushed again: {left}")
    await store.close()
    return tally


def flip_in_file(path: Path, bit: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


# Values


def flipped(value: Any, chance: random.Random) -> Any:
    """The same with one bit another; None where it has none."""
    match value:
        case int():
            other = value ^ 1 << chance.randrange(40)
        case float():
            (bits,) = struct.unpack("<q", struct.pack("<d", value))
            (other,) = struct.unpack("<d", struct.pack("<q", bits ^ 1 << chance.randrange(52)))
        case bytes() if value:
            data = bytearray(value)
            bit = chance.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
            other = bytes(data)
        case _:
            return None
    return other


def places(path: Path) -> list[tuple[str, str]]:
    """Every column of every table, seals among them."""
    connection = sqlite3.connect(path)
    found = [
        (table, row[1])
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        ).fetchall()
        for row in connection.execute(f"PRAGMA table_info({table})").fetchall()
    ]
    connection.close()
    return found


def flip_value(path: Path, table: str, column: str, chance: random.Random) -> str | None:
    """Flip a bit in some row, past the triggers; what was done. None: no row has a value there."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall()
        connection.execute("BEGIN")
        for name, _ in triggers:
            connection.execute(f'DROP TRIGGER "{name}"')
        value = f"CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"
        keys = [
            row[1]
            for row in sorted(
                connection.execute(f"PRAGMA table_info({table})").fetchall(), key=lambda r: r[5]
            )
            if row[5]
        ]
        where = " AND ".join(f"{key} IS ?" for key in keys) or "1"
        rows = connection.execute(
            f"SELECT typeof({column}), {value}{''.join(f', {key}' for key in keys)} FROM {table}"
            f" WHERE {column} IS NOT NULL AND {column} <> ''"
        ).fetchall()
        if not rows:
            return None
        while True:
            kind, before, *key = chance.choice(rows)
            after = flipped(before, chance)
            cast = "CAST(? AS TEXT)" if kind == "text" else "?"
            statement = f"UPDATE {table} SET {column} = {cast} WHERE {where}"
            with suppress(sqlite3.IntegrityError):  # v0 has become v1, which is there
                connection.execute(statement, [after, *key])
                break
        for _, sql in triggers:
            connection.execute(sql)
        connection.execute("COMMIT")
        return f"{table}.{column} of {key}: {before!r} became {after!r}"
    finally:
        connection.close()


async def in_values(sample: Sample, chance: random.Random, count: int) -> Tally:
    tally = Tally()
    sample.restore()
    everywhere = places(sample.records)
    for number in range(count):
        table, column = everywhere[number % len(everywhere)]
        sample.restore()
        done = flip_value(sample.records, table, column, chance)
        if done is None:
            tally.count(f"no value in {table}.{column}")
        elif await _is_found(sample):
            tally.count("found")
        else:
            tally.miss(done)
    sample.restore()
    return tally


# The file


async def in_the_file(sample: Sample, chance: random.Random, count: int) -> Tally:
    tally = Tally()
    intact = contents(sample.template)
    size = sample.template.stat().st_size
    for _ in range(count):
        sample.restore()
        bit = chance.randrange(size * 8)
        flip_in_file(sample.records, bit)
        if await _is_found(sample):
            tally.count("found")
        elif contents(sample.records) == intact:
            tally.count("without effect")
        else:
            tally.miss(f"bit {bit}")
    sample.restore()
    return tally


async def _is_found(sample: Sample) -> bool:
    database = None
    try:
        database = await SQLite.open(sample.layout)
        store = await Store.open(database, FilesystemBlobs(sample.layout))
        await Journal(database).open()
        return bool((await sample.verify(store)).findings)
    except (*Unreadable, StorageError):  # what cannot be opened at all is hard to miss
        return True
    finally:
        if database is not None:
            await database.close()


def contents(path: Path) -> str:
    """All that can be read of a database, with its own opinion of itself."""
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=0", uri=True)
    try:
        found: list[Any] = [connection.execute("PRAGMA integrity_check").fetchall()]
        schema = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        found.append(connection.execute(schema).fetchall())
        for name in sorted({table for table, _ in places(path)}):
            columns = [
                f"typeof({column}), CAST({column} AS BLOB), {column}"
                for table, column in places(path)
                if table == name
            ]
            connection.text_factory = bytes
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()
            connection.text_factory = str
            found.append([name, sorted(map(repr, rows))])
        return repr(found)
    except Unreadable as error:
        return repr(error)
    finally:
        connection.close()


KINDS: Final[dict[str, Callable[[Sample, random.Random, int], Awaitable[Tally]]]] = {
    "bits in blobs": in_blobs,
    "bits in values": in_values,
    "bits in the database's file": in_the_file,
}


async def sampled(root: Path, kind: str, count: int, seed: int) -> Tally:
    chance = random.Random(f"{seed}/{kind}")
    sample = Sample(root, chance)
    await sample.fill()
    return await KINDS[kind](sample, chance, count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append")
    given = parser.parse_args()
    missed = 0
    for kind in given.kind or KINDS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch) / "data"
            tally = asyncio.run(sampled(root, kind, given.count, given.seed))
        seconds = time.perf_counter() - began
        print(f"{kind}: {json.dumps(dict(tally.outcomes))} in {seconds:.0f} s", flush=True)
        print(*tally.missed[:20], sep="\n")
        missed += len(tally.missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
