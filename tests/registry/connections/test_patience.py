"""How long is waited for a client: to ask, to send what it announced, to take its answer."""

from __future__ import annotations

import json

import pytest

from registry.connections import earned
from registry.server import GATEWAY
from tests.registry.connections.conftest import BIG, Listen, Listening, hold, statuses, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
PUT = b"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"


async def test_who_says_nothing_is_left_after_ten_seconds(server: Listening) -> None:
    client = await server.connect()
    server.later(9.9)
    assert server.crowd.counts == {}
    server.later(0.2)
    assert await client.all() == b""
    assert server.crowd.counts == {"first_byte": 1}
    assert server.crowd.refused == {}


@pytest.mark.parametrize(
    "begun", [b"G", b"\r\n", GET, GET + b"X: y", GET + b"\r\n" + GET, b"x" * 1000]
)
async def test_a_header_has_fifteen_seconds_whatever_trickles_in(
    server: Listening, begun: bytes
) -> None:
    client = await server.connect(begun)
    if b"\r\n\r\n" in begun:
        assert b" 200 " in await client.head()
        await client.body(b"ok")
    await until(lambda: server.connections[0]._reading.name in ("HEAD", "DEAF"))
    if begun.startswith(b"x"):
        return  # refused at once, for it is no header
    for _ in range(14):
        server.later(1)
        server.connections[0].data_received(b"\r\n" if begun == b"\r\n" else b"")
    assert server.crowd.refused == {}
    server.later(1.1)
    head, _, body = (await client.all()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(body)["errors"]
    assert server.crowd.refused == {408: 1}


async def test_a_connection_is_kept_for_the_next_request(server: Listening) -> None:
    client = await server.connect()
    for _ in range(3):
        await client.ask()
        server.later(74)
    server.later(2)
    assert await client.all() == b""
    assert server.crowd.counts == {"idle": 1}


async def test_an_application_may_take_its_time(server: Listening) -> None:
    client = await server.connect(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: server.app.seen)
    for _ in range(10):
        server.later(1000)
    server.app.go.set()
    assert b" 200 " in await client.head()


# Bodies


async def test_a_body_that_stands_still_is_given_up_and_what_came_is_kept(
    server: Listening,
) -> None:
    client = await server.connect(PUT + bytes(1000))
    await until(lambda: server.connections[0]._body == 1000)
    server.later(19)
    assert server.crowd.refused == {}
    server.later(2)
    assert statuses(await client.all()) == [408]
    await until(lambda: server.app.ended == ["left after 1000"])


async def test_a_body_that_trickles_is_given_up_as_one_that_stands_still(
    server: Listening,
) -> None:
    client = await server.connect(PUT)
    await until(lambda: server.app.seen)
    await server.trickle(38, bytes(4096))  # half of what is asked for
    assert server.crowd.refused == {}
    await server.trickle(4, bytes(4096))
    assert statuses(await client.all()) == [408]


async def test_a_body_that_comes_as_fast_as_it_must_may_take_for_ever(server: Listening) -> None:
    await server.connect(PUT)
    await until(lambda: server.app.seen)
    await server.trickle(300, bytes(8200))
    assert server.crowd.refused == {}


async def test_a_body_that_came_fast_before_may_stand_still_for_half_a_minute(
    server: Listening,
) -> None:
    client = await server.connect(PUT + bytes(9_000_000))
    await until(lambda: server.connections and server.connections[0]._body == 9_000_000)
    for _ in range(29):
        server.later(1)
    assert server.crowd.refused == {}
    for _ in range(3):
        server.later(1)
    assert statuses(await client.all()) == [408]


async def test_framing_does_not_count_as_body(server: Listening) -> None:
    client = await server.connect(
        b"PUT /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await until(lambda: server.app.seen)
    await server.trickle(22, b"1;x=" + b"y" * 10_000 + b"\r\na\r\n")
    assert statuses(await client.all()) == [408]


async def test_time_in_which_nobody_reads_the_body_is_not_the_clients(server: Listening) -> None:
    client = await server.connect(
        b"PUT /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + bytes(200_000)
    )
    await until(lambda: server.connections and server.connections[0].flow.read_paused)
    for _ in range(100):
        server.later(1)
    assert server.crowd.refused == {}
    server.app.go.set()
    assert b" 200 " in await client.head()


async def test_who_waits_to_be_told_to_send_is_not_hurried(server: Listening) -> None:
    client = await server.connect(
        b"PUT /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    await until(lambda: server.app.seen)
    for _ in range(100):
        server.later(1)
    server.app.go.set()
    assert b" 200 " in await client.head()


async def test_an_application_may_be_sent_to_at_any_rate_but_not_be_left_waiting(
    listen: Listen,
) -> None:
    server = await listen(GATEWAY)
    client = await server.connect(PUT)
    await until(lambda: server.app.seen)
    await server.trickle(100, b"x")
    server.later(1)
    server.later(59)
    assert server.crowd.refused == {}
    server.later(2)
    assert statuses(await client.all()) == [408]


@pytest.mark.parametrize(
    ("until_", "now", "came", "result"),
    [
        pytest.param(20, 1, 0, 20, id="nothing came"),
        pytest.param(20, 1, 100, 21, id="as much as a second asks for"),
        pytest.param(20, 1, 50, 20.5, id="half as much"),
        pytest.param(20, 1, 100_000, 31, id="very much, which is kept for a window only"),
        pytest.param(50, 1, 100_000, 50, id="what was given is not taken back"),
    ],
)
def test_bytes_bring_time(until_: float, now: float, came: int, result: float) -> None:
    assert earned(until_, now, came, rate=100, window=30) == result


# Answers


async def test_who_takes_nothing_of_its_answer_for_a_minute_is_left(server: Listening) -> None:
    client = await server.connect(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    [connection] = server.connections
    await until(lambda: connection.flow.write_paused)
    server.later(1)
    server.later(59)
    assert server.crowd.counts == {}
    server.later(2)
    await until(lambda: not server.connections)
    assert server.crowd.counts == {"stall": 1}
    await until(lambda: server.app.ended)  # its send() returns: nobody waits for ever


async def test_what_was_taken_counts_though_as_much_waits_as_before(server: Listening) -> None:
    client = await server.connect(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    [connection] = server.connections
    await until(lambda: connection.flow.write_paused)
    server.later(1)
    server.later(50)
    connection.flow.write_paused = False  # or the application would write, and more would wait
    connection.resume_writing()
    connection.flow.write_paused = True
    server.later(50)
    assert server.crowd.counts == {}
    server.later(11)
    await until(lambda: not server.connections)


async def test_who_takes_a_little_now_and_then_is_not_left(server: Listening) -> None:
    client = await server.connect(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    [connection] = server.connections
    await client.head()
    for _ in range(BIG // 2 // (8 << 20)):
        await client.reader.readexactly(8 << 20)
        server.later(50)
    assert server.connections == [connection]
    assert server.crowd.counts == {}


async def test_an_answer_that_is_given_but_not_taken_is_not_kept_for_ever(
    server: Listening,
) -> None:
    """When all of it was handed to the transport, and the connection is to close."""
    [connection] = await hold(server, b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert connection.transport.is_closing()
    server.later(1)
    server.later(61)
    await until(lambda: not server.connections)
    assert server.crowd.counts == {"stall": 1}
