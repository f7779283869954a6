"""What the rollouts of all apps share: the store, the runtime, the routes, and what is allowed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.deploy.apps import App, Revision
from registry.deploy.artifact import Artifact, read_artifact
from registry.deploy.journal import Journal
from registry.deploy.locked import values
from registry.deploy.routes import Routes
from registry.deploy.runtimes import Instance, Limits, Runtime, StartFailed, Workload
from registry.deploy.staging import Staging
from storage.store import Store

PREPARE_TIMEOUT = 600.0  # seconds; compiling 40 MB takes about 5 on two cores
TURN = 5.0  # seconds; an app that starts as most do needs about one


@dataclass(frozen=True, slots=True)
class Site:
    store: Store
    journal: Journal
    runtime: Runtime
    routes: Routes
    staging: Staging
    limits: Limits
    workers: int
    health_timeout: float
    """Seconds in which a new revision must be healthy."""
    drain_timeout: float
    """Seconds for the requests that the old revision still answers."""
    busy: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    """See `turn`."""
    handing: Callable[[], bool] = lambda: False
    """Whether instances go on when their steward ends, until the runtime is closed: another process
    has instances of its own by then, and the requests of this one are still answered."""

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn at reading, unpacking, compiling or starting.

        Whatever takes longer goes on, but the next one has its turn too: an app that does not
        start, or is long in compiling, must not keep the others from it.
        """
        over = False

        def end() -> None:
            nonlocal over
            if not over:
                over = True
                self.busy.release()

        await self.busy.acquire()
        timer = asyncio.get_running_loop().call_later(TURN, end)
        try:
            yield
        finally:
            timer.cancel()
            end()

    async def artifact(self, app: App, revision: Revision) -> Artifact:
        """Raises NotRunnable and storage errors."""
        return await read_artifact(self.store.repository(app.repository), revision.digest)

    async def stage(self, app: App, revision: Revision, artifact: Artifact) -> None:
        """Raises NotRunnable, storage errors and OSError."""
        repository = self.store.repository(app.repository)
        await self.staging.stage(revision, artifact.app, artifact.manifest, repository)

    async def workload(self, app: App, revision: Revision) -> Loaded:
        """What the runtime gets; it is staged first if its directory was lost.

        Raises NotRunnable, storage errors and OSError.
        """
        if not await self.staging.ready(app.id, revision.number):
            await self.stage(app, revision, await self.artifact(app, revision))
        locked = await self.staging.locked(app.id, revision.number)
        settings = await self.journal.settings(app.id, revision.settings_version)
        workload = Workload(
            app=app.id,
            name=str(locked["metadata"]["name"]),
            revision=revision.number,
            digest=revision.digest,
            lock=self.staging.lock(app.id, revision.number),
            variables=values(locked, settings.variables),
            limits=self.limits,
            workers=self.workers,
            log=self.staging.log(app.id),
        )
        wasm = self.staging.wasm(app.id, revision.number, locked)
        return Loaded(workload, locked, wasm, settings.health_path)

    async def prepare(self, workload: Workload) -> None:
        """Raises StartFailed, also when it takes too long."""
        try:
            async with asyncio.timeout(PREPARE_TIMEOUT):
                await self.runtime.prepare(workload)
        except TimeoutError:
            raise StartFailed(
                f"it was not compiled within {PREPARE_TIMEOUT:g} s; push smaller components"
            ) from None

    async def start(self, workload: Workload) -> Instance:
        """Raises StartFailed, also when it takes too long."""
        try:
            async with asyncio.timeout(self.health_timeout):
                return await self.runtime.start(workload)
        except TimeoutError:
            raise StartFailed(f"it did not start within {self.health_timeout:g} s") from None


@dataclass(frozen=True, slots=True)
class Loaded:
    workload: Workload
    locked: Mapping[str, Any]
    """As it is staged."""
    wasm: Mapping[str, Path]
    health_path: str | None
