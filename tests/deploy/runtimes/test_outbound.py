"""Where a component may send requests: the grammar, and requests of a real guest."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import h11
import pytest

from registry.deploy.runtimes.wasmtime.outbound import HostPattern, HostPatternInvalid, Outbound

ALLOWED = [
    # pattern, scheme, host, port, whether it allows
    ("https://example.com", "https", "example.com", 443, True),
    ("https://example.com", "https", "EXAMPLE.com.", 443, True),
    ("https://example.com", "http", "example.com", 80, False),
    ("https://example.com", "https", "example.com", 8443, False),
    ("https://example.com", "https", "a.example.com", 443, False),
    ("https://example.com", "https", "example.com.evil.test", 443, False),
    ("https://example.com/", "https", "example.com", 443, True),
    ("http://example.com:8080", "http", "example.com", 8080, True),
    ("http://example.com:8080", "http", "example.com", 80, False),
    ("*://example.com", "http", "example.com", 80, True),
    ("*://example.com", "https", "example.com", 443, True),
    ("*://example.com", "https", "example.com", 80, False),
    ("*://example.com:*", "https", "example.com", 80, True),
    ("https://*.example.com", "https", "a.example.com", 443, True),
    ("https://*.example.com", "https", "a.b.example.com", 443, True),
    ("https://*.example.com", "https", "example.com", 443, False),
    ("https://*.example.com", "https", ".example.com", 443, False),
    ("https://*.example.com", "https", "badexample.com", 443, False),
    ("https://*", "https", "anything.test", 443, True),
    ("https://*:*", "https", "anything.test", 9, True),
    ("http://h:8000..9000", "http", "h", 8000, True),
    ("http://h:8000..9000", "http", "h", 9000, True),
    ("http://h:8000..9000", "http", "h", 9001, False),
    ("http://h:{80,8000..8002}", "http", "h", 80, True),
    ("http://h:{80,8000..8002}", "http", "h", 8001, True),
    ("http://h:{80,8000..8002}", "http", "h", 81, False),
    ("http://10.0.0.0/8:*", "http", "10.1.2.3", 80, True),
    ("http://10.0.0.0/8:*", "http", "11.1.2.3", 80, False),
    ("http://10.0.0.0/8:*", "http", "ten.test", 80, False),
    ("http://127.0.0.1", "http", "127.0.0.1", 80, True),
    ("http://127.0.0.1", "http", "127.0.0.2", 80, False),
    ("http://[::1]:80", "http", "[::1]", 80, True),
    ("http://self", "http", "self", 80, False),  # a name that only `self` itself has
]


@pytest.mark.parametrize(("pattern", "scheme", "host", "port", "allowed"), ALLOWED)
def test_a_pattern_allows_its_hosts(pattern, scheme, host, port, allowed):
    assert Outbound.parse([pattern]).allows(scheme, host, port) is allowed


def test_nothing_is_allowed_without_a_pattern():
    assert not Outbound().allows("https", "example.com", 443)
    assert not Outbound().allows_self


def test_self_is_its_own_pattern():
    assert Outbound.parse(["http://self"]).allows_self
    assert not Outbound.parse(["http://*:*"]).allows_self


LEGACY = [
    ("example.com", "https", "example.com", 443, True),
    ("example.com", "http", "example.com", 80, True),
    ("example.com:8080", "http", "example.com", 8080, True),
    ("https://example.com", "https", "example.com", 443, True),
    ("insecure:allow-all", "http", "anything.test", 1, True),
    ("example.com", "https", "other.test", 443, False),
]


@pytest.mark.parametrize(("pattern", "scheme", "host", "port", "allowed"), LEGACY)
def test_the_older_list_of_hosts_is_understood(pattern, scheme, host, port, allowed):
    assert Outbound.parse([], [pattern]).allows(scheme, host, port) is allowed


BAD = [
    "example.com",
    "https://",
    "https://example.com/path",
    "https://user@example.com",
    "https://ex*mple.com",
    "https://example.com:x",
    "https://example.com:9..1",
    "https://example.com:70000",
    "redis://example.com",  # no usual port
    "http://10.0.0.0/99",
    "insecure:allow-all",
    "",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_pattern_is_said_so(text):
    with pytest.raises(HostPatternInvalid):
        HostPattern.parse(text)


# With a real guest, and a server on the loopback interface


@asynccontextmanager
async def upstream(answer):
    """A server; `answer` takes a connection's reader and writer. Yields its authority."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def echo(reader, writer):
    wire = h11.Connection(h11.SERVER)
    body, request = b"", None
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            break
    headers = dict(request.headers)
    text = b"%b %b %b " % (request.method, request.target, headers[b"x-from"])
    response = [("x-upstream", "yes"), ("connection", "close")]
    writer.write(wire.send(h11.Response(status_code=201, headers=response)))
    writer.write(wire.send(h11.Data(data=text + body)))
    writer.write(wire.send(h11.EndOfMessage()))
    await writer.drain()
    writer.close()


def fetching(app, python_app, *hosts):
    return app(
        {"py": python_app}, extra={"py": {"metadata": {"allowed_outbound_hosts": list(hosts)}}}
    )


async def test_a_guest_reaches_an_allowed_host(start, app, python_app):
    async with upstream(echo) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        reply = await running.request(f"/fetch?http://{authority}/a?b=c")
        assert reply.status == 201
        assert reply.headers["x-upstream"] == "yes"
        assert reply.body == b"GET /a?b=c guest "


async def test_a_guest_streams_a_body_out(start, app, python_app):
    async with upstream(echo) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        body = b"0123456789" * 100_000
        reply = await running.request(f"/fetch?http://{authority}/", method="POST", body=body)
        assert reply.body == b"POST / guest " + body


async def test_what_an_upstream_sends_is_passed_on_as_it_comes(start, app, python_app):
    more = asyncio.Event()

    async def slowly(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")
        await more.wait()
        writer.write(b"later")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(10), upstream(slowly) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        async with running.exchange() as exchange:
            await exchange.begin("GET", f"/fetch?http://{authority}/")
            await exchange.send(h11.EndOfMessage())
            assert (await exchange.event()).status_code == 200
            assert (await exchange.event()).data == b"first"
            more.set()
            assert (await exchange.event()).data == b"later"


async def test_a_host_that_is_not_allowed_is_denied_and_logged(start, app, python_app):
    running = await start(fetching(app, python_app, "https://example.com"), private_networks=True)
    reply = await running.request("/fetch?http://127.0.0.1:9/")
    assert (reply.status, reply.body) == (502, b"ErrorCode_HttpRequestDenied")
    assert "http://127.0.0.1:9" in running.lines()[-1]["line"]


async def test_a_private_address_is_denied_even_where_the_name_is_allowed(start, app, python_app):
    async with upstream(echo) as authority:
        running = await start(fetching(app, python_app, "http://*:*"))
        reply = await running.request(f"/fetch?http://{authority}/")
        assert reply.body == b"ErrorCode_DestinationIpProhibited"
        assert "runtime.private_networks" in running.lines()[-1]["line"]
        port = authority.partition(":")[2]
        reply = await running.request(f"/fetch?http://localhost:{port}/")
        assert reply.body == b"ErrorCode_DestinationIpProhibited"


async def test_a_redirect_is_the_guests_to_follow(start, app, python_app):
    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    async with upstream(redirect) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        assert (await running.request(f"/fetch?http://{authority}/")).status == 302


async def test_a_refused_connection_is_an_error_of_its_own(start, app, python_app):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        reply = await running.request(f"/fetch?http://127.0.0.1:{port}/")
    assert reply.body == b"ErrorCode_ConnectionRefused"


async def test_a_body_that_an_upstream_cuts_short_is_not_a_whole_response(start, app, python_app):
    async def cut(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with upstream(cut) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        reply = await running.request(f"/fetch?http://{authority}/")
        assert not reply.whole or reply.status == 500


async def test_an_upstream_that_never_answers_ends_at_the_time_limit(start, app, python_app):
    async def never(reader, writer):
        await reader.read()
        writer.close()

    async with upstream(never) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True, wall=0.7)
        reply = await running.request(f"/fetch?http://{authority}/")
        assert reply.status in (502, 504)
        assert (await running.request("/hello")).status == 200


async def test_what_is_not_tls_is_an_error_of_its_own(start, app, python_app):
    async def plain(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with upstream(plain) as authority:
        made = fetching(app, python_app, "https://127.0.0.1:*")
        running = await start(made, private_networks=True)
        reply = await running.request(f"/fetch?https://{authority}/")
        assert reply.body == b"ErrorCode_TlsProtocolError"


async def test_an_answer_before_the_end_of_the_request_is_the_answer(start, app, python_app):
    async def early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        writer.write_eof()
        while await reader.read(65536):
            pass
        writer.close()

    async with upstream(early) as authority:
        made = fetching(app, python_app, "http://127.0.0.1:*")
        running = await start(made, private_networks=True)
        reply = await running.request(
            f"/fetch?http://{authority}/", method="POST", body=bytes(2_000_000)
        )
        assert (reply.status, reply.body) == (413, b"no")


async def test_an_app_calls_itself(start, app, python_app):
    running = await start(fetching(app, python_app, "http://self"))
    reply = await running.request("/fetch?http://self/hello")
    assert reply.body == b"hello from Python"


async def test_an_app_does_not_call_itself_unasked(start, app, python_app):
    running = await start(fetching(app, python_app, "http://*:*"))
    reply = await running.request("/fetch?http://self/hello")
    assert reply.body == b"ErrorCode_HttpRequestDenied"


async def test_variables_in_allowed_hosts_are_filled_in(start, app, python_app):
    async with upstream(echo) as authority:
        made = fetching(app, python_app, "http://{{ upstream }}")
        running = await start(made, private_networks=True, variables={"upstream": authority})
        assert (await running.request(f"/fetch?http://{authority}/")).status == 201
