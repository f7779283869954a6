"""A gateway behind our uvicorn, and instances that are a few lines on a unix socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from registry.connections import connected
from registry.crowd import Crowd
from registry.deploy.gateway import Gateway
from registry.deploy.routes import Routes, Target
from registry.deploy.runtimes import Address
from registry.server import GATEWAY
from registry.settings import ConnectionSettings
from storage.digest import SHA256

HOST = "hello.apps.example"
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour: TypeAlias = Callable[
    ["Instance", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]


async def answer_ok(
    instance: Instance, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    body = instance.name.encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


@dataclass
class Instance:
    """Accepts connections; `behave` is called with each request's head, as it came."""

    path: Path
    name: str = "one"
    behave: Behaviour = answer_ok
    heads: list[bytes] = field(default_factory=list)
    accepted: int = 0
    closed: int = 0
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def target(self, revision: int = 1) -> Target:
        return Target(Address(unix=self.path), "app", revision, SHA256.digest(self.name.encode()))

    async def open(self) -> None:
        self.server = await asyncio.start_unix_server(self._connected, self.path)

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            for writer in list(self.writers):
                writer.transport.abort()
            await self.server.wait_closed()
            self.server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.behave(self, head, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed += 1
            self.writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Front:
    """What clients see."""

    routes: Routes
    gateway: Gateway
    port: int

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """Send bytes, and read until the server closes."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()

    async def get(self, path: str = "/", *lines: str, method: str = "GET") -> bytes:
        fields = "".join(f"{line}\r\n" for line in lines)
        first = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
        return await self.exchange(f"{first}{fields}\r\n".encode())


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is another program's
            await asyncio.sleep(0.005)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of `serve`, and the one that shows more when something is wrong."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait until a condition holds, or fail after five seconds."""
    return until


@pytest.fixture
def sockets() -> Iterator[Path]:
    with TemporaryDirectory(prefix="spindle-") as directory:  # short: a socket's path has 107 bytes
        yield Path(directory)


@pytest.fixture
async def start(sockets: Path) -> AsyncIterator[Callable[..., Awaitable[Instance]]]:
    """Start an instance: `await start("name", behave)`."""
    started: list[Instance] = []

    async def start(name: str = "one", behave: Behaviour = answer_ok) -> Instance:
        instance = Instance(sockets / f"{name}.sock", name, behave)
        await instance.open()
        started.append(instance)
        return instance

    yield start
    for instance in started:
        await instance.close()


@pytest.fixture
def limits() -> dict[str, float]:
    """The gateway's time limits; a test that needs others parametrizes this."""
    return {}


@pytest.fixture
async def front(limits: dict[str, float]) -> AsyncIterator[Front]:
    routes = Routes()
    gateway = Gateway(routes, **limits)
    await gateway.open()
    config = uvicorn.Config(
        gateway,
        ws="none",
        proxy_headers=False,  # else uvicorn believes X-Forwarded-For from 127.0.0.1
        http="httptools",
        access_log=False,
        log_config=None,
    )
    config.load()
    crowd = Crowd(ConnectionSettings(), "gateway", limit=1000, clock=time.monotonic)
    crowd.open()
    config.http_protocol_class = connected(crowd, GATEWAY)
    state = ServerState()

    def accept() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state={})

    # uvicorn without its Server, whose start and stop cost every test 0.2 s of waiting.
    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    yield Front(routes, gateway, server.sockets[0].getsockname()[1])
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    crowd.close()
    await gateway.close()
