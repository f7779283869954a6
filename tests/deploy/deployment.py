"""A deployer at work on a real store in a directory of its own, and hands to push to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from registry.deploy.apps import App, Event, Revision, Settings
from registry.deploy.journal import Journal
from registry.deploy.reconciler import Deployer
from registry.deploy.rollout import Phase
from registry.deploy.routes import Routes, Target
from registry.deploy.runtimes import Limits, Runtime
from storage.digest import Digest
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records.database import Database
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.deploy import artifacts
from tests.deploy.artifacts import Artifact

DOMAIN = "apps.example"
PATIENCE = 60.0  # seconds after which something that should happen counts as failed
HELLO = "demo/hello"


def saying(says: str, *, name: str = "hello", **more: Any) -> Artifact:
    """An application that LocalRuntime runs; `more` is described in `local_server`."""
    variables = more.pop("variables", None)
    wasm = json.dumps({"says": says, **more}).encode()
    extra = {"variables": variables} if variables else {}
    return artifacts.layer_app(artifacts.locked_app(wasm, name, **extra), wasm)


async def push(
    store: Store,
    artifact: Artifact,
    repository: str = HELLO,
    tag: str = "latest",
    *,
    manifest_first: bool = False,
) -> Digest:
    """As a client does: every blob, then the manifest with its tag; or the other way round."""
    into = store.repository(RepositoryName.parse(repository))

    async def one(data: bytes) -> AsyncIterator[bytes]:
        yield data

    manifest = artifact.manifest()
    if manifest_first:
        await into.put_manifest(manifest, [Tag.parse(tag)])
    for digest, data in artifact.blobs.items():
        session = await into.start_upload()
        await session.append(one(data))
        await session.commit(Digest.parse(digest))
    if not manifest_first:
        await into.put_manifest(manifest, [Tag.parse(tag)])
    return manifest.digest


class Deployment:
    """One data directory, with or without a deployer at work on it."""

    def __init__(self, layout: Layout, database: Database, store: Store, runtime: Runtime) -> None:
        self.layout = layout
        self.store = store
        self.journal = Journal(database)
        self.runtime = runtime
        self.routes = Routes()
        self.deployer: Deployer | None = None

    @asynccontextmanager
    async def deploying(
        self, database: Database | None = None, **options: Any
    ) -> AsyncIterator[Deployer]:
        """A deployer that acts until the block ends."""
        options = {"health_timeout": 10.0, "drain_timeout": 10.0, **options}
        deployer = Deployer(
            self.store,
            Journal(database) if database is not None else self.journal,
            self.runtime,
            self.routes,
            directory=self.layout.apps,
            domain=DOMAIN,
            limits=Limits(),
            workers=1,
            **options,
        )
        running = asyncio.create_task(deployer.run())
        self.deployer = deployer
        try:
            yield deployer
        finally:
            self.deployer = None
            running.cancel()
            await asyncio.wait([running])
            if not running.cancelled():
                running.result()

    async def push(
        self, artifact: Artifact, repository: str = HELLO, tag: str = "latest"
    ) -> Digest:
        digest = await push(self.store, artifact, repository, tag)
        if self.deployer is not None:
            self.deployer.wake()
        return digest

    async def configure(
        self, repository: str = HELLO, health_path: str | None = None, **variables: str
    ) -> App:
        settings = Settings.parse(variables, health_path)
        app = await self.journal.configure(RepositoryName.parse(repository), settings, DOMAIN)
        if self.deployer is not None:
            self.deployer.wake()
        return app

    async def app(self, repository: str = HELLO) -> App:
        app = await self.journal.app(RepositoryName.parse(repository))
        assert app is not None
        return app

    async def revisions(self, repository: str = HELLO) -> list[Revision]:
        """Newest first; none before there is an app."""
        app = await self.journal.app(RepositoryName.parse(repository))
        return await self.journal.revisions(app.id) if app is not None else []

    async def events(self, repository: str = HELLO) -> list[Event]:
        return await self.journal.events((await self.app(repository)).id)

    async def until(
        self, number: int, phase: Phase, repository: str = HELLO, *, within: float = PATIENCE
    ) -> Revision:
        """Wait for a revision to be in a phase; fail at once when it ends in another one."""
        seen: list[Revision] = []

        async def reached() -> bool:
            seen[:] = await self.revisions(repository)
            found = [each for each in seen if each.number == number]
            if found and found[0].phase.final and found[0].phase is not phase:
                raise AssertionError(f"revision {number} is {found[0]}")
            return bool(found) and found[0].phase is phase

        await eventually(reached, lambda: f"revision {number} to be {phase}: {seen}", within)
        return next(each for each in seen if each.number == number)

    async def live(self, number: int, repository: str = HELLO) -> Target:
        """Wait until traffic goes to a revision."""
        await self.until(number, Phase.LIVE, repository)
        host = (await self.app(repository)).host

        async def pointed() -> bool:
            target = self.routes.resolve(host)
            return target is not None and target.revision == number

        await eventually(pointed, lambda: f"traffic to go to revision {number}")
        target = self.routes.resolve(host)
        assert target is not None
        return target

    async def staged(self, repository: str = HELLO) -> set[str]:
        """The names of an app's staged directories."""
        directory = self.layout.apps / (await self.app(repository)).id
        return {path.name for path in directory.iterdir() if path.is_dir()}

    async def are_staged(self, numbers: set[str], repository: str = HELLO) -> bool:
        return await self.staged(repository) == numbers

    async def told(self, what: str, repository: str = HELLO) -> bool:
        """Whether an event of the app says so."""
        return any(what in event.detail for event in await self.events(repository))

    async def ask(self, path: str = "/", repository: str = HELLO) -> tuple[int, str]:
        """What the app answers now; 503 while nothing of it runs, 502 when it does not answer."""
        target = self.routes.resolve((await self.app(repository)).host)
        if target is None:
            return 503, ""
        try:
            return await ask(target, path)
        except aiohttp.ClientConnectorError:
            return 502, ""


async def ask(target: Target, path: str = "/") -> tuple[int, str]:
    """Ask an instance, counted as the gateway counts."""
    target.begin()
    try:
        connector = aiohttp.UnixConnector(str(target.address.unix))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://app{path}") as answer,
        ):
            return answer.status, await answer.text()
    finally:
        target.end()


async def value(now: bool) -> bool:
    """A condition for `eventually` that needs no waiting itself."""
    return now


async def eventually(
    condition: Callable[[], Awaitable[bool]], what: Callable[[], str], within: float = PATIENCE
) -> None:
    deadline = time.monotonic() + within
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what()}")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(data: Path, runtime: Runtime) -> AsyncIterator[Deployment]:
    layout = Layout.open(data)
    database = await SQLite.open(layout)
    store = await Store.open(database, FilesystemBlobs(layout))
    try:
        deployment = Deployment(layout, database, store, runtime)
        await deployment.journal.open()
        yield deployment
    finally:
        await runtime.close()
        await store.close()
