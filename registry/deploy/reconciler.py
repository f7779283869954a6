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
from registry.deploy.intake import Intake
from registry.deploy.journal import Journal, Standing
from registry.deploy.lease import RENEWAL, Fenced, Holder, Lease, LeaseLost
from registry.deploy.routes import Routes
from registry.deploy.runtimes import Limits, Runtime
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

    def wake(self) -> None:
        """A tag moved or a setting changed, probably. From the event loop's thread."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled; then every instance has ended, and the lease is free."""
        threads = Threads("staging", self._at_once)
        try:
            staging = Staging(self._directory, threads)
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
            site = Site(
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
            )
            await journal.rehost(self._domain)
            known = {standing.app for standing in await journal.standings()}
            for stranger in await staging.strangers(known):
                await staging.remove(stranger)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_renew(lease))
                await self._act(_Tenure(site, journal, tasks))
        finally:
            with contextlib.suppress(Exception):  # it expires by itself
                await lease.release()

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
        self._routes.know(app.host)
        steward = Steward(tenure.site, app)
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
