"""A server that is told to stop: what is idle ends at once, what was begun ends well."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import pytest

from registry.connections import Connection
from registry.crowd import Crowd
from registry.server import REGISTRY, Listener, address, bind
from registry.settings import ConnectionSettings, Listen
from tests.registry.connections.conftest import PATIENCE, Application, Client, statuses, until


class Serving:
    def __init__(self, grace: int) -> None:
        clock = asyncio.get_running_loop().time
        self.clients: list[Client] = []
        self.app = Application()
        self.crowd = Crowd(ConnectionSettings(), "test", limit=1000, clock=clock)
        self.listener = Listener(self.app, self.crowd, REGISTRY, grace=grace)
        self._socket = bind(Listen("127.0.0.1", 0))
        self.port = address(self._socket).port
        self.task = asyncio.create_task(self.listener.serve(sockets=[self._socket]))

    @property
    def connections(self) -> list[Connection]:
        found = self.listener.server_state.connections
        return [one for one in found if isinstance(one, Connection)]

    async def connect(self, data: bytes = b"") -> Client:
        before = len(self.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await until(lambda: len(self.connections) > before)
        writer.write(data)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    def stop(self) -> None:
        self.listener.leave(kindly=False)

    def retire(self) -> None:
        self.listener.leave(kindly=True)


@asynccontextmanager
async def serving(grace: int = 20) -> AsyncIterator[Serving]:
    running = Serving(grace)
    await until(lambda: running.listener.started)
    yield running
    running.stop()
    running.app.go.set()
    for client in running.clients:
        client.writer.transport.abort()
    await asyncio.wait_for(running.task, PATIENCE)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


async def test_who_rests_or_has_not_asked_is_left_at_once() -> None:
    async with serving() as server:
        silent, begun, resting = [await server.connect(data) for data in (b"", b"GET / HT", b"")]
        await resting.ask()
        waiting = await server.connect(WAIT)
        await until(lambda: "GET /wait" in server.app.seen)
        server.stop()
        for client in (silent, begun, resting):
            assert await client.all() == b""
        assert len(server.connections) == 1
        server.app.go.set()
        answer = await waiting.all()
        assert statuses(answer) == [200]
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.endswith(b"at last")


async def test_an_upload_that_is_on_its_way_may_end() -> None:
    async with serving() as server:
        client = await server.connect(PUT + bytes(500))
        await until(lambda: server.app.seen)
        server.stop()
        await until(lambda: not server.listener.servers[0].is_serving())
        client.send(bytes(500))
        answer = await client.all()
        assert statuses(answer) == [200]
        assert b"\r\nconnection: close\r\n" in answer
        assert server.app.ended == ["/read"]


async def test_who_comes_too_late_is_not_accepted() -> None:
    async with serving() as server:
        await server.connect(WAIT)
        await until(lambda: server.app.seen)
        server.stop()
        await until(lambda: not server.listener.servers[0].is_serving())
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_an_upload_that_takes_too_long_sees_its_client_leave_and_is_not_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So it keeps what came, and the client can go on with the next server."""
    async with serving(grace=1) as server:
        client = await server.connect(PUT + bytes(500))
        await until(lambda: server.app.seen and server.connections[0]._body == 500)
        server.stop()
        with pytest.raises(ConnectionResetError):
            await client.all()
        await until(lambda: server.app.ended)
        assert server.app.ended == ["left after 500"]
        await asyncio.wait_for(server.task, PATIENCE)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_kernel_is_told_how_long_to_wait_and_how_much_to_keep() -> None:
    """Once, by what is listened on: a connection has its options from there."""
    async with serving() as server:
        await server.connect()
        [connection] = server.connections
        accepted = connection.transport.get_extra_info("socket")
        for level, option, least, most in [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, 1),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1, 60),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1, 15),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1, 4),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1, 60_000),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 1, 128 << 10),
        ]:
            assert least <= accepted.getsockopt(level, option) <= most


def test_uvicorn_is_the_one_that_was_read() -> None:
    """With another, compare `registry.connections` with its protocol before this is changed."""
    assert version("uvicorn").split(".")[:2] == ["0", "54"]


async def test_kindly_who_rests_is_answered_once_more() -> None:
    """The end of an idle connection could cross a request that is on its way."""
    async with serving() as server:
        silent, begun, resting = [await server.connect(data) for data in (b"", b"GET / HT", b"")]
        assert b"connection: close" not in await resting.ask()
        waiting = await server.connect(WAIT)
        await until(lambda: "GET /wait" in server.app.seen)
        server.retire()
        await until(lambda: not server.listener.servers[0].is_serving())
        assert [one.transport.is_closing() for one in server.connections] == 4 * [False]
        server.app.go.set()
        for client, rest in ((silent, GET), (begun, GET[8:]), (resting, GET), (waiting, b"")):
            client.send(rest)
            answer = await client.all()
            assert statuses(answer) == [200]
            assert b"\r\nconnection: close\r\n" in answer
        await asyncio.wait_for(server.task, PATIENCE)


async def test_kindly_an_answer_that_began_is_not_the_last() -> None:
    """Its header said nothing of an end, so the client may ask again."""
    async with serving() as server:
        client = await server.connect(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await client.head()
        assert b"connection: close" not in head
        server.retire()
        await until(lambda: not server.listener.servers[0].is_serving())
        await asyncio.wait_for(client.reader.readexactly(64 << 20), PATIENCE)
        assert b"\r\nconnection: close\r\n" in await client.ask()


async def test_kindly_who_asks_for_nothing_is_left_after_a_while() -> None:
    async with serving(grace=1) as server:
        silent, resting = [await server.connect() for _ in range(2)]
        await resting.ask()
        server.retire()
        for client in (silent, resting):
            assert await client.all() == b""
        await asyncio.wait_for(server.task, PATIENCE)


async def test_a_stop_makes_an_end_of_kindness() -> None:
    async with serving(grace=600) as server:
        resting = await server.connect()
        await resting.ask()
        server.retire()
        await until(lambda: not server.listener.servers[0].is_serving())
        server.listener.hasten()
        assert await resting.all() == b""
        await asyncio.wait_for(server.task, PATIENCE)
