"""One app, kept as its rows want it: what is live runs, what comes is walked, what leaves ends.

Each turn reads the rows and does what they ask for; nothing depends on having seen how they came
about. So a lost wake-up costs time only, and a new deployer begins like an old one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import structlog

from registry.deploy.apps import App, Revision
from registry.deploy.journal import Outdated
from registry.deploy.lease import LeaseLost
from registry.deploy.residence import Residence
from registry.deploy.rollout import Phase, Proven, Resumed
from registry.deploy.runtimes import Instance
from registry.deploy.site import Site
from registry.deploy.walk import Arrival, Walk

RETRY = 1.0  # seconds after an error that nobody foresaw, such as a database that does not answer

log = structlog.get_logger()


@dataclass(slots=True)
class _Walking:
    number: int
    task: asyncio.Task[Arrival | None]


class Steward:
    def __init__(
        self, site: Site, app: App, housed: tuple[Revision, Instance] | None = None
    ) -> None:
        """`housed` is a revision that was live, and an instance that runs already."""
        self._site = site
        self._app = app
        self._wake = asyncio.Event()
        self._walking: _Walking | None = None
        self._residence: Residence | None = None
        self._housed = housed
        self._draining: dict[int, tuple[Residence, asyncio.Task[None]]] = {}
        self._kept: set[int] | None = None

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; then no instance of the app runs. Raises LeaseLost."""
        if self._housed is not None:
            self._residence = self._settle(*self._housed)
        try:
            while True:
                try:
                    await self._turn()
                except LeaseLost:
                    raise
                except Exception:
                    log.exception("an app is left as it is", app=str(self._app.repository))
                    await asyncio.sleep(RETRY)  # whatever wakes it: what ended with the error does
                    self._wake.set()
                await self._wake.wait()
                self._wake.clear()
        finally:
            # To its end, also when this is cancelled twice: the app is being forgotten, and the
            # deployer stops.
            closing = asyncio.create_task(self._close())
            while not closing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([closing])
            closing.result()

    async def _turn(self) -> None:
        journal = self._site.journal
        app = await journal.app_by_id(self._app.id)
        if app is None:
            return  # forgotten: whoever runs this ends it
        self._app = app
        await self._look_after()
        unfinished = await journal.unfinished(app.id)
        for revision in unfinished:
            if revision.phase is Phase.LIVE:
                await self._house(revision)
        await self._walk(next((each for each in unfinished if each.phase.coming), None))
        for revision in unfinished:
            if revision.phase is Phase.DRAINING and revision.number not in self._draining:
                await journal.advance(revision, Resumed())
        await self._sweep({revision.number for revision in unfinished})

    async def _look_after(self) -> None:
        """Hear of tasks that ended. Raises what they raised."""
        ended = [number for number, (_, task) in self._draining.items() if task.done()]
        for number in ended:
            old, task = self._draining.pop(number)
            await old.close()
            task.result()
        residence = self._residence
        if residence is not None and residence.keeping.done():
            self._residence = None
            await residence.close()
            residence.keeping.result()

    async def _house(self, live: Revision) -> None:
        """Keep what is live running."""
        if self._residence is not None and self._residence.revision.number != live.number:
            # The step to live was recorded, but looked like a failure from here.
            old, self._residence = self._residence, None
            await old.close()
        if self._residence is None:
            self._residence = self._settle(live, None)

    async def _walk(self, coming: Revision | None) -> None:
        """Walk the revision that is coming, if any, and only that one."""
        walking = self._walking
        if walking is None:
            if coming is not None:
                task = asyncio.create_task(Walk(self._site, self._app, coming).run())
                task.add_done_callback(lambda _: self._wake.set())
                self._walking = _Walking(coming.number, task)
            return
        if coming is None or walking.number != coming.number:
            walking.task.cancel()
            await asyncio.wait([walking.task])
        if walking.task.done():
            self._walking = None
            self._wake.set()  # the rows are others now
            if not walking.task.cancelled() and (arrival := walking.task.result()) is not None:
                await self._arrive(arrival)

    async def _arrive(self, arrival: Arrival) -> None:
        """Record that a revision is live, and lead traffic to it."""
        took = time.time() - arrival.revision.created
        detail = f"traffic goes to it, {max(took, 0):.2f} s after it was received"
        try:
            revision = await self._site.journal.advance(arrival.revision, Proven(), detail)
        except BaseException as error:
            await asyncio.shield(arrival.instance.stop(0))
            if isinstance(error, Outdated):
                return
            raise
        # Nothing is awaited from here on: rows, traffic and what is remembered here agree.
        old = self._residence
        if old is not None:
            old.leave()
        self._residence = self._settle(revision, arrival.instance)
        if old is not None:
            task = asyncio.create_task(old.drain())
            task.add_done_callback(lambda _: self._wake.set())
            self._draining[old.revision.number] = (old, task)
        log.info("live", app=str(self._app.repository), revision=revision.number, after=took)

    def _settle(self, revision: Revision, instance: Instance | None) -> Residence:
        residence = Residence(self._site, self._app, revision, instance)
        residence.keeping.add_done_callback(lambda _: self._wake.set())
        return residence

    async def _sweep(self, unfinished: set[int]) -> None:
        """Keep the directories of what may run, and of what was live before."""
        keep = unfinished | {number for number in (self._app.live, self._app.previous) if number}
        if keep != self._kept:
            await self._site.staging.sweep(self._app.id, keep)
            self._kept = keep

    async def _close(self) -> None:
        walk = self._walking.task if self._walking is not None else None
        ending: list[asyncio.Task[Any]] = [task for _, task in self._draining.values()]
        if walk is not None:
            ending.append(walk)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        leftover = [old for old, _ in self._draining.values()]
        if self._residence is not None:
            leftover.append(self._residence)
        stops = [residence.close() for residence in leftover]
        if walk is not None and not walk.cancelled() and walk.exception() is None:
            arrival = walk.result()
            if arrival is not None:
                stops.append(arrival.instance.stop(0))
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log.error("an instance was not ended", exc_info=outcome)
