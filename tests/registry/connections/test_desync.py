"""What two programs in a row could read in two ways: answered once, and nothing after it.

Every payload is followed by what a proxy may take for its body, and we must never take for a
request.
"""

from __future__ import annotations

from typing import Final

import pytest

from registry.server import GATEWAY
from tests.registry.connections.conftest import Listen, Listening, statuses, until

SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST: Final = b"POST /read HTTP/1.1\r\nHost: a\r\n"
GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n"
LENGTH: Final = b"Content-Length: 3\r\n"
END: Final = b"0\r\n\r\n"

HEADS: Final = [
    ("length before chunks", POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + END),
    ("chunks before length", CHUNKED + LENGTH + b"\r\n" + END),
    ("length of nothing and chunks", CHUNKED + b"Content-Length: 0\r\n\r\n" + END),
    ("length, and chunks in HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0") + b"\r\n" + END),
    ("two lengths that agree", POST + LENGTH + LENGTH + b"\r\nabc"),
    ("two lengths that differ", POST + LENGTH + b"Content-Length: 0\r\n\r\nabc"),
    ("a list of lengths", POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    ("a length with a sign", POST + b"Content-Length: +3\r\n\r\nabc"),
    ("a negative length", POST + b"Content-Length: -1\r\n\r\n"),
    ("a hexadecimal length", POST + b"Content-Length: 0x3\r\n\r\nabc"),
    ("a length in two parts", POST + b"Content-Length: 1 3\r\n\r\nabc"),
    ("a length with a fraction", POST + b"Content-Length: 3.0\r\n\r\nabc"),
    ("an empty length", POST + b"Content-Length:\r\n\r\n"),
    ("a length that overflows", POST + b"Content-Length: 18446744073709551619\r\n\r\nabc"),
    ("a length that is too long", POST + b"Content-Length: 00000000000000000003\r\n\r\nabc"),
    ("a length in Arabic digits", POST + b"Content-Length: \xd9\xa3\r\n\r\nabc"),
    ("a length behind a NUL", POST + b"Content-Length: \x003\r\n\r\nabc"),
    ("space before the colon of a length", POST + b"Content-Length : 3\r\n\r\nabc"),
    ("a tab before the colon of chunks", POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + END),
    ("space before the name", POST + b" Content-Length: 3\r\n\r\nabc"),
    ("a folded line", POST + b"X: y\r\n Content-Length: 3\r\n\r\nabc"),
    ("folded chunks", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END),
    ("a line break alone", POST + b"X: y\nContent-Length: 3\r\n\r\nabc"),
    ("a carriage return alone", POST + b"X: y\rContent-Length: 3\r\n\r\nabc"),
    ("a head that ends with a line break alone", POST + b"X: y\r\n\n"),
    ("two carriage returns", POST + b"X: y\r\r\n\r\n"),
    ("a NUL in a value", GET + b"X: a\0b\r\n\r\n"),
    ("a NUL in a name", GET + b"X\0Y: a\r\n\r\n"),
    ("a control character in a value", GET + b"X: a\x01b\r\n\r\n"),
    ("a field without a name", GET + b": a\r\n\r\n"),
    ("a field without a colon", GET + b"X\r\n\r\n"),
    ("chunks behind another coding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END),
    ("chunks before another coding", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END),
    ("chunks in chunks", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END),
    ("chunks twice", CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + END),
    ("chunks, and identity", CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + END),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n"),
    ("a coding that ends like chunks", POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END),
    ("a coding that begins like chunks", POST + b"Transfer-Encoding: chunkedx\r\n\r\n" + END),
    ("a quoted coding", POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END),
    ("a coding with a parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + END),
    ("an empty coding before chunks", POST + b"Transfer-Encoding: ,chunked\r\n\r\n" + END),
    ("an empty coding", POST + b"Transfer-Encoding:\r\n\r\n" + END),
    ("a vertical tab before chunks", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", GET + b"Host: b\r\n\r\n"),
    ("the same Host twice", GET + b"Host: a\r\n\r\n"),
    ("a Host with a user", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    ("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("a target of another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with a user", b"GET http://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target without a slash", b"GET v2/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target that begins with an at sign", b"GET @a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target of all", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target for a proxy", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with a space", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with a tab", b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with a NUL", b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with an encoded NUL", b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target with a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target that is not ASCII", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a version with a space", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("a version that is none", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("a version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]
OTHERS: Final = [
    ("HTTP/0.9 by its form", b"GET /\r\n\r\n", 505),
    ("HTTP/0.9 by its name", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("no method", b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ("TLS", bytes.fromhex("16030100c8010000c40303"), 501),
    ("a method that nobody knows", b"SMUGGLE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
]
BODIES: Final = [
    ("a line break alone behind a size", b"1\na\r\n" + END),
    ("a carriage return alone behind a size", b"1\ra\r\n" + END),
    ("a line break alone behind a chunk", b"1\r\na\n" + END),
    ("a chunk that is longer than its size", b"1\r\nab\r\n" + END),
    ("a size that is none", b"g\r\na\r\n" + END),
    ("a size with a prefix", b"0x1\r\na\r\n" + END),
    ("a size with a sign", b"+1\r\na\r\n" + END),
    ("a negative size", b"-1\r\na\r\n" + END),
    ("a size with an underscore", b"1_0\r\na\r\n" + END),
    ("space before a size", b" 1\r\na\r\n" + END),
    ("space behind a size", b"1 \r\na\r\n" + END),
    ("a size that overflows", b"FFFFFFFFFFFFFFFFF\r\na\r\n" + END),
    ("no size", b"\r\na\r\n" + END),
    ("a line break in an extension", b"1;x\ny\r\na\r\n" + END),
    ("a quoted line break in an extension", b'1;x="\n"\r\na\r\n' + END),
    ("an extension of nothing", b"1;\r\na\r\n" + END),
    ("a length in the trailers", b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("chunks in the trailers", b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("a folded trailer", b"1\r\na\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ("trailers that end with a line break alone", b"1\r\na\r\n0\r\n\n"),
]


@pytest.mark.parametrize(("name", "payload"), HEADS, ids=[name for name, _ in HEADS])
async def test_a_head_with_two_readings(server: Listening, name: str, payload: bytes) -> None:
    assert statuses(await server.say(payload + SMUGGLED)) == [400]
    assert server.app.seen == []


@pytest.mark.parametrize(("name", "payload", "status"), OTHERS, ids=[name for name, _, _ in OTHERS])
async def test_a_first_line_that_is_not_of_http_1(
    server: Listening, name: str, payload: bytes, status: int
) -> None:
    assert statuses(await server.say(payload + SMUGGLED)) == [status]
    assert server.app.seen == []


@pytest.mark.parametrize(("name", "payload"), BODIES, ids=[name for name, _ in BODIES])
async def test_a_body_with_two_readings(server: Listening, name: str, payload: bytes) -> None:
    assert statuses(await server.say(CHUNKED + b"\r\n" + payload + SMUGGLED)) == [400]
    await until(lambda: server.app.ended)
    assert server.app.seen == ["POST /read"]
    assert server.app.ended[0].startswith("left after")


EVERYTHING: Final = [
    *((name, payload, 400) for name, payload in HEADS),
    *OTHERS,
    *((name, CHUNKED + b"\r\n" + payload, 400) for name, payload in BODIES),
    ("what is good", CHUNKED + b"Connection: close\r\n\r\n1\r\na\r\n" + END, 200),
]


@pytest.mark.parametrize(
    ("name", "payload", "status"), EVERYTHING, ids=[name for name, _, _ in EVERYTHING]
)
async def test_how_it_is_cut_makes_no_difference(
    server: Listening, name: str, payload: bytes, status: int
) -> None:
    client = await server.connect()
    [connection] = server.connections
    for byte in payload + SMUGGLED:
        connection.data_received(bytes([byte]))
    assert statuses(await client.all()) == [status]
    assert "GET /smuggled" not in server.app.seen


@pytest.mark.parametrize("name", ["encoded NUL", "fragment"])
async def test_what_means_something_to_an_application_reaches_it(listen: Listen, name: str) -> None:
    [payload] = [payload for row, payload in HEADS if row == f"a target with {_article(name)}"]
    server = await listen(GATEWAY)
    client = await server.connect(payload)
    assert b" 200 " in await client.head()


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


async def test_what_has_one_reading_is_answered(server: Listening) -> None:
    """Else all of the above could be refused for another reason."""
    requests = [
        GET + b"\r\n",
        b"\r\n" + GET + b"\r\n",  # RFC 9112, 2.2: "SHOULD ignore at least one empty line"
        b"GET http://a/ HTTP/1.1\r\nHost: A\r\n\r\n",
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
        POST + LENGTH + b"\r\nabc",
        CHUNKED + b"\r\n3\r\nabc\r\n" + END,
        CHUNKED + b"\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
        GET + b"Connection: close\r\n\r\n",
    ]
    assert statuses(await server.say(b"".join(requests))) == [200] * len(requests)
    assert "GET /smuggled" not in server.app.seen


UPGRADE: Final = b"POST /read HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("framing", "body", "size"),
    [
        (b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, len(SMUGGLED)),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n" % (len(SMUGGLED), SMUGGLED) + END, 0),
        (b"Content-Length: 0\r\n", b"", 0),
    ],
    ids=["length", "chunks", "nothing"],
)
async def test_the_body_of_who_asks_for_another_protocol_is_a_body(
    server: Listening, framing: bytes, body: bytes, size: int, at_once: bool
) -> None:
    """RFC 9110, 7.8: "A server MAY ignore a received Upgrade header field". Java asks so."""
    size = size or (len(SMUGGLED) if body else 0)
    last = UPGRADE.replace(b"Upgrade\r\n", b"Upgrade, close\r\n", 1)
    requests = UPGRADE + framing + b"\r\n" + body + GET + b"\r\n" + last + framing + b"\r\n" + body
    client = await server.connect()
    [connection] = server.connections
    for byte in [requests + SMUGGLED] if at_once else [bytes([b]) for b in requests + SMUGGLED]:
        connection.data_received(byte)
    answer = await client.all()
    assert statuses(answer) == [200] * 3
    assert answer.count(b"\r\n\r\n%d" % size) == 2
    assert server.app.seen == ["POST /read", "GET /", "POST /read"]


@pytest.mark.parametrize(("name", "payload"), BODIES, ids=[name for name, _ in BODIES])
async def test_and_is_held_to_the_same(server: Listening, name: str, payload: bytes) -> None:
    head = UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(await server.say(head + payload + SMUGGLED)) == [400]
    assert server.app.seen == ["POST /read"]


async def test_nothing_follows_the_last_request(server: Listening) -> None:
    answer = await server.say(GET + b"Connection: close\r\n\r\n" + SMUGGLED)
    assert statuses(answer) == [200]
    assert server.app.seen == ["GET /"]


async def test_trailers_do_not_become_headers(server: Listening) -> None:
    await server.say(CHUNKED + b"Connection: close\r\n\r\n0\r\nX-Admin: yes\r\n\r\n")
    assert server.app.ended == ["/read"]
    assert b"x-admin" not in dict(server.app.headers)
    assert b"host" in dict(server.app.headers)
