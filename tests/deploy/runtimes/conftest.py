"""Real workers running real components, behind the runtime's own API."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import pytest_asyncio

from registry.deploy.runtimes import Limits, StartFailed, Workload
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from storage.digest import Digest

HERE = Path(__file__).parent


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"runtimes_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def wat() -> Any:
    """The module that writes test components in text: `wat.component(body)` and named ones."""
    return _load("wat")


@pytest.fixture(scope="session")
def python_app() -> Path:
    path: Path = _load("build").build()
    return path


@pytest.fixture(scope="session")
def native_cache() -> Path:
    """Compiled code, kept between test runs: the Python component takes 4 s to compile."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "spindle-tests" / "native"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether the body had a proper end."""

    @property
    def text(self) -> str:
        return self.body.decode()


class Exchange:
    """A client that does one thing at a time, so that tests can look in between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.wire = h11.Connection(h11.CLIENT)

    async def send(self, event: Any) -> None:
        self.writer.write(self.wire.send(event))
        await self.writer.drain()

    async def begin(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> None:
        given = {"host": "app.test", **(headers or {})}
        await self.send(h11.Request(method=method, target=path, headers=list(given.items())))

    async def event(self) -> Any:
        while True:
            event = self.wire.next_event()
            if event is not h11.NEED_DATA:
                return event
            self.wire.receive_data(await self.reader.read(1 << 16))

    async def reply(self) -> Reply:
        head = await self.event()
        while isinstance(head, h11.InformationalResponse):
            head = await self.event()
        assert isinstance(head, h11.Response), head
        body, whole = bytearray(), True
        try:
            while isinstance(event := await self.event(), h11.Data):
                body += event.data
        except (h11.RemoteProtocolError, ConnectionError):
            whole = False
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        return Reply(head.status_code, headers, bytes(body), whole)

    def close(self) -> None:
        self.writer.close()


@dataclass
class Running:
    instance: Any
    log: Path

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[Exchange]:
        reader, writer = await asyncio.open_unix_connection(str(self.instance.address.unix))
        exchange = Exchange(reader, writer)
        try:
            yield exchange
        finally:
            writer.close()

    async def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        async with asyncio.timeout(30), self.exchange() as exchange:
            given = dict(headers or {})
            if body is not None:
                given.setdefault("content-length", str(len(body)))
            await exchange.begin(method, path, given)
            # Not drained: a server may well answer before it has read everything.
            if body:
                exchange.writer.write(exchange.wire.send(h11.Data(data=body)))
            exchange.writer.write(exchange.wire.send(h11.EndOfMessage()))
            return await exchange.reply()

    def lines(self) -> list[dict[str, Any]]:
        """The log, oldest record first."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@dataclass
class App:
    """What a test puts into the lock file."""

    components: Mapping[str, bytes | Path]
    routes: Mapping[str, str] = field(default_factory=dict)
    triggers: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=lambda: {"name": "test"})
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further keys per component."""

    def lock(self, directory: Path) -> dict[str, Any]:
        components = []
        for name, wasm in self.components.items():
            if isinstance(wasm, bytes):
                path = directory / f"{hashlib.sha256(wasm).hexdigest()}.wasm"
                path.write_bytes(wasm)
            else:
                path = wasm
            components.append(
                {
                    "id": name,
                    "source": {"content_type": "application/wasm", "source": path.as_uri()},
                    **self.extra.get(name, {}),
                }
            )
        routes = self.routes or {"/...": next(iter(self.components))}
        triggers = self.triggers or [
            {
                "id": f"trigger-{i}",
                "trigger_type": "http",
                "trigger_config": {"component": target, "route": route},
            }
            for i, (route, target) in enumerate(routes.items())
        ]
        return {
            "spin_lock_version": 0,
            "metadata": self.metadata,
            "triggers": triggers,
            "components": components,
        }


@pytest.fixture
def app() -> type[App]:
    return App


Start = Callable[..., Awaitable[Running]]


def made(directory: Path, app: App, **changes: Any) -> Workload:
    """A staged workload; limits are given among the other changes."""
    limits = {
        key: changes.pop(key)
        for key in ("memory", "cpu", "wall", "concurrency", "body")
        if key in changes
    }
    (directory / "spin.lock").write_text(json.dumps(app.lock(directory)))
    base = Workload(
        app="app-1",
        name="test",
        revision=7,
        digest=Digest.parse("sha256:" + "0" * 64),
        lock=directory / "spin.lock",
        variables={},
        limits=replace(Limits(concurrency=4), **limits),
        workers=1,
        log=directory / "logs" / "app.jsonl",
    )
    return replace(base, **changes)


@pytest.fixture
def workload(tmp_path: Path) -> Callable[..., Workload]:
    return partial(made, tmp_path)


@pytest.fixture
async def start(workload: Callable[..., Workload], native_cache: Path) -> AsyncIterator[Start]:
    runtimes = []

    async def begin(app: App, *, private_networks: bool = False, **changes: Any) -> Running:
        runtime = EmbeddedRuntime(native_cache, private_networks=private_networks)
        runtimes.append(runtime)
        staged = workload(app, **changes)
        return Running(await runtime.start(staged), staged.log)

    yield begin
    for runtime in runtimes:
        await runtime.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def python(
    python_app: Path, native_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """The Python test application with the default limits, one for all tests of a module."""
    runtime = EmbeddedRuntime(native_cache)
    workload = made(tmp_path_factory.mktemp("python"), App({"py": python_app}))
    yield Running(await runtime.start(workload), workload.log)
    await runtime.close()


@pytest.fixture
def failing() -> Callable[[Awaitable[Any]], Awaitable[str]]:
    """Await what must raise StartFailed; the reason."""

    async def reason(starting: Awaitable[Any]) -> str:
        with pytest.raises(StartFailed) as failed:
            await starting
        return failed.value.reason

    return reason


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for what another process does: `await until(condition)`."""

    async def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true"
            await asyncio.sleep(0.02)

    return wait
