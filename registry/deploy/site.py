"""What the rollouts of all apps share: the store, the runtime, the routes, and what is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.deploy.apps import App, Revision
from registry.deploy.artifact import Artifact, read_artifact
from registry.deploy.journal import Journal
from registry.deploy.locked import values
from registry.deploy.routes import Routes
from registry.deploy.runtimes import Limits, Runtime, Workload
from registry.deploy.staging import Staging
from storage.repository import Store


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
    """Held while something is read, unpacked, compiled or started; not while it is waited for."""

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


@dataclass(frozen=True, slots=True)
class Loaded:
    workload: Workload
    locked: Mapping[str, Any]
    """As it is staged."""
    wasm: Mapping[str, Path]
    health_path: str | None
