"""A revision that is live: its instance is kept running, and its host leads to it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from registry.deploy.apps import App, Revision
from registry.deploy.journal import Outdated
from registry.deploy.lease import LeaseLost
from registry.deploy.rollout import Died, Drained, Phase
from registry.deploy.routes import HostUnknown, Target
from registry.deploy.runtimes import Instance
from registry.deploy.site import Site
from registry.deploy.walk import reason_of

FIRST_PAUSE = 0.5  # seconds before an instance that died is replaced; doubled each time
LONGEST_PAUSE = 30.0
GOOD_RUN = 60.0  # seconds after which a death counts as the first one
GRACE = 1.0  # seconds for an instance from which traffic was led away before

log = structlog.get_logger()


class Residence:
    """Whoever makes one ends it, by `drain` or `close`."""

    def __init__(self, site: Site, app: App, revision: Revision, instance: Instance | None) -> None:
        """Lead traffic to an instance that is healthy; without one, the first is started."""
        self._site = site
        self._app = app
        self.revision = revision
        self._instance = instance
        self._target: Target | None = None
        self._leaving = False
        if instance is not None:
            self._move_in(instance)
        self.keeping = asyncio.create_task(self._keep())
        """Ends by itself only with an error, or when somebody else moved the revision."""

    def leave(self) -> None:
        """Another revision is live: start nothing more, and lead no traffic here."""
        self._leaving = True
        self.keeping.cancel()

    async def drain(self) -> None:
        """Wait for the requests under way, end the instance, and record it."""
        self.leave()
        await asyncio.wait([self.keeping])
        detail = "it was not running"
        if self._instance is not None and self._target is not None:
            timeout = self._site.drain_timeout
            drained = await self._site.routes.drained(self._target, timeout)
            detail = "" if drained else f"some requests were cut off after {timeout:g} s"
        await self._stop(GRACE)
        number, journal = self.revision.number, self._site.journal
        draining = await journal.revision(self._app.id, number)
        if draining is not None and draining.phase is Phase.DRAINING:
            await journal.advance(draining, Drained(), detail)

    async def close(self) -> None:
        """Lead the host nowhere, and end the instance."""
        self.leave()
        await asyncio.wait([self.keeping])
        if self._site.handing():
            return
        self._move_out()
        await self._stop(GRACE)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if self._instance is None:
                started = await self._start()
                if isinstance(started, str):
                    reason = started
                else:
                    self._instance = started
                    if self._leaving:  # cancelled, but the runtime finished what it began
                        return
                    self._move_in(started)
            if self._instance is not None:
                began = time.monotonic()  # a start that took long and failed is no good run
                reason = await self._instance.wait()
                self._move_out()
                await self._stop(0)
                if time.monotonic() - began > GOOD_RUN:
                    pause = FIRST_PAUSE
            try:
                await self._tell(f"{reason}; it is started again in {pause:g} s")
            except Outdated:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _start(self) -> Instance | str:
        """An instance that is up, or why there is none."""
        site = self._site
        try:
            async with site.turn():
                loaded = await site.workload(self._app, self.revision)
                await site.prepare(loaded.workload)
                return await site.start(loaded.workload)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                log.exception("an app cannot be started", app=str(self._app.repository))
                reason = f"unexpected error ({type(error).__name__}: {error})"
            return reason

    async def _tell(self, reason: str) -> None:
        log.warning(
            "a live revision does not run",
            app=str(self._app.repository),
            revision=self.revision.number,
            reason=reason,
        )
        try:
            self.revision = await self._site.journal.advance(self.revision, Died(reason))
        except (Outdated, LeaseLost):
            raise
        except Exception:
            log.exception("an event is lost", app=str(self._app.repository))

    def _move_in(self, instance: Instance) -> None:
        revision = self.revision
        self._target = Target(instance.address, self._app.id, revision.number, revision.digest)
        self._site.routes.point(self._app.host, self._target)

    def _move_out(self) -> None:
        """Lead the host nowhere, if it leads here."""
        routes, host = self._site.routes, self._app.host
        with contextlib.suppress(HostUnknown):  # the app is gone
            if self._target is not None and routes.resolve(host) is self._target:
                routes.point(host, None)

    async def _stop(self, grace: float) -> None:
        if self._instance is not None:
            await self._instance.stop(grace)
            self._instance = None  # only now: whoever is cancelled before leaves it to `close`
