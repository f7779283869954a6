"""One revision on its way: from received to an instance that is healthy, or to a reason why not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from dataclasses import dataclass

import structlog

from registry.deploy import spin
from registry.deploy.apps import App, Revision
from registry.deploy.artifact import Artifact
from registry.deploy.health import Check, NotYet
from registry.deploy.journal import Outdated
from registry.deploy.lease import LeaseLost
from registry.deploy.refusal import NotRunnable
from registry.deploy.rollout import Accepted, Answering, Faulty, Launched, Phase, Resumed, Staged
from registry.deploy.runtimes import Instance, StartFailed, Workload
from registry.deploy.site import Loaded, Site
from storage.errors import Damaged, Unknown

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A revision that is ready to be live."""

    revision: Revision
    workload: Workload
    instance: Instance


class Walk:
    """Each step is recorded when it was done, so another deployer can go on from the last one."""

    def __init__(self, site: Site, app: App, revision: Revision) -> None:
        self._site = site
        self._app = app
        self._revision = revision
        self._instance: Instance | None = None

    async def run(self) -> Arrival | None:
        """None: the revision failed, and says why; or somebody else has moved it.

        Whatever ends this but an arrival, cancelling included, leaves no instance behind. Raises
        LeaseLost, and what the journal raises when not even a failure can be recorded.
        """
        arrived: Arrival | None = None
        try:
            arrived = await self._go()
        except Outdated:
            pass  # whoever moved it knows what follows
        except LeaseLost:
            raise
        except Exception as error:
            await self._fail(error)
        finally:
            if arrived is None and self._instance is not None:
                await asyncio.shield(self._instance.stop(0))  # may be cancelled a second time
        return arrived

    async def _go(self) -> Arrival:
        site, journal = self._site, self._site.journal
        if self._revision.phase in (Phase.STARTING, Phase.CHECKING):
            self._revision = await journal.advance(self._revision, Resumed())
        async with site.turn():
            artifact: Artifact | None = None
            if self._revision.phase is Phase.RECEIVED:
                artifact = await self._validate()
            if self._revision.phase is Phase.VALIDATED:
                artifact = artifact or await site.artifact(self._app, self._revision)
                await site.stage(self._app, self._revision, artifact)
                self._revision = await journal.advance(self._revision, Staged())
            loaded = await site.workload(self._app, self._revision)
            refused = await site.runtime.refuse(loaded.locked, loaded.wasm)
            if refused is not None:
                raise NotRunnable(refused)
            await site.prepare(loaded.workload)
            self._revision = await journal.advance(self._revision, Launched())
            self._instance = await site.start(loaded.workload)
        self._revision = await journal.advance(self._revision, Answering())
        await self._check(loaded, self._instance)
        return Arrival(self._revision, loaded.workload, self._instance)

    async def _validate(self) -> Artifact:
        site, app, revision = self._site, self._app, self._revision
        artifact = await site.artifact(app, revision)
        locked = artifact.app
        spin.check_name(locked, app.name, app.repository)
        settings = await site.journal.settings(app.id, revision.settings_version)
        spin.check_variables(locked, settings.variables.keys(), app.repository)
        count = len(locked.components)
        detail = f"{locked.name} {locked.version or ''}".rstrip()
        detail += f", {count} component{'' if count == 1 else 's'}"
        unused = sorted(settings.variables.keys() - locked.variables.keys())
        if unused:
            detail += f"; set, but not declared by it: {', '.join(unused)}"
        self._revision = await site.journal.advance(revision, Accepted(locked.name), detail)
        return artifact

    async def _check(self, loaded: Loaded, instance: Instance) -> None:
        """Raises StartFailed when it is not healthy in time, or ends before."""
        timeout = self._site.health_timeout
        check = Check(instance.address, self._app.host, self._revision.digest, loaded.health_path)
        checking = asyncio.create_task(check.until_healthy(timeout))
        ending = asyncio.create_task(instance.wait())
        try:
            await asyncio.wait([checking, ending], return_when=asyncio.FIRST_COMPLETED)
            if not checking.done():
                raise StartFailed(f"it ended before it was healthy: {ending.result()}")
            health = checking.result()
            if isinstance(health, NotYet):
                raise StartFailed(
                    f"it was not healthy within {timeout:g} s; this was asked last:\n"
                    f"{health.transcript}"
                )
        finally:
            for task in (checking, ending):
                task.cancel()
            await asyncio.gather(checking, ending, return_exceptions=True)

    async def _fail(self, error: Exception) -> None:
        reason = reason_of(error)
        if reason is None:
            name = str(self._app.repository)
            log.error("a rollout failed unexpectedly", app=name, exc_info=error)
            reason = (
                f"an unexpected error ({type(error).__name__}: {error}); the log of the server has"
                " the details, and pushing again tries again"
            )
        log.warning(
            "a revision failed",
            app=str(self._app.repository),
            revision=self._revision.number,
            reason=reason,
        )
        with contextlib.suppress(Outdated):  # superseded meanwhile, which is the better reason
            await self._site.journal.advance(self._revision, Faulty(reason))


def reason_of(error: Exception) -> str | None:
    """A sentence for a person; None for what nobody foresaw."""
    match error:
        case NotRunnable() | StartFailed():
            return error.reason
        case Damaged():
            return str(error)
        case Unknown():
            return f"what was pushed is not whole any more ({error}); push it again"
        case OSError() if error.errno in _FULL:
            return (
                f"the files could not be written ({error.strerror}); make room on the server's"
                " disk, and push again"
            )
        case _:
            return None
