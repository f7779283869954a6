"""A listener's connections before an application that remembers what it saw.

Nobody waits for time to pass: a test says what time it is, and every connection is looked at.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from registry.answers import Manner
from registry.commands.cert import name_of, write
from registry.connections import Connection, Reading, connected
from registry.crowd import Crowd
from registry.handshakes import shaking
from registry.server import REGISTRY
from registry.settings import ConnectionSettings
from registry.tls import Certificates, Files

PATIENCE = 20.0  # seconds after which something that should happen counts as failed
BIG = 64 << 20  # bytes of an answer that no sockets hold


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of `serve`, and the one that shows more when something is wrong."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@dataclass
class Application:
    """Answers by the first part of the path."""

    seen: list[str] = field(default_factory=list)
    """The method and path of every request."""
    ended: list[str] = field(default_factory=list)
    """Paths: a request that was read to its end, or `left` and the bytes that came before."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    scope: Scope = field(default_factory=dict)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode()
        self.seen.append(f"{scope['method']} {path}")
        self.headers = scope["headers"]
        self.scope = scope
        match path.split("/")[1]:
            case "read":
                size, more = 0, True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        self.ended.append(f"left after {size}")
                        return
                    size += len(message["body"])
                    more = message["more_body"]
                self.ended.append(path)
                await answer(send, 200, b"%d" % size)
            case "refuse":
                await answer(send, 413, b"too large", (b"connection", b"close"))
            case "ignore":
                await answer(send, 200, b"who cares")
            case "wait":
                await self.go.wait()
                await answer(send, 200, b"at last")
            case "watch":
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.ended.append("left")
                await answer(send, 200, b"to nobody")
            case "big":
                await start(send, 200, (b"content-length", b"%d" % BIG))
                for left in range(BIG - (1 << 20), -1, -(1 << 20)):
                    await piece(send, bytes(1 << 20), more=left > 0)
                self.ended.append(path)
            case "stream":
                await start(send, 200)
                await piece(send, b"one", more=True)
                await piece(send, b"two", more=False)
            case "break":
                await start(send, 200)
                await piece(send, b"half of it", more=True)
            case _:
                await answer(send, 200, b"ok")


async def start(send: Send, status: int, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def piece(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await start(send, status, (b"content-length", b"%d" % len(body)), *headers)
    await piece(send, body, more=False)


@dataclass
class Client:
    """What is written is exactly what is given."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def all(self) -> bytes:
        """All that is answered until the server ends it."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)

    async def body(self, expected: bytes) -> None:
        assert await asyncio.wait_for(self.reader.readexactly(len(expected)), PATIENCE) == expected

    async def ask(self, path: bytes = b"/") -> bytes:
        """The answer to a GET, which is `ok`."""
        self.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
        head = await self.head()
        await self.body(b"ok")
        return head


@dataclass
class Clock:
    """The loop's, and what a test says that passed beyond."""

    passed: float = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.passed


class Listening:
    def __init__(
        self,
        port: int,
        crowd: Crowd,
        clock: Clock,
        app: Application,
        state: ServerState,
        trust: ssl.SSLContext | None,
    ) -> None:
        self.port = port
        self.clock = clock
        self.crowd = crowd
        self.app = app
        self.trust = trust
        self._state = state
        self._clients: list[Client] = []

    @property
    def connections(self) -> list[Connection]:
        return [one for one in self._state.connections if isinstance(one, Connection)]

    async def connect(self, data: bytes = b"") -> Client:
        """A client that the server has seen."""
        before = set(self.connections)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, limit=1 << 20, ssl=self.trust
        )
        client = Client(reader, writer)
        self._clients.append(client)
        await until(lambda: self.connections and not before.issuperset(self.connections))
        client.send(data)
        return client

    async def say(self, data: bytes) -> bytes:
        """All that is answered to a client that sends this."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)
        client = Client(reader, writer)
        self._clients.append(client)
        client.send(data)
        return await client.all()

    def later(self, seconds: float) -> None:
        """So much time passes, and then all connections are looked at."""
        self.clock.passed += seconds
        self.crowd.look()

    async def trickle(self, seconds: int, piece: bytes) -> None:
        """That is what comes every second on the one connection, as long as it is taken."""
        [connection] = self.connections
        for _ in range(seconds):
            self.later(1)
            if connection._reading is not Reading.DEAF:
                connection.data_received(piece)
            await until(lambda: not connection.cycle or not connection.cycle.body)

    async def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        self.app.go.set()
        self.crowd.abort()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)


Listen = Callable[..., Awaitable[Listening]]


@asynccontextmanager
async def listening(
    manner: Manner = REGISTRY,
    certificates: Certificates | None = None,
    trust: ssl.SSLContext | None = None,
    **given: Any,
) -> AsyncIterator[Listening]:
    """With settings other than the defaults. `trust` is for the clients, over TLS."""
    clock = Clock()
    settings = replace(ConnectionSettings(), **given)
    crowd = Crowd(settings, "test", limit=100_000, clock=clock)
    app = Application()
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    protocol: Any = connected(crowd, manner)
    if certificates is not None:
        protocol = shaking(protocol, crowd, manner, certificates)
    config.http_protocol_class = protocol
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
        "127.0.0.1",
        0,
        family=socket.AF_INET,
        backlog=2048,
    )
    running = Listening(server.sockets[0].getsockname()[1], crowd, clock, app, state, trust)
    yield running
    await running.close()
    server.close()
    await server.wait_closed()


@dataclass(frozen=True)
class Secured:
    """What `spindle cert self-signed` writes, with 127.0.0.1 for a name."""

    directory: Path

    @property
    def files(self) -> Files:
        return Files(self.directory / "certificate.pem", self.directory / "key.pem")

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.directory / "authority.pem")


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    directory = tmp_path_factory.mktemp("tls")
    write(directory, [name_of("127.0.0.1")], 30)
    return Secured(directory)


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """`await listen(limit=10)`: settings other than the defaults, or another manner."""
    async with AsyncExitStack() as stack:

        async def start(manner: Manner = REGISTRY, **given: Any) -> Listening:
            return await stack.enter_async_context(listening(manner, **given))

        yield start


@pytest.fixture
async def server(listen: Listen) -> Listening:
    return await listen()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is on the other side of a socket
            await asyncio.sleep(0.002)


async def hold(server: Listening, request: bytes) -> list[Connection]:
    """Ask for a big answer and take nothing of it, until all of it was handed to the transport."""
    client = await server.connect(request)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    [connection] = server.connections
    await until(lambda: connection.flow.write_paused)
    while not server.app.ended:
        connection.flow.resume_writing()  # the application goes on to its end
        await until(lambda: connection.flow.write_paused or server.app.ended)
    return [connection]


def statuses(answers: bytes) -> list[int]:
    """Of answers one after the other."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]
