"""Desired against observed, for ever: what the tags say, and what runs.

One deployer acts at a time, under the lease. It admits the moves of tags, and keeps a steward for
every app. It looks whenever it is woken, and five times a second in any case, since other processes
push and configure too.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from registry.audit import Audit
from registry.deploy.apps import Revision
from registry.deploy.intake import Intake
from registry.deploy.journal import Journal, Standing
from registry.deploy.lease import RENEWAL, Fenced, Holder, Lease, LeaseLost
from registry.deploy.routes import Routes, Target
from registry.deploy.runtimes import Instance, Limits, Runtime
from registry.deploy.site import Site
from registry.deploy.staging import Staging
from registry.deploy.steward import Steward
from storage.store import Store
from storage.threads import Threads

POLL = 0.2  # seconds between two looks; a look is two reads of some microseconds each
WAIT = 0.5  # seconds between two tries to get the lease
RETRY = 1.0  # seconds after an error that nobody foresaw
AT_ONCE = 4  # revisions that are read, unpacked, compiled or started at the same time

log = structlog.get_logger()


@dataclass(slots=True)
class _Charge:
    """An app in the care of its steward."""

    host: str
    newest: int
    steward: Steward
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class _Warm:
    """What was started before the lease was had."""

    host: str
    revision: Revision
    instance: Instance


@dataclass(slots=True)
class _Tenure:
    """While the lease is held."""

    site: Site
    journal: Journal
    tasks: asyncio.TaskGroup
    charges: dict[str, _Charge] = field(default_factory=dict)


class Deployer:
    def __init__(
        self,
        store: Store,
        journal: Journal,
        runtime: Runtime,
        routes: Routes,
        *,
        directory: Path,
        domain: str,
        limits: Limits,
        workers: int,
        health_timeout: float = 60.0,
        drain_timeout: float = 30.0,
        at_once: int = AT_ONCE,
        audit: Audit | None = None,
    ) -> None:
        """`directory` is where apps are unpacked, a private one; timeouts are in seconds."""
        self._store = store
        self._journal = journal
        self._runtime = runtime
        self._routes = routes
        self._directory = directory
        self._domain = domain
        self._limits = limits
        self._workers = workers
        self._health_timeout = health_timeout
        self._drain_timeout = drain_timeout
        self._at_once = at_once
        self._audit = audit
        self._woken = asyncio.Event()
        self._handing = False
        self._warm: dict[str, _Warm] = {}

    def wake(self) -> None:
        """A tag moved or a setting changed, probably. From the event loop's thread."""
        self._woken.set()

    def hand_over(self) -> None:
        """When `run` is cancelled next, leave the instances to whoever closes the runtime."""
        self._handing = True

    async def run(self, warm: asyncio.Event | None = None) -> None:
        """Until cancelled; then every instance has ended, and the lease is free.

        `warm` is for one that follows another: it is set when what is live runs here too. Only
        then is the lease waited for, so that the other one can let go of it.
        """
        threads = Threads("staging", self._at_once)
        try:
            staging = Staging(self._directory, threads)
            if warm is not None:
                await self._warm_up(staging)
                warm.set()
            while True:
                try:
                    await self._tenure(staging)
                except* LeaseLost:
                    log.warning("another deployer acts now; this one waits")
                except* Exception:
                    log.exception("the deployer begins anew")
                # A task group that ends with errors does not tell that it was cancelled too.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError
                await asyncio.sleep(RETRY)
        finally:
            threads.close()

    async def _tenure(self, staging: Staging) -> None:
        """Get the lease, and act until it is lost."""
        holder = Holder.here()
        lease = Lease(self._journal.database, holder)
        while not (await lease.free() and await lease.take()):  # noqa: ASYNC110 - it is a row
            await asyncio.sleep(WAIT)
        try:
            journal = Journal(Fenced(self._journal.database, holder), audit=self._audit)
            site = self._site(journal, staging)
            await journal.rehost(self._domain)
            known = {standing.app for standing in await journal.standings()}
            for gone in self._warm.keys() - known:  # forgotten while it was started here
                warm = self._warm.pop(gone)
                self._routes.forget(warm.host)
                await warm.instance.stop(0)
            for stranger in await staging.strangers(known):
                await staging.remove(stranger)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_renew(lease))
                await self._act(_Tenure(site, journal, tasks))
        finally:
            with contextlib.suppress(Exception):  # it expires by itself
                await lease.release()

    def _site(self, journal: Journal, staging: Staging) -> Site:
        return Site(
            store=self._store,
            journal=journal,
            runtime=self._runtime,
            routes=self._routes,
            staging=staging,
            limits=self._limits,
            workers=self._workers,
            health_timeout=self._health_timeout,
            drain_timeout=self._drain_timeout,
            busy=asyncio.Semaphore(self._at_once),
            handing=lambda: self._handing,
        )

    async def _warm_up(self, staging: Staging) -> None:
        """Start what is live, and lead its hosts to it; changes nothing that is recorded."""
        site = self._site(self._journal, staging)
        standings = await self._journal.standings()
        await asyncio.gather(*(self._warm_one(site, standing.app) for standing in standings))

    async def _warm_one(self, site: Site, id: str) -> None:
        try:
            app = await site.journal.app_by_id(id)
            if app is None:
                return
            self._routes.know(app.host)
            live = await site.journal.revision(id, app.live) if app.live else None
            # Whoever has the lease stages: a directory that is lost is not our business yet.
            if live is None or not await site.staging.ready(id, live.number):
                return
            async with site.turn():
                loaded = await site.workload(app, live)
                await site.prepare(loaded.workload)
                instance = await site.start(loaded.workload)
        except Exception:
            log.exception("an app is not started before the other process stops", app=id)
            return
        target = Target(instance.address, id, live.number, live.digest)
        self._routes.point(app.host, target)
        self._warm[id] = _Warm(app.host, live, instance)

    async def _act(self, tenure: _Tenure) -> None:
        intake = Intake(self._store, tenure.journal, self._domain)
        while True:
            self._woken.clear()
            try:
                await intake.take()
                await self._look(tenure)
            except LeaseLost:
                raise
            except Exception:
                log.exception("a look at the tags failed; the next one follows")
                await asyncio.sleep(RETRY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._woken.wait()

    async def _look(self, tenure: _Tenure) -> None:
        """Give every app a steward, and tell those that have something to do."""
        standings = await tenure.journal.standings()
        for at, standing in enumerate(standings):
            if standing.stale:
                revision = await tenure.journal.redeploy(standing.app)
                if revision is not None:
                    standings[at] = dataclasses.replace(standing, newest=revision.number)
        # First, since a new app may have the host of one that is gone.
        for gone in tenure.charges.keys() - {standing.app for standing in standings}:
            left = tenure.charges.pop(gone)
            self._routes.forget(left.host)
            tenure.tasks.create_task(_dismiss(left, tenure.site.staging, gone))
        for standing in standings:
            charge = tenure.charges.get(standing.app)
            if charge is None:
                await self._adopt(tenure, standing)
            elif charge.newest != standing.newest:
                charge.newest = standing.newest
                charge.steward.wake()

    async def _adopt(self, tenure: _Tenure, standing: Standing) -> None:
        app = await tenure.journal.app_by_id(standing.app)
        if app is None:  # forgotten since we looked
            return
        warm = self._warm.pop(app.id, None)
        if warm is not None and warm.host != app.host:
            self._routes.forget(warm.host)
        self._routes.know(app.host)
        steward = Steward(
            tenure.site, app, (warm.revision, warm.instance) if warm is not None else None
        )
        task = tenure.tasks.create_task(steward.run())
        tenure.charges[app.id] = _Charge(app.host, standing.newest, steward, task)


async def _renew(lease: Lease) -> None:
    while True:
        await asyncio.sleep(RENEWAL)
        try:
            await lease.renew()
        except LeaseLost:
            raise
        except Exception:  # a full disk, perhaps: what runs goes on, and changes are fenced
            log.exception("the lease could not be renewed")


async def _dismiss(charge: _Charge, staging: Staging, app: str) -> None:
    """End a forgotten app, and remove its files."""
    charge.task.cancel()
    await asyncio.wait([charge.task])
    await staging.remove(app)
