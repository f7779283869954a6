"""Keys that several processes share, and that are replaced while tokens of theirs are about."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry.auth.identity import Kind, Principal
from registry.auth.jws import TokenInvalid
from registry.auth.keys import LEEWAY, LOOK, RETRY, SETTLE, Keys, jwk, thumbprint
from registry.auth.tokens import Tokens
from storage.filesystem.layout import Layout
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from tests.registry.auth.keyring import LIFE, LONGEST, Clock, Process, processes, unb64

ADA = Principal(Kind.USER, "ada")
T = TypeVar("T")


def tokens(process: Process) -> Tokens:
    return Tokens(process.keys, service="spindle", longest=LONGEST, clock=process.clock)


async def test_two_processes_that_start_together_make_one_key(tmp_path: Path) -> None:
    async with processes(tmp_path, 4) as found:
        await asyncio.gather(*(process.keys.open() for process in found))
        kids = {(await process.keys.signing()).kid for process in found}
        assert len(kids) == 1
        assert [len(await process.keys.all()) for process in found] == [1, 1, 1, 1]


async def test_a_key_is_there_again_after_a_restart(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        text = await tokens(process).issue(ADA, (), 600)
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        assert (await tokens(process).verify(text)).subject == "user:ada"


async def test_a_key_signs_for_as_long_as_it_lives_and_no_longer(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        first = await process.keys.signing()
        process.clock.now += LIFE - 1
        assert (await process.keys.signing()).kid == first.kid
        process.clock.now += 1
        await process.keys.signing()
        process.clock.now += SETTLE
        assert (await process.keys.signing()).kid != first.kid


async def test_one_process_rotates_and_the_others_follow(tmp_path: Path) -> None:
    async with processes(tmp_path, 3) as found:
        for process in found:
            await process.keys.open()
        found[0].clock.now += LIFE
        await asyncio.gather(*(process.keys.signing() for process in found))
        found[0].clock.now += SETTLE
        assert len({(await process.keys.signing()).kid for process in found}) == 1
        assert [len(await process.keys.all()) for process in found] == [2, 2, 2]


async def test_an_old_key_verifies_until_its_longest_token_is_over_and_then_goes(
    tmp_path: Path,
) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        await process.keys.rotate()
        process.clock.now += SETTLE - 0.1
        text = await tokens(process).issue(ADA, (), LONGEST)  # by the old one, at the last moment
        old = json.loads(unb64(text.split(".")[0]))["kid"]
        process.clock.now += LONGEST - 1
        assert (await tokens(process).verify(text)).subject == "user:ada"
        process.clock.now += LEEWAY + 2
        assert await process.keys.verifying(old) is None
        await process.keys.rotate()
        assert old not in await kids_in_rows(process)


async def test_a_key_signs_only_when_every_process_knows_it(tmp_path: Path) -> None:
    """Or a token would be refused by a process that looked a moment before it was made."""
    async with processes(tmp_path, 2) as [one, other]:
        await one.keys.open()
        await other.keys.open()
        first = await one.keys.signing()
        await one.keys.rotate()
        for step in range(20):
            one.clock.now += SETTLE / 20
            kid = (await one.keys.signing()).kid
            assert (kid == first.kid) is (step < 19)
            await tokens(other).verify(await tokens(one).issue(ADA, (), 600))
        assert kid == (await one.keys.all())[0].kid


async def test_a_rotation_is_seen_by_another_process_within_a_second(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as [one, other]:
        await one.keys.open()
        await other.keys.open()
        text = await tokens(other).issue(ADA, (), 600)
        verifying = tokens(other)
        await verifying.verify(text)
        await one.keys.rotate(forget=True)
        one.clock.now += LOOK
        with pytest.raises(TokenInvalid, match="no such key"):
            await verifying.verify(text)


async def test_a_key_that_was_made_a_moment_ago_is_found(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as [one, other]:
        await one.keys.open()
        await other.keys.open()
        await one.keys.rotate(forget=True)
        text = await tokens(one).issue(ADA, (), 600)
        assert (await tokens(other).verify(text)).subject == "user:ada"


class Counted(SQLite):
    """Counts the reads."""

    reads = 0

    async def read(self, query: Callable[[Connection], T]) -> T:
        self.reads += 1
        return await super().read(query)


async def test_kids_that_nobody_knows_cost_a_look_a_second_at_most(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        database = Counted(process.database.path)
        keys = Keys(database, life=LIFE, longest=LONGEST, clock=process.clock)
        await keys.open()
        database.reads = 0
        for number in range(1000):
            assert await keys.verifying(f"{number:043}") is None
        assert database.reads == 1
        process.clock.now += LOOK
        for number in range(1000):
            assert await keys.verifying(f"{number:043}") is None
        assert database.reads <= 3  # one that is due anyway, and one for what is not known
        await database.close()


async def test_forgetting_leaves_one_key_that_signs_at_once(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        before = await process.keys.signing()
        text = await tokens(process).issue(ADA, (), 600)
        await process.keys.rotate(forget=True)
        after = await process.keys.signing()
        assert [key.kid for key in await process.keys.all()] == [after.kid]
        assert after.kid != before.kid
        with pytest.raises(TokenInvalid, match="no such key"):
            await tokens(process).verify(text)


class Full(SQLite):
    """A disk that takes nothing, while `full`."""

    full = False
    tries = 0

    async def write(self, change: Callable[[Connection], T]) -> T:
        if self.full:
            self.tries += 1
            raise OSError(28, "No space left on device")
        return await super().write(change)


async def test_on_a_full_disk_the_old_key_goes_on_signing(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        database = Full(process.database.path)
        keys = Keys(database, life=LIFE, longest=LONGEST, clock=process.clock)
        await keys.open()
        first = await keys.signing()
        process.clock.now += LIFE
        database.full = True
        for _ in range(10):
            assert (await keys.signing()).kid == first.kid
        assert database.tries == 1  # and not with every token
        database.full = False
        process.clock.now += RETRY
        await keys.signing()
        process.clock.now += SETTLE
        assert (await keys.signing()).kid != first.kid
        await database.close()


async def test_a_row_that_is_no_key_signs_and_verifies_nothing(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as [one, other]:
        await one.keys.open()
        first = await one.keys.signing()

        def break_it(connection: Connection) -> None:
            connection.execute("UPDATE signing_keys SET private = ?", b"no key")

        await one.database.write(break_it)
        await other.keys.open()
        assert await other.keys.verifying(first.kid) is None
        assert (await other.keys.signing()).kid != first.kid
        text = await tokens(other).issue(ADA, (), 600)
        assert (await tokens(other).verify(text)).subject == "user:ada"


async def test_a_clock_that_is_set_back_stops_nothing(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        process.clock.now -= 1_000_000
        assert (
            await tokens(process).verify(await tokens(process).issue(ADA, (), 600))
        ).access == ()


async def test_a_key_made_by_a_clock_that_was_set_back_signs_all_the_same(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        first = await process.keys.signing()
        process.clock.now -= 1_000_000
        await process.keys.rotate()
        process.clock.now += SETTLE
        assert (await process.keys.signing()).kid != first.kid


def test_kid_is_the_thumbprint_of_rfc_7638() -> None:
    """Of the public key of RFC 7517, appendix A.1; the members by hand."""
    x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
    y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
    numbers = ec.EllipticCurvePublicNumbers(
        *(int.from_bytes(base64.urlsafe_b64decode(part + "=")) for part in (x, y)),
        ec.SECP256R1(),
    )
    text = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    hashed = hashlib.sha256(text.encode()).digest()
    expected = base64.urlsafe_b64encode(hashed).decode().rstrip("=")
    assert thumbprint(numbers.public_key()) == expected


async def test_what_is_shown_of_a_key_is_its_public_half(tmp_path: Path) -> None:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        key = await process.keys.signing()
        shown = jwk(key)
        assert shown.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        secret = key.private.private_numbers().private_value.to_bytes(32, "big")
        assert base64.urlsafe_b64encode(secret).decode().rstrip("=") not in json.dumps(shown)


async def test_nobody_else_can_read_the_file_that_the_keys_are_in(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "data")
    process = Process(await SQLite.open(layout), Clock())
    await process.keys.open()
    await process.database.close()
    assert os.stat(layout.root).st_mode & 0o077 == 0
    assert layout.records.parent == layout.root


async def kids_in_rows(process: Process) -> list[str]:
    rows = await process.database.read(
        lambda connection: connection.all("SELECT kid FROM signing_keys")
    )
    return [str(kid) for (kid,) in rows]
