"""Answers that no application gives, and answers that came before the body was read."""

from __future__ import annotations

import contextlib
import json
import logging

import httptools
import pytest
import structlog

from registry.answers import reason
from registry.server import GATEWAY
from tests.asgi import CODES
from tests.registry.connections.conftest import Client, Listen, Listening, statuses, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


async def pour(client: Client, piece: bytes, amount: int) -> int:
    """Send for as long as it is taken; return how much was."""
    sent = 0
    try:
        while sent < amount:
            client.send(piece)
            await client.writer.drain()
            sent += len(piece)
    except ConnectionError:
        pass
    return sent


async def test_a_header_of_64_mb_is_refused_after_the_first_of_them(server: Listening) -> None:
    client = await server.connect(GET + b"X: ")
    assert await pour(client, b"y" * (1 << 20), 64 << 20) < 32 << 20
    assert server.app.seen == []
    assert server.crowd.refused == {431: 1}


async def test_a_first_line_of_64_mb_is_refused_after_the_first_of_them(server: Listening) -> None:
    client = await server.connect(b"GET /")
    assert await pour(client, b"y" * (1 << 20), 64 << 20) < 32 << 20
    assert server.crowd.refused == {414: 1}


async def test_50_000_headers_are_refused(server: Listening) -> None:
    client = await server.connect(GET)
    await pour(client, b"X: y\r\n" * 1000, 300_000)
    client.send(b"\r\n")
    assert server.app.seen == []
    await until(lambda: server.crowd.refused == {431: 1})


@pytest.mark.parametrize("blank", [b"\r\n", b"\n"])
async def test_empty_lines_before_a_request_are_not_for_ever(
    server: Listening, blank: bytes
) -> None:
    client = await server.connect()
    assert await pour(client, blank * (1 << 19), 64 << 20) < 32 << 20
    assert server.crowd.refused == {431: 1}


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"1;x=" + b"y" * (1 << 20), id="an extension of a chunk"),
        pytest.param(b"0\r\nX: " + b"y" * (1 << 20), id="a trailer"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * (1 << 18), id="trailers"),
    ],
)
async def test_a_body_that_consists_of_anything_but_content_is_refused(
    server: Listening, rest: bytes
) -> None:
    client = await server.connect(
        b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    )
    await until(lambda: server.app.seen)
    client.send(rest)
    assert statuses(await client.all()) == [400]
    await until(lambda: server.app.ended == ["left after 1"])


LIMITED = {"header_bytes": 1000, "header_count": 10, "request_line": 100}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 84 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /" + b"a" * 90 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 90, 414),
        (GET + b"X: " + b"y" * 900 + b"\r\n\r\n", 200),
        (GET + b"X: " + b"y" * 1000 + b"\r\n\r\n", 431),
        (GET + b"X: " + b"y" * 1000, 431),
        (GET + b"X:\r\n" * 9 + b"\r\n", 200),
        (GET + b"X:\r\n" * 10 + b"\r\n", 431),
    ],
)
async def test_the_limits_are_those_of_the_settings_however_it_is_cut(
    listen: Listen, request_: bytes, status: int
) -> None:
    server = await listen(**LIMITED)
    last = GET + b"Connection: close\r\n\r\n" if status == 200 else b""
    assert statuses(await server.say(request_ + last))[0] == status
    server.later(2)
    await until(lambda: not server.connections)
    cut = await server.connect()
    [connection] = server.connections
    for number in range(0, len(request_), 50):
        connection.data_received(request_[number : number + 50])
    if status == 200:
        assert b" 200 " in await cut.head()
    else:
        assert statuses(await cut.all()) == [status]


async def test_a_head_behind_a_large_body_is_not_measured_with_it(listen: Listen) -> None:
    server = await listen(**LIMITED)
    client = await server.connect(
        b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000 + GET
    )
    assert b" 200 " in await client.head()
    await client.body(b"5000")
    client.send(b"X: y\r\n\r\n")
    assert b" 200 " in await client.head()


async def test_a_refusal_has_the_form_of_the_specification_and_is_one_line_in_the_log(
    server: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    """Distribution spec, "Error Codes"."""
    with structlog.testing.capture_logs() as logs:
        head, _, body = (await server.say(b"GET / HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 400 bad request"
    assert b"content-type: application/json" in lines
    assert b"docker-distribution-api-version: registry/2.0" in lines
    assert b"x-content-type-options: nosniff" in lines
    assert b"connection: close" in lines
    assert b"content-length: %d" % len(body) in lines
    [error] = json.loads(body)["errors"]
    assert error["code"] in CODES
    assert "Host" in error["message"]
    assert [(entry["event"], entry["status"], entry["client"]) for entry in logs] == [
        ("refused", 400, "127.0.0.1")
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert server.crowd.refused == {400: 1}


def test_an_error_of_our_own_is_not_blamed_on_the_client() -> None:
    error = httptools.HttpParserCallbackError("callback error")
    error.__context__ = KeyError("ours")
    with structlog.testing.capture_logs() as logs:
        assert reason(error).status == 500
    assert [entry["log_level"] for entry in logs] == ["error"]


async def test_a_refusal_of_a_head_has_no_body(server: Listening) -> None:
    head, _, body = (await server.say(b"HEAD / HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert statuses(head) == [400]
    assert body == b""


async def test_the_gateway_refuses_in_its_own_words(listen: Listen) -> None:
    server = await listen(GATEWAY)
    head, _, body = (await server.say(b"GET / HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"docker" not in head
    assert json.loads(body)["errors"][0]["code"] == "REQUEST_INVALID"


# What is sent ahead


async def test_what_follows_in_order_is_answered_in_order(server: Listening) -> None:
    requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)]
    answer = await server.say(b"".join(requests) + GET + b"Connection: close\r\n\r\n")
    assert statuses(answer) == [200] * 21
    assert server.app.seen == [*(f"GET /{number}" for number in range(20)), "GET /"]


@pytest.mark.parametrize("ahead", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3])
async def test_nonsense_behind_a_request_is_refused_after_its_answer(
    server: Listening, ahead: bytes
) -> None:
    """And not in the middle of it, where it would be taken for a part of it."""
    client = await server.connect(
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + ahead + b"nonsense \r\n\r\n"
    )
    await until(lambda: server.app.seen)
    server.later(1)
    server.app.go.set()
    answer = await client.all()
    assert statuses(answer) == [200, *[200] * ahead.count(b"GET"), 501]
    assert answer.index(b"at last") < answer.index(b"501")


async def test_a_body_that_goes_wrong_behind_another_request_ends_both(server: Listening) -> None:
    client = await server.connect(
        b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n"
    )
    with contextlib.suppress(ConnectionResetError):
        assert await client.all() == b""
    assert server.app.seen == ["GET /wait"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_who_answers_learns_that_the_client_left_whatever_was_sent_ahead(
    server: Listening, ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    more = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * ahead
    client = await server.connect(b"GET /watch HTTP/1.1\r\nHost: a\r\n\r\n" + more)
    await until(lambda: server.app.seen and len(server.connections[0].pipeline) == ahead)
    server.connections[0].flow.resume_reading()  # else the end is seen when we next read
    client.writer.transport.abort()
    await until(lambda: server.app.ended == ["left"])
    assert server.app.seen == ["GET /watch"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_client_may_not_ask_for_everything_at_once(server: Listening) -> None:
    client = await server.connect(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: server.app.seen)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000)
    await until(lambda: server.connections[0].pipeline)
    server.app.go.set()
    got = statuses(await client.all())
    assert got == [200] * (len(got) - 1) + [400]
    assert len(got) < 100


async def test_what_is_sent_after_the_last_request_waits_outside(server: Listening) -> None:
    """The parser would skip it, gigabytes a second, for as long as the answer takes."""
    client = await server.connect(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await until(lambda: server.app.seen)
    client.send(bytes(32 << 20))
    await until(lambda: server.connections[0].flow.read_paused)
    server.app.go.set()
    await until(lambda: not server.connections)


# Answers before the body


def counted(server: Listening) -> list[int]:
    """Bytes that a connection is given, from now on."""
    [connection] = server.connections
    sizes: list[int] = []
    given = connection.data_received

    def counting(data: bytes) -> None:
        sizes.append(len(data))
        given(data)

    connection.transport.set_protocol(connection)
    connection.data_received = counting  # type: ignore[method-assign]
    connection.transport.set_protocol(connection)
    return sizes


@pytest.mark.parametrize("framing", [b"Content-Length: 5000000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", [b"refuse", b"ignore"])
async def test_of_a_body_that_was_not_wanted_no_more_than_a_mebibyte_is_read(
    server: Listening, path: bytes, framing: bytes
) -> None:
    client = await server.connect()
    sizes = counted(server)
    client.send(b"PUT /%s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % (path, framing))
    assert (b" 413 " in await client.head()) == (path == b"refuse")
    chunk = b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20))
    sent = await pour(client, chunk if b"chunked" in framing else bytes(1 << 20), 256 << 20)
    assert sent < 64 << 20  # what the sockets hold, on both sides
    assert sum(sizes) <= (1 << 20) + (256 << 10) + 200  # one read may be more than it
    await until(lambda: not server.connections)


@pytest.mark.parametrize("path", [b"refuse", b"ignore"])
async def test_who_stops_in_the_middle_of_a_body_that_was_not_wanted_is_left(
    server: Listening, path: bytes
) -> None:
    client = await server.connect(
        b"PUT /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc" % path
    )
    head = await client.head()
    server.later(0.5)
    assert server.crowd.counts == {}
    server.later(0.6)
    await until(lambda: not server.connections)
    assert (b"connection: close" in head) == (path == b"refuse")


async def test_the_end_is_seen_at_once_by_who_waits_for_it(server: Listening) -> None:
    """Not after the second in which we still read."""
    client = await server.connect(b"PUT /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    assert (await client.all()).endswith(b"too large")
    assert server.connections
    client.writer.close()
    await until(lambda: not server.connections)


async def test_a_small_body_that_nobody_read_costs_no_connection(server: Listening) -> None:
    client = await server.connect(b"PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    assert b" 200 " in await client.head()
    await client.body(b"who cares")
    client.send(b"x" * 9)
    await client.ask()
    server.later(10)
    await client.ask()


async def test_who_asked_before_sending_and_was_answered_may_not_go_on(server: Listening) -> None:
    """Whether the next bytes are the body or a request, only the client knows."""
    client = await server.connect(
        b"PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    )
    answer = await client.all()
    assert statuses(answer) == [200]
    assert b"connection: close" in answer


# HTTP/1.0


async def test_an_answer_without_a_length_has_no_chunks_in_http_1_0(server: Listening) -> None:
    head, _, body = (await server.say(b"GET /stream HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"onetwo"
    head, _, body = (
        await server.say(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    ).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_that_breaks_off_does_not_look_whole(
    server: Listening, version: bytes
) -> None:
    client = await server.connect(b"GET /break HTTP/%s\r\nHost: a\r\n\r\n" % version)
    if version == b"1.0":
        with pytest.raises(ConnectionResetError):
            await client.all()
    else:
        assert not (await client.all()).endswith(b"0\r\n\r\n")


async def test_lengths_and_heads_are_the_same_in_http_1_0(server: Listening) -> None:
    for method, path, body in [("GET", "", b"ok"), ("HEAD", "", b""), ("HEAD", "stream", b"")]:
        answer = await server.say(f"{method} /{path} HTTP/1.0\r\n\r\n".encode())
        head, _, got = answer.partition(b"\r\n\r\n")
        assert (b"content-length: 2" in head) == (path == "")
        assert got == body
