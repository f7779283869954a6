"""The /v1 API on a real journal, in the loop of the test; no deployer moves anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from registry.deploy import api
from registry.deploy.apps import App, Revision
from registry.deploy.journal import Journal
from registry.deploy.rollout import Accepted, Answering, Faulty, Launched, Proven, Staged
from registry.v2 import V2
from storage.digest import SHA256, Digest
from storage.memory import MemoryBlobs
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.store import Move, Store

DOMAIN = "apps.example"


@dataclass
class ApiServer:
    journal: Journal
    url: str
    logs: Path
    woken: list[str]
    session: aiohttp.ClientSession
    store: Store
    routes: list[Route]
    urls: dict[str, str]
    """Of an app, where it is another than one made of its host."""
    generation: int = 0
    closed: bool = False

    @staticmethod
    def name(text: str) -> RepositoryName:
        return RepositoryName.parse(text)

    async def close_records(self) -> None:
        self.closed = True
        await self.store.close()

    def log_of(self, app: App) -> Path:
        return self.logs / app.id

    async def ask(self, path: str, method: str = "GET", **request: Any) -> tuple[int, Any]:
        """Status and body, which must be JSON."""
        async with self.session.request(method, self.url + path, **request) as answer:
            body = await answer.read()
            assert answer.content_type == "application/json", body
            return answer.status, json.loads(body) if body else None

    async def push(self, name: str, content: bytes = b"1", tag: str = "latest") -> Revision:
        """What the deployer does with the move of a tag."""
        self.generation += 1
        move = Move(
            self.generation, RepositoryName.parse(name), Tag(tag), SHA256.digest(content), 1.0
        )
        revision = await self.journal.admit(move, DOMAIN)
        assert revision is not None
        return revision

    async def make_live(self, revision: Revision) -> None:
        for step in (Accepted("hello"), Staged(), Launched(), Answering(), Proven()):
            revision = await self.journal.advance(revision, step)

    async def fail(self, revision: Revision, reason: str) -> None:
        await self.journal.advance(revision, Faulty(reason))


def digest_of(content: bytes) -> Digest:
    return SHA256.digest(content)


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[ApiServer]:
    # Without a Layout: making one costs a second of fsyncs, and no test here restarts.
    database = SQLite(directory / "records.db")
    store = await Store.open(database, MemoryBlobs())
    journal = Journal(database)
    await journal.open()
    logs = directory / "logs"
    logs.mkdir()
    woken: list[str] = []
    urls: dict[str, str] = {}
    routes = api.routes(
        journal,
        url_for=lambda app: urls.get(str(app.repository), f"http://{app.host}/"),
        log_of=lambda app: logs / app.id,
        domain=DOMAIN,
        wake=lambda: woken.append("woken"),
    )
    v1 = Starlette(routes=routes, exception_handlers=api.EXCEPTION_HANDLERS)
    v2 = V2(store, moved=lambda: woken.append("moved"))

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await (v2 if scope["path"].startswith("/v2") else v1)(scope, receive, send)

    config = uvicorn.Config(
        answer,
        http="httptools",
        log_config=None,
        access_log=False,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
        "127.0.0.1",
        0,
    )
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with aiohttp.ClientSession() as session:
        running = ApiServer(journal, url, logs, woken, session, store, routes, urls)
        yield running
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    if not running.closed:
        await store.close()
