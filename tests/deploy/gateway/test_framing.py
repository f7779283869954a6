"""What arrives at the instance, and what arrives at the client, byte for byte."""

from __future__ import annotations

import asyncio
import json

import pytest

HOST = "hello.apps.example"


def head(method: str, *fields: str) -> bytes:
    """A request's first line and fields, sent to the app."""
    return "\r\n".join([f"{method} / HTTP/1.1", f"Host: {HOST}", *fields, "", ""]).encode()


def lines(head: bytes) -> list[str]:
    """The fields, save the date that the gateway adds."""
    return [line for line in head.decode().split("\r\n")[1:-2] if not line.startswith("date:")]


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
async def instance(start, front):
    instance = await start()
    front.routes.point(HOST, instance.target())
    return instance


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/b?x=1&y=%20&z=+",
        "/a/../b",  # dot segments are the application's
        "/./a/%2e%2e/b",
        "/a%2Fb%2fc",  # neither decoded nor re-cased
        "/%00%7E~%41",
        "//two//slashes",
        "/@evil:80/x",
        "/a;b=c:d,e!$&'()*+",
        "/%zz%",  # not even valid encoding
        '/"<>\\^`{|}',
        "/x?a=%2B+&&==?/../#",
        "/http://other.example/x",
    ],
)
async def test_path_and_query_arrive_as_they_were_sent(front, instance, target):
    await front.get(target)
    line = instance.heads[0].split(b"\r\n")[0].decode()
    assert line == f"GET {target.partition('#')[0]} HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_methods_are_passed(front, instance, method):
    answer = await front.get(method=method)
    assert instance.heads[0].startswith(f"{method} / HTTP/1.1\r\n".encode())
    assert body_of(answer) == b"one"


async def test_connect_is_not_allowed(front, instance):
    answer = await front.exchange(f"CONNECT a:80 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"400", b"405")
    assert instance.heads == []


async def test_fields_arrive_in_order_with_duplicates_and_nothing_added(front, instance):
    await front.get("/", "X-B: 2", "X-A: 1", "X-B: 3", "Cookie: a=b; c", "X-U: grün", "X-Empty:")
    assert lines(instance.heads[0]) == [
        f"host: {HOST}",
        "x-b: 2",
        "x-a: 1",
        "x-b: 3",
        "cookie: a=b; c",
        "x-u: grün",
        "x-empty: ",
        "x-forwarded-for: 127.0.0.1",
        lines(instance.heads[0])[8],
        f"x-forwarded-host: {HOST}",
        "x-forwarded-proto: http",
    ]
    assert lines(instance.heads[0])[8].startswith("x-spindle-client-addr: 127.0.0.1:")


async def test_the_host_arrives_as_the_client_wrote_it(front, instance):
    await front.exchange(
        b"GET / HTTP/1.1\r\nHost: HELLO.Apps.example.:81\r\nConnection: close\r\n\r\n"
    )
    assert lines(instance.heads[0])[0] == "host: HELLO.Apps.example.:81"


@pytest.mark.parametrize(
    "line",
    [
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eA==",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQ",
        "Spin-Path-Info: /forged",
        "SPIN-Full-Url: http://forged",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Prefix: /forged",
        "X-Real-IP: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Spindle-Client-Addr: 6.6.6.6:6",
        "X-Spindle-Scheme: forged",
        "Expect: 100-continue",
    ],
)
async def test_fields_that_must_not_pass_are_stopped(front, instance, line):
    """RFC 9110 section 7.6.1, and what only the gateway or the host may say."""
    await front.get("/", line)
    name, _, value = line.partition(": ")
    assert not any(f"{name}: {value}".lower() == got.lower() for got in lines(instance.heads[0]))
    assert "6.6.6.6" not in instance.heads[0].decode()


async def test_fields_named_by_connection_are_stopped(front, instance):
    await front.get("/", "Connection: x-private, content-length", "X-Private: 1", "X-Public: 1")
    got = lines(instance.heads[0])
    assert "x-public: 1" in got
    assert "x-private: 1" not in got


async def test_connection_cannot_name_what_gives_the_request_its_meaning(front, instance):
    await front.get("/", "Connection: cookie, authorization, host", "Cookie: a", "Authorization: b")
    got = lines(instance.heads[0])
    assert got[:3] == [f"host: {HOST}", "cookie: a", "authorization: b"]


async def test_a_field_that_is_not_utf8_is_refused(front, instance):
    answer = await front.exchange(
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nX-A: ".encode() + b"\xff\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert instance.heads == []


@pytest.mark.parametrize("hosts", [[], [HOST, HOST], [HOST, "other.example"]])
async def test_anything_but_one_host_is_refused(front, instance, hosts):
    fields = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = await front.exchange(f"GET / HTTP/1.1\r\n{fields}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert instance.heads == []


async def test_websockets_are_refused_and_the_connection_ends(front, instance):
    answer = await front.exchange(
        f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert instance.heads == []


async def test_another_upgrade_is_ignored_and_the_connection_goes_on(front, instance):
    reader, writer = await front.connect()
    writer.write(
        head("GET", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
    )
    assert (await reader.readuntil(b"one")).startswith(b"HTTP/1.1 200 ")
    writer.write(head("GET"))
    assert (await reader.readuntil(b"one")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert b"upgrade" not in instance.heads[0].lower()


async def test_a_body_of_known_length_keeps_its_length(front, instance):
    async def echo(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + await reader.readexactly(5))

    instance.behave = echo
    answer = await front.exchange(head("POST", "Connection: close", "Content-Length: 5") + b"hello")
    assert body_of(answer) == b"hello"
    assert "content-length: 5" in lines(instance.heads[0])
    assert b"transfer-encoding" not in instance.heads[0].lower()


async def test_a_chunked_body_arrives_chunked(front, instance):
    got = bytearray()

    async def collect(instance, head, reader, writer):
        got.extend(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    instance.behave = collect
    await front.exchange(
        head("POST", "Connection: close", "Transfer-Encoding: chunked")
        + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    arrived = instance.heads[0].lower()
    assert arrived.count(b"transfer-encoding: chunked\r\n") == 1
    assert b"content-length" not in arrived
    assert got == b"5\r\nabcde\r\n0\r\n\r\n"


async def test_a_get_with_a_body_keeps_it(front, instance):
    async def echo(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + await reader.readexactly(5))

    instance.behave = echo
    answer = await front.exchange(head("GET", "Connection: close", "Content-Length: 5") + b"hello")
    assert body_of(answer) == b"hello"


async def test_the_client_is_told_to_continue_before_it_sends_the_body(front, instance):
    async def echo(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + await reader.readexactly(5))

    instance.behave = echo
    reader, writer = await front.connect()
    writer.write(head("PUT", "Content-Length: 5", "Expect: 100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_an_unknown_host_is_refused_before_the_client_sends_the_body(front):
    answer = await front.exchange(
        b"PUT / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\nContent-Length: 5\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404 ")


def raw(answer: bytes):
    async def behave(instance, head, reader, writer):
        writer.write(answer)

    return behave


async def test_the_answer_keeps_status_fields_and_duplicates(front, instance):
    instance.behave = raw(
        b"HTTP/1.1 418 Teapot\r\nSet-Cookie: a=1\r\nX-Z: 1\r\nSet-Cookie: b=2\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    )
    answer = await front.get()
    assert answer.startswith(b"HTTP/1.1 418 ")
    assert lines(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n") == [
        "set-cookie: a=1",
        "x-z: 1",
        "set-cookie: b=2",
        "content-encoding: gzip",  # nothing is decompressed
        "content-length: 3",
        "connection: close",
    ]
    assert body_of(answer) == b"abc"


@pytest.mark.parametrize("own", [b"", b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"])
async def test_an_answer_has_one_date_and_an_apps_own_is_kept(front, instance, own):
    instance.behave = raw(b"HTTP/1.1 200 OK\r\n" + own + b"Content-Length: 0\r\n\r\n")
    answer = (await front.get()).lower()
    assert answer.count(b"\r\ndate:") == 1
    assert own.lower() in answer


async def test_cookies_of_an_answer_are_not_sent_with_the_next_request(front, instance):
    instance.behave = raw(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n")
    await front.get()
    await front.get()
    assert b"cookie" not in instance.heads[1].lower()


async def test_a_redirect_goes_to_the_client(front, instance):
    instance.behave = raw(b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
    answer = await front.get()
    assert answer.startswith(b"HTTP/1.1 302 ")
    assert len(instance.heads) == 1


async def test_hop_by_hop_fields_of_an_answer_are_stopped(front, instance):
    instance.behave = raw(
        b"HTTP/1.1 200 OK\r\nConnection: x-private, keep-alive\r\nX-Private: 1\r\n"
        b"Keep-Alive: timeout=9\r\nTrailer: x\r\nContent-Length: 0\r\nX-Public: 1\r\n\r\n"
    )
    answer = (await front.get()).lower()
    assert b"x-public: 1" in answer
    assert b"x-private" not in answer
    assert b"keep-alive" not in answer
    assert b"trailer" not in answer


async def test_an_answer_without_length_is_chunked(front, instance):
    instance.behave = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    answer = await front.get()
    assert answer.lower().count(b"transfer-encoding: chunked") == 1
    assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


async def test_an_answer_with_both_chunks_and_a_length_is_not_passed(front, instance):
    """RFC 9112 section 6.1: it may be an attempt at smuggling; the client library refuses it."""
    instance.behave = raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    assert (await front.get()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b"content-length: 7"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n", None),
    ],
)
async def test_answers_without_a_body_have_none(front, instance, method, head, length):
    instance.behave = raw(head)
    reader, writer = await front.connect()
    writer.write(f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert length is None or length in got.lower()
    assert b"transfer-encoding" not in got.lower()
    writer.write(f"{method} /again HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(head[:12])
    writer.close()


async def test_early_hints_do_not_disturb_the_answer(front, instance):
    instance.behave = raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = await front.get()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert body_of(answer) == b"ok"


async def test_the_reserved_prefix_is_answered_by_the_instance(front, instance):
    assert body_of(await front.get("/.well-known/spin/health")) == b"one"
    assert instance.heads[0].startswith(b"GET /.well-known/spin/health ")


async def test_an_app_without_an_instance_is_503_and_says_when_to_come_again(front):
    front.routes.know(HOST)
    for path in ("/", "/.well-known/spin/health"):
        answer = await front.get(path)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert json.loads(body_of(answer))["errors"][0]["code"] == "NOT_RUNNING"


async def test_an_unknown_host_learns_nothing(front, instance):
    answer = await front.exchange(
        b"GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body_of(answer)) == {
        "errors": [{"code": "HOST_UNKNOWN", "message": "No application lives at this host."}]
    }


async def test_requests_that_can_be_repeated_share_a_connection(front, instance):
    for _ in range(5):
        await front.get()
    assert instance.accepted == 1
