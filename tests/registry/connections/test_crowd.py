"""How many connections there may be, and who goes for whom."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace

import pytest
import structlog

from registry.crowd import Crowd
from registry.settings import ConnectionSettings, Networks
from tests.registry.connections.conftest import Listen, Listening, hold, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


@dataclass(eq=False)
class One:
    """A member, without a socket."""

    address: str | None = None
    left: bool = False
    looks: list[float] = field(default_factory=list)

    def look(self, now: float) -> None:
        self.looks.append(now)

    def leave(self) -> None:
        self.left = True

    def abort(self) -> None:
        self.left = True


def crowd_of(limit: int = 1000, **given: object) -> Crowd:
    return Crowd(replace(ConnectionSettings(), **given), "test", limit=limit, clock=lambda: 0)  # type: ignore[arg-type]


def test_the_lower_of_two_limits_counts() -> None:
    assert crowd_of(limit=10).limit == 10
    assert crowd_of(limit=100_000).limit == ConnectionSettings().limit


def test_of_those_who_are_more_the_oldest_goes() -> None:
    crowd = crowd_of(limit=6)
    silent, resting = [One(), One(), One(), One()], [One(), One()]
    for member in silent + resting:
        assert crowd.enter(member)
    for member in reversed(resting):
        crowd.works(member)
        crowd.rests(member)
    assert crowd.enter(One())
    assert [member.left for member in silent] == [True, False, False, False]
    for member in silent[1:]:
        crowd.works(member)
        crowd.rests(member)
    assert crowd.enter(One())
    assert [member.left for member in resting] == [False, True]
    for _ in range(100):
        assert crowd.enter(One())
    assert len(crowd) == 6
    assert not all(member.left for member in silent + resting)
    assert crowd.counts == {"evicted": 102}


def test_who_works_is_not_ended_for_another() -> None:
    crowd = crowd_of(limit=2)
    working = [One(), One()]
    for member in working:
        crowd.enter(member)
        crowd.works(member)
    assert not crowd.enter(One())
    assert not any(member.left for member in working)
    assert crowd.counts == {"limit": 1}
    crowd.rests(working[0])
    crowd.works(working[0])  # on its next request
    assert not crowd.enter(One())
    crowd.rests(working[0])
    assert crowd.enter(One())
    assert working[0].left
    crowd.rests(working[0])  # it may have been answering to nobody
    assert crowd.enter(One())
    assert len(crowd) == 2


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [
        (["192.0.2.1"] * 5, 3),
        (["192.0.2.1", "192.0.2.2"] * 3, 6),
        (["127.0.0.1"] * 5, 5),
        (["127.9.9.9"] * 5, 5),
        (["::1"] * 5, 5),
        (["::ffff:127.0.0.1"] * 5, 5),
        ([None] * 5, 5),
        (["::ffff:192.0.2.1", "192.0.2.1"] * 3, 3),
        ([f"2001:db8::{number:x}" for number in range(5)], 3),
        ([f"2001:db8:0:{number:x}::1" for number in range(5)], 5),
        (["fe80::1%eth0"] * 5, 3),
        (["10.1.2.3"] * 5, 5),
        (["10.2.2.3"] * 5, 3),
        (["2001:db8:9::1"] * 5, 5),
    ],
)
def test_one_address_has_its_share(addresses: list[str | None], allowed: int) -> None:
    crowd = crowd_of(per_address=3, exempt=Networks.parse("10.1.0.0/16, 2001:db8:9::/48"))
    members = [One(address) for address in addresses]
    entered = [member for member in members if crowd.enter(member)]
    assert len(entered) == allowed
    assert crowd.counts.get("address_limit", 0) == len(addresses) - allowed
    for member in members:
        crowd.gone(member)
        crowd.gone(member)
    assert len(crowd) == 0
    assert all(crowd.enter(member) for member in members[:3])


def test_what_ended_without_an_answer_is_one_line_for_all() -> None:
    crowd = crowd_of(per_address=1)
    with structlog.testing.capture_logs() as logs:
        for _ in range(1000):
            crowd.enter(One("192.0.2.1"))
        crowd.look()
        crowd.look()
    [entry] = logs
    assert (entry["event"], entry["address_limit"]) == ("connections ended early", 999)


def test_what_ends_as_usual_is_counted_and_not_told() -> None:
    crowd = crowd_of()
    with structlog.testing.capture_logs() as logs:
        crowd.counts["idle"] += 3
        crowd.look()
        crowd.counts["stall"] += 1
        crowd.look()
    [entry] = logs
    assert (entry.get("idle"), entry["stall"]) == (None, 1)


async def test_a_newcomer_is_answered_although_all_places_are_taken(listen: Listen) -> None:
    server = await listen(limit=20)
    for _ in range(50):
        await server.connect(b"GET / HT")
    assert await (await server.connect()).ask()
    assert len(server.crowd) <= 20
    await until(lambda: len(server.connections) <= 20)


async def test_an_answer_on_its_way_outlives_any_number_of_newcomers(listen: Listen) -> None:
    server = await listen(limit=5)
    waiting = await server.connect(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    uploading = await server.connect(
        b"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"
    )
    await until(lambda: len(server.app.seen) == 2)
    for _ in range(20):
        await (await server.connect()).ask()
    server.app.go.set()
    uploading.send(b"cd")
    assert b" 200 " in await waiting.head()
    assert b" 200 " in await uploading.head()


async def test_who_has_not_taken_its_last_answer_makes_room_at_once(listen: Listen) -> None:
    """To close in good order would wait for it, and hold what it holds."""
    server = await listen(limit=1)
    [holding] = await hold(server, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    await (await server.connect()).ask()
    await until(lambda: holding not in server.connections)
    assert server.crowd.counts == {"evicted": 1}


async def test_who_is_one_too_many_is_not_heard(listen: Listen) -> None:
    server = await listen(limit=2)
    for _ in range(2):
        await server.connect(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: len(server.app.seen) == 2)
    with contextlib.suppress(ConnectionResetError):
        assert await server.say(GET + b"\r\n") == b""
    assert server.app.seen == ["GET /wait"] * 2
    assert server.crowd.counts == {"limit": 1}


async def test_the_crowd_forgets_who_left(server: Listening) -> None:
    clients = [await server.connect(GET + b"\r\n") for _ in range(10)]
    for client in clients:
        await client.head()
    assert len(server.crowd) == 10
    for client in clients:
        client.writer.transport.abort()
    await until(lambda: len(server.crowd) == 0)
    assert not server.crowd._idle
    assert not server.crowd._unproven
    assert not server.crowd._places


async def test_a_thousand_are_looked_at_without_keeping_the_others_waiting() -> None:
    """To throw them all out at once would take long enough for a healthy client to notice."""
    crowd = crowd_of(limit=2000, first_byte=0.01)
    members = [One() for _ in range(1000)]
    for member in members:
        assert crowd.enter(member)
    crowd.open()
    looked = 0
    while not looked:
        await asyncio.sleep(0)
        looked = sum(bool(member.looks) for member in members)
    assert looked < len(members), "something else came to its turn before the last was looked at"
    gone = next(member for member in members if not member.looks)
    crowd.gone(gone)
    await until(lambda: sum(bool(member.looks) for member in members) == len(members) - 1)
    crowd.close()
    assert not gone.looks
