"""A connection over TLS: counted before its handshake is over, and left alone by the same rules."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from registry.commands.cert import name_of, write
from registry.tls import Certificates, certified
from tests.registry.connections.conftest import (
    Client,
    Listening,
    Secured,
    hold,
    listening,
    statuses,
    until,
)
from tests.registry.tls.authority import Authority

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a handshake begins
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Secure = Callable[..., Awaitable[Listening]]


@pytest.fixture
async def secure(secured: Secured) -> AsyncIterator[Secure]:
    async with AsyncExitStack() as stack:

        async def start(**given: Any) -> Listening:
            given.setdefault("certificates", Certificates(secured.files, "test"))
            return await stack.enter_async_context(listening(trust=secured.trust, **given))

        yield start


@pytest.fixture
async def server(secure: Secure) -> Listening:
    return await secure()


async def silent(server: Listening, data: bytes = b"") -> Client:
    """One that is there, and speaks no TLS."""
    there = len(server._state.connections)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    client = Client(reader, writer)
    server._clients.append(client)
    client.send(data)
    await until(lambda: len(server._state.connections) > there)
    return client


async def test_requests_are_answered(server: Listening) -> None:
    client = await server.connect()
    for _ in range(3):
        assert b" 200 " in await client.ask()
    assert server.crowd.counts == {}


async def test_a_request_sent_at_once_is_not_lost(server: Listening) -> None:
    """With TLS 1.3 it comes with the end of the handshake."""
    for _ in range(20):
        assert statuses(await server.say(GET + GET + CLOSE)) == [200, 200, 200]


async def test_a_large_body_comes_whole(server: Listening) -> None:
    client = await server.connect()
    client.send(b"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
    client.send(bytes(3_000_000))
    await client.head()
    await client.body(b"3000000")


@pytest.mark.parametrize("begun", [b"", HELLO[:1], HELLO])
async def test_a_client_that_stalls_in_the_handshake_is_cut(
    server: Listening, begun: bytes
) -> None:
    client = await silent(server, begun)
    server.later(9.5)
    assert len(server.crowd) == 1
    server.later(0.6)
    with pytest.raises(ConnectionResetError):
        await client.all()
    assert len(server.crowd) == 0
    assert server.crowd.counts == {"handshake": 1}


async def test_a_handshake_that_trickles_has_no_more_time(server: Listening) -> None:
    client = await silent(server, HELLO)
    for _ in range(11):
        client.send(b"\0")
        await asyncio.sleep(0)
        server.later(1)
    with pytest.raises(ConnectionResetError):
        await client.all()


async def test_connections_in_their_handshake_are_counted(secure: Secure) -> None:
    server = await secure(limit=3)
    for begun in (b"", HELLO, b""):
        await silent(server, begun)
    assert len(server.crowd) == 3
    client = await server.connect()  # the oldest of them goes for it
    assert b" 200 " in await client.ask()
    assert len(server.crowd) == 3
    assert server.crowd.counts["evicted"] == 1


async def test_what_is_no_tls_at_all_ends_the_handshake(server: Listening) -> None:
    client = await silent(server, b"\x16" + b"nonsense" * 100)
    await client.all()
    assert len(server.crowd) == 0
    assert server.crowd.counts == {"handshake": 1}


async def test_who_asks_without_tls_is_told_so(server: Listening) -> None:
    client = await silent(server, GET)
    answer = await client.all()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in answer
    assert server.app.seen == []
    await until(lambda: len(server.crowd) == 0)


async def test_who_leaves_in_the_handshake_is_forgotten(server: Listening) -> None:
    for begun in (b"", HELLO):
        client = await silent(server, begun)
        client.writer.transport.abort()
        await until(lambda: len(server.crowd) == 0)


async def test_stopping_waits_for_no_handshake(server: Listening) -> None:
    for begun in (b"", HELLO):
        await silent(server, begun)
    for connection in list(server._state.connections):
        connection.shutdown()
    await until(lambda: not server._state.connections)


# What holds for every connection


async def test_after_the_handshake_a_client_may_be_silent_as_long_as_without_tls(
    server: Listening,
) -> None:
    client = await server.connect()
    server.later(9.9)
    assert server.crowd.counts == {}
    server.later(0.2)
    assert await client.all() == b""
    assert server.crowd.counts == {"first_byte": 1}


async def test_a_header_has_fifteen_seconds(server: Listening) -> None:
    client = await server.connect(b"GET / HTTP/1.1\r\nHost: a\r\n")
    await until(lambda: server.connections[0]._reading.name == "HEAD")
    server.later(15.1)
    assert b" 408 " in await client.head()
    server.later(1.1)
    await client.all()
    await until(lambda: len(server.crowd) == 0)


async def test_an_idle_connection_goes(server: Listening) -> None:
    client = await server.connect()
    await client.ask()
    server.later(75.1)
    assert await client.all() == b""
    assert server.crowd.counts == {"idle": 1}


async def test_who_takes_nothing_of_an_answer_is_left(server: Listening) -> None:
    [connection] = await hold(server, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection._waiting() > 0
    server.later(0)
    server.later(60.1)
    await until(lambda: len(server.crowd) == 0)
    assert server.crowd.counts == {"stall": 1}


async def test_no_more_waits_for_a_client_than_without_tls(server: Listening) -> None:
    """asyncio lets half a mebibyte wait above TLS, and that for each that takes nothing."""
    await server.connect()
    [connection] = server.connections
    assert connection.transport.get_write_buffer_limits()[1] == 64 << 10  # type: ignore[attr-defined]


async def test_what_waits_under_tls_is_seen(server: Listening) -> None:
    """asyncio tells only of what waits above, which is nothing of an answer that was encrypted."""
    await hold(server, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    [connection] = server.connections
    assert connection.wire is not None
    under = connection.wire.get_write_buffer_size()
    assert under > 0
    assert connection._waiting() == under + connection.transport.get_write_buffer_size()


async def test_who_does_not_say_goodbye_is_not_waited_for(
    server: Listening, secured: Secured
) -> None:
    """asyncio would wait for the client's close_notify, for half a minute or longer."""
    raw = await silent(server)
    inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
    speaking = secured.trust.wrap_bio(inside, outside, server_hostname="127.0.0.1")
    while True:
        try:
            speaking.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.send(outside.read())
            inside.write(await raw.reader.read(1 << 16))
    speaking.write(CLOSE)
    raw.send(outside.read())
    await until(lambda: server.connections and server.connections[0].transport.is_closing())
    assert len(server.crowd) == 1
    server.later(0)
    server.later(1.1)
    await until(lambda: len(server.crowd) == 0)
    inside.write(await raw.all())
    assert statuses(speaking.read(1 << 16)) == [200]  # nothing of the answer was lost


# Certificates that change, and those of clients


async def test_new_connections_have_the_new_certificate_and_old_ones_go_on(
    secure: Secure, secured: Secured, tmp_path: Path
) -> None:
    copy = Secured(tmp_path / "tls")
    write(copy.directory, [name_of("127.0.0.1")], 30)
    certificates = Certificates(copy.files, "test")
    server = await secure(certificates=certificates)
    server.trust = copy.trust
    old = await server.connect()
    await old.ask()
    write(copy.directory, [name_of("127.0.0.1")], 30)
    certificates.look()
    await old.ask()  # what it was made with is not in the files any more
    with pytest.raises(ssl.SSLError):
        await server.connect()
    server.trust = copy.trust
    await (await server.connect()).ask()
    await old.ask()


@dataclass
class Asking:
    """A server that asks clients for certificates."""

    server: Listening
    authority: Authority
    trust: ssl.SSLContext

    async def name(self, file: Path | None) -> str | None:
        """As whom the application sees who shows the certificate in a file."""
        self.server.trust = self.trust
        if file is not None:
            self.trust.load_cert_chain(file)
        answered = await self.server.say(CLOSE)
        assert statuses(answered) == [200]
        return certified(self.server.app.scope)


@pytest.fixture
async def asking(
    secure: Secure, secured: Secured, tmp_path: Path, request: pytest.FixtureRequest
) -> Asking:
    authority = Authority(tmp_path / "clients")
    files = replace(
        secured.files, authorities=authority.file, required=getattr(request, "param", False)
    )
    server = await secure(certificates=Certificates(files, "test"))
    return Asking(server, authority, secured.trust)


async def test_a_client_is_who_its_certificate_says(asking: Asking) -> None:
    assert await asking.name(asking.authority.client("ada")) == "ada"


async def test_who_shows_no_certificate_has_no_name(asking: Asking) -> None:
    assert await asking.name(None) is None


@pytest.mark.parametrize("asking", [True], indirect=True)
async def test_who_has_to_show_one_and_does_not_is_sent_away(asking: Asking) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        await asking.name(None)
    assert asking.server.app.seen == []
    assert await asking.name(asking.authority.client("ada")) == "ada"


@pytest.mark.parametrize("wrong", ["ended", "for servers", "of another authority"])
async def test_a_certificate_that_proves_nothing_is_refused(
    asking: Asking, wrong: str, tmp_path: Path
) -> None:
    authority = asking.authority
    if wrong == "of another authority":  # of the same name
        authority = Authority(tmp_path / "others")
    file = authority.client("ada", ended=wrong == "ended", server=wrong == "for servers")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        await asking.name(file)
    assert asking.server.app.seen == []
