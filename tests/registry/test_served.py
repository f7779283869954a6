"""What only shows between a server and a socket: ours, and uvicorn with either of its parsers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from registry.connections import connected
from registry.crowd import Crowd
from registry.server import REGISTRY
from registry.settings import ConnectionSettings
from registry.v2 import V2
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import digest_of, image, open_store

PATIENCE = 30.0


class Served:
    """The application on a port of its own, in this event loop."""

    def __init__(self, app: Any, data: Path, parser: Literal["ours", "httptools", "h11"]) -> None:
        self.data = data
        self.sends = 0
        self.running = 0
        self._app = app
        config = uvicorn.Config(
            self._count,
            port=0,
            interface="asgi3",
            http="httptools" if parser == "ours" else parser,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
        )
        self._crowd = Crowd(ConnectionSettings(), "registry", limit=1000, clock=time.monotonic)
        if parser == "ours":
            config.load()
            config.http_protocol_class = connected(self._crowd, REGISTRY)
        self._server = Quiet(config)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            self.sends += 1
            await send(message)

        self.running += 1
        try:
            await self._app(scope, receive, counting)
        finally:
            self.running -= 1

    async def __aenter__(self) -> Served:
        self._crowd.open()
        self._task = asyncio.create_task(self._server.serve())
        await until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._task
        self._crowd.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, request: bytes) -> bytes:
        """All that is answered on one connection until the server ends it."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
            await writer.wait_closed()

    async def push(self, data: bytes) -> str:
        digest = digest_of(data)
        head = request(
            "POST", f"/v2/app/blobs/uploads/?digest={digest}", f"Content-Length: {len(data)}"
        )
        answer = await self.exchange(head + data)
        assert answer.startswith(b"HTTP/1.1 201"), answer
        return digest


class Quiet(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def until(condition: Any) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def request(method: str, target: str, *headers: str, close: bool = True) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: registry.test", *headers]
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "data"


@pytest.fixture(params=["ours", "httptools", "h11"])
async def served(data: Path, request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    async with open_store(data) as store:
        app = V2(store, moved=lambda: None)
        async with Served(app, data, request.param) as running:
            yield running


REFUSALS = [
    ("POST", "/v2/Not-A-Name/blobs/uploads/?digest=" + digest_of(b"x"), "", 400),
    ("POST", "/v2/app/blobs/uploads/?digest=sha256:bad", "", 400),
    ("PATCH", "/v2/app/blobs/uploads/unknown", "", 404),
    ("PATCH", "SESSION", "Content-Range: 7-9", 416),
    ("PATCH", "SESSION", "Content-Range: 0-2", 400),
    ("PUT", "SESSION", "", 400),
    ("PATCH", "SESSION", "Content-Encoding: gzip", 415),
    ("PUT", "/v2/app/manifests/-x", "", 400),
    ("PUT", "/v2/app/manifests/x?tag=y", "", 400),
    ("PUT", "/v2/app/manifests/absent", "If-Match: *", 412),
    ("PUT", "/v2/app/manifests/x", "", 413),
    ("POST", "/v2/app/manifests/x", "", 405),
    ("PUT", "/v2/app/what", "", 404),
]


@pytest.mark.parametrize(("method", "target", "header", "status"), REFUSALS)
async def test_a_client_that_asks_first_is_not_told_to_send_what_will_be_refused(
    served: Served, method: str, target: str, header: str, status: int
) -> None:
    """RFC 9110, 10.1.1: a server may "respond … with a final status code" to `100-continue`."""
    if target == "SESSION":
        opened = await served.exchange(request("POST", "/v2/app/blobs/uploads/"))
        target = opened.decode().split("location: ")[1].split("\r\n")[0]
    lines = ["Content-Length: 5000000000", "Expect: 100-continue", *([header] if header else [])]
    answer = await served.exchange(request(method, target, *lines, close=False))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close" in head
    assert b"errors" in body


async def test_a_client_that_asks_first_is_told_to_send_what_may_be_good(served: Served) -> None:
    body = image()
    reader, writer = await served.connect()
    writer.write(
        request(
            "PUT",
            "/v2/app/manifests/x",
            f"Content-Length: {len(body)}",
            "Expect: 100-continue",
        )
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.read(), PATIENCE)).startswith(b"HTTP/1.1 201")
    writer.close()
    await writer.wait_closed()


async def test_heads_and_304s_leave_the_connection_in_step(served: Served) -> None:
    digest = await served.push(b"data")
    path = f"/v2/app/blobs/{digest}"
    answer = await served.exchange(
        request("HEAD", path, close=False)
        + request("GET", path, f'If-None-Match: "{digest}"', close=False)
        + request("HEAD", "/v2/app/blobs/bad", close=False)
        + request("GET", path)
    )
    statuses = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
    assert [line.split()[1] for line in statuses] == [b"200", b"304", b"400", b"200"]
    assert answer.endswith(b"\r\n\r\ndata")
    assert answer.count(b"\r\n\r\n") == 4


async def test_what_a_cut_connection_brought_is_kept_and_nothing_is_logged(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await served.exchange(request("POST", "/v2/app/blobs/uploads/"))
    location = opened.decode().split("location: ")[1].split("\r\n")[0]
    with structlog.testing.capture_logs() as logs:
        _, writer = await served.connect()
        writer.write(request("PATCH", location, "Content-Length: 100000") + b"x" * 30_000)
        await writer.drain()
        await until(lambda: served.running == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: served.running == 0)
    status = await served.exchange(request("GET", location))
    assert b"\r\nrange: 0-29999\r\n" in status
    assert not logs
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_nobody_reads_a_blob_for_a_client_that_left(served: Served) -> None:
    """uvicorn's send() does not say that there is no client any more."""
    size = 64 << 20
    digest = await served.push(bytes(size))
    served.sends = 0
    reader, writer = await served.connect()
    writer.write(request("GET", f"/v2/app/blobs/{digest}"))
    await reader.readexactly(100_000)
    assert served.running == 1
    writer.close()
    await writer.wait_closed()
    await until(lambda: served.running == 0)
    assert served.sends < size >> 20
    assert not [path for path in open_files() if digest[-64:] in path]


def open_files() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue


@pytest.mark.parametrize("change", ["gone", "shorter"])
async def test_a_blob_that_is_damaged_is_never_a_200(served: Served, change: str) -> None:
    digest = await served.push(f"data to be {change}".encode())
    [path] = [path for path in served.data.rglob(digest[-64:]) if path.is_file()]
    path.chmod(0o600)
    if change == "gone":
        path.unlink()
    else:
        os.truncate(path, 3)
    with structlog.testing.capture_logs() as logs:
        answer = await served.exchange(request("GET", f"/v2/app/blobs/{digest}"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500")
    assert str(served.data).encode() not in body
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("request.failed", "error")]


async def test_a_blob_that_breaks_on_its_way_is_not_whole(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Invariant: a digest never serves other bytes. To break off is all that is left to say."""
    size = 64 << 20
    digest = await served.push(os.urandom(1024) * (size >> 10))
    [path] = [path for path in served.data.rglob(digest[-64:]) if path.is_file()]
    reader, writer = await served.connect()
    writer.write(request("GET", f"/v2/app/blobs/{digest}"))
    await reader.readuntil(b"\r\n\r\n")
    path.chmod(0o600)
    os.truncate(path, 1000)
    with structlog.testing.capture_logs() as logs:
        assert len(await asyncio.wait_for(reader.read(), PATIENCE)) < size
        await until(lambda: served.running == 0)
    assert [(entry["event"], entry["status"]) for entry in logs] == [("request.failed", 500)]
    assert not [record for record in caplog.records if record.exc_info]
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("parser", ["ours", "httptools", "h11"])
async def test_what_nobody_expected_is_a_500_and_one_line_in_the_log(
    data: Path, parser: Literal["ours", "httptools", "h11"], caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout.open(data)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    await store.close()  # so that whatever is asked of it fails
    async with Served(V2(store, moved=lambda: None), data, parser) as served:
        with structlog.testing.capture_logs() as logs:
            answer = await served.exchange(request("GET", "/v2/_catalog"))
    assert answer.startswith(b"HTTP/1.1 500")
    assert b'"UNKNOWN"' in answer
    [entry] = logs
    assert (entry["event"], entry["path"]) == ("request.failed", "/v2/_catalog")
    assert isinstance(entry["exc_info"], Exception)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
