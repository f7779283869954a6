"""What was deployed and why: apps, revisions and events, as rows beside the registry's own.

Every step of a revision is one transaction that also tells its event; becoming live also moves the
one that was live to draining and adjusts what is held. So after any crash the rows are a state that
a deployer can go on from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from registry import audit as auditing
from registry.audit import Audit, NoAudit, Outcome
from registry.deploy import ledger, tables
from registry.deploy.apps import App, Event, Revision, Settings, host_for
from registry.deploy.rollout import Accepted, Observation, Phase, Proven, next_step
from registry.deploy.tables import (
    SELECT_APP,
    SELECT_EVENT,
    SELECT_REVISION,
    app_of,
    event_of,
    revision_of,
    settings_of,
    text,
    whole,
)
from storage.names import RepositoryName
from storage.records.database import Connection, Database
from storage.store import Move

_OVER = ", ".join(f"'{phase.value}'" for phase in Phase if phase.final)


class Outdated(Exception):
    """The revision is not in the phase the caller believes: somebody else moved it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an app is, at a glance."""

    app: str
    repository: RepositoryName
    host: str
    newest: int
    """The number of its newest revision; 0 before the first."""
    coming: bool
    """The newest revision is on its way to be live."""
    stale: bool
    """The settings changed since the newest revision was made."""


class Journal:
    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        audit: Audit | None = None,
    ) -> None:
        self.database = database
        self._audit = audit or NoAudit()
        self._clock = clock

    async def open(self) -> None:
        """Bring the tables up to date. Raises LayoutUnknown."""
        await self.database.migrate(tables.ROOM, tables.STEPS)

    # Reading.

    async def apps(self) -> list[App]:
        """All, by repository."""
        return await self.database.read(
            lambda connection: [
                app_of(row) for row in connection.all(SELECT_APP + " ORDER BY repository")
            ]
        )

    async def app(self, repository: RepositoryName) -> App | None:
        return await self.database.read(lambda connection: ledger.find_app(connection, repository))

    async def app_by_id(self, id: str) -> App | None:
        return await self.database.read(lambda connection: ledger.find_app_by_id(connection, id))

    async def revisions(self, app: str, *, limit: int = 50) -> list[Revision]:
        """Newest first."""
        statement = SELECT_REVISION + " WHERE app = ? ORDER BY number DESC LIMIT ?"
        return await self.database.read(
            lambda connection: [revision_of(row) for row in connection.all(statement, app, limit)]
        )

    async def unfinished(self, app: str) -> list[Revision]:
        """Those that are live or draining, or may become live; newest first."""
        statement = (
            SELECT_REVISION + f" WHERE app = ? AND phase NOT IN ({_OVER}) ORDER BY number DESC"
        )
        return await self.database.read(
            lambda connection: [revision_of(row) for row in connection.all(statement, app)]
        )

    async def revision(self, app: str, number: int) -> Revision | None:
        return await self.database.read(
            lambda connection: ledger.find_revision(connection, app, number)
        )

    async def settings(self, app: str, version: int) -> Settings:
        """The settings of a revision: its own, which may be older than the app's."""
        row = await self.database.read(
            lambda connection: connection.one(
                "SELECT variables, health_path FROM app_settings WHERE app = ? AND version = ?",
                *(app, version),
            )
        )
        return settings_of(*row) if row else Settings()

    async def events(self, app: str, *, limit: int = 200) -> list[Event]:
        """Newest first."""
        statement = SELECT_EVENT + " WHERE app = ? ORDER BY number DESC LIMIT ?"
        return await self.database.read(
            lambda connection: [event_of(row) for row in connection.all(statement, app, limit)]
        )

    async def standings(self) -> list[Standing]:
        """All apps, by repository. Cheap enough to be asked several times a second."""
        return await self.database.read(_standings)

    async def cursor(self) -> int:
        """The generation of the last move that was admitted or passed over."""
        return await self.database.read(
            lambda connection: whole(
                (connection.one("SELECT generation FROM deploy_cursor WHERE id = 1") or (0,))[0]
            )
        )

    # What people ask for.

    async def configure(self, repository: RepositoryName, settings: Settings, domain: str) -> App:
        """Keep the settings of an app, which is created if need be; a change deploys it again."""
        now = self._clock()

        def change(connection: Connection) -> App:
            app = ledger.ensure_app(connection, repository, domain, now)
            if app.settings != settings:
                ledger.add_settings(connection, app.id, app.settings_version + 1, settings)
                changed = sorted(
                    name
                    for name in app.settings.variables.keys() | settings.variables.keys()
                    if app.settings.variables.get(name) != settings.variables.get(name)
                )
                if app.settings.health_path != settings.health_path:
                    changed.append("the health path")
                ledger.tell(connection, app.id, None, None, now, f"changed: {', '.join(changed)}")
            return ledger.find_app(connection, repository) or app

        return await self.database.write(change)

    async def forget(self, repository: RepositoryName) -> bool:
        """Remove an app with everything that is known of it; False when there is none.

        The deployer then ends what runs. The repository is left as it is, and the next push to it
        makes a new app.
        """

        def change(connection: Connection) -> bool:
            app = ledger.find_app(connection, repository)
            if app is None:
                return False
            connection.execute("DELETE FROM holds WHERE holder = ?", ledger.holder_of(app))
            connection.execute("DELETE FROM events WHERE app = ?", app.id)
            connection.execute("DELETE FROM revisions WHERE app = ?", app.id)
            connection.execute("DELETE FROM app_settings WHERE app = ?", app.id)
            connection.execute("DELETE FROM apps WHERE id = ?", app.id)
            return True

        return await self.database.write(change)

    # What the deployer does.

    async def rehost(self, domain: str) -> None:
        """Give every app its host below `domain`, which may have been another one before."""

        def change(connection: Connection) -> None:
            for row in connection.all(SELECT_APP):
                app = app_of(row)
                host = host_for(app.repository, domain)
                if host != app.host:
                    connection.execute("UPDATE apps SET host = ? WHERE id = ?", host, app.id)

        await self.database.write(change)

    async def skip(self, move: Move, detail: str | None = None) -> None:
        """Pass over this move and all before it; its app, if there is one, is told `detail`."""
        now = self._clock()

        def change(connection: Connection) -> None:
            if ledger.pass_over(connection, move) and detail is not None:
                app = ledger.find_app(connection, move.repository)
                if app is not None:
                    ledger.tell(connection, app.id, None, None, now, detail)

        await self.database.write(change)

    async def admit(self, move: Move, domain: str) -> Revision | None:
        """Make a revision of what the tag was moved to; its app is created if need be.

        Revisions that are not live yet are superseded by it. None when there is nothing to do: the
        move was admitted before, is older than one that was, or asks for what is there.
        """
        digest = move.digest
        assert digest is not None, "the removal of a tag deploys nothing"
        now = self._clock()

        def change(connection: Connection) -> Revision | None:
            if not ledger.pass_over(connection, move):
                return None
            app = ledger.ensure_app(connection, move.repository, domain, now)
            ordered = connection.execute(
                "UPDATE apps SET generation = ? WHERE id = ? AND generation < ?",
                *(move.generation, app.id, move.generation),
            )
            if not ordered:
                detail = f"tag {move.tag} asked for {digest}, but a later move was admitted before"
                ledger.tell(connection, app.id, None, None, now, detail)
                return None
            newest = ledger.newest_revision(connection, app.id)
            if newest and newest.digest == digest and newest.phase is not Phase.FAILED:
                ledger.tell(
                    connection,
                    *(app.id, newest.number, newest.phase, now),
                    f"tag {move.tag} was pushed with the same digest again: nothing to do",
                )
                return None
            return ledger.add_revision(
                connection,
                *(app, digest, move.tag, move.generation, now),
                f"tag {move.tag} was moved to {digest}",
            )

        return await self.database.write(change)

    async def redeploy(self, app: str) -> Revision | None:
        """Make a revision of the desired digest with the present settings, where they changed."""
        now = self._clock()

        def change(connection: Connection) -> Revision | None:
            found = ledger.find_app_by_id(connection, app)
            newest = ledger.newest_revision(connection, app)
            if not found or not newest or newest.settings_version == found.settings_version:
                return None
            return ledger.add_revision(
                connection,
                *(found, newest.digest, newest.tag, newest.generation, now),
                "settings changed",
            )

        return await self.database.write(change)

    async def advance(
        self, revision: Revision, observation: Observation, detail: str = ""
    ) -> Revision:
        """Take the step that follows from an observation, and tell it as an event.

        Raises Outdated when the revision is not in the phase that the caller's copy has.
        """
        now = self._clock()
        repository: list[str] = []
        next_step(revision.phase, observation)  # a mistake of the caller's shows before the write

        def change(connection: Connection) -> Revision:
            app = ledger.find_app_by_id(connection, revision.app)
            current = ledger.find_revision(connection, revision.app, revision.number)
            if app is None or current is None or current.phase is not revision.phase:
                raise Outdated
            repository[:] = [app.repository.text]
            ledger.step(connection, current, observation, now, detail)
            if isinstance(observation, Accepted):
                connection.execute(
                    "UPDATE apps SET name = ? WHERE id = ? AND name IS NULL",
                    *(observation.name, app.id),
                )
            if isinstance(observation, Proven):
                ledger.switch(connection, app, current, now)
            return ledger.find_revision(connection, revision.app, revision.number) or current

        stepped = await self.database.write(change)
        if stepped.phase in (Phase.LIVE, Phase.FAILED):
            await self._tell(repository[0], stepped)
        return stepped

    async def _tell(self, repository: str, revision: Revision) -> None:
        """For the audit. Deployment goes on where that cannot be written; it is written later.

        Why one failed is an event of the app: what an application says of itself may be a secret.
        """
        failed = revision.phase is Phase.FAILED
        event = auditing.Event(
            "app.failed" if failed else "app.live",
            Outcome.FAILED if failed else Outcome.DONE,
            auditing.DEPLOYER,
            repository=repository,
            reference=revision.tag.text,
            digest=revision.digest.text,
            detail=f"revision {revision.number}",
        )
        with suppress(OSError):
            await self._audit.record(event)

    async def remark(self, app: str, revision: int | None, detail: str) -> None:
        """Tell an event that moves nothing."""
        now = self._clock()

        def change(connection: Connection) -> None:
            if ledger.find_app_by_id(connection, app) is not None:
                ledger.tell(connection, app, revision, None, now, detail)

        await self.database.write(change)


def _standings(connection: Connection) -> list[Standing]:
    rows = connection.all(
        "SELECT a.id, a.repository, a.host, a.revisions, a.settings_version, r.phase,"
        " r.settings_version FROM apps a"
        " LEFT JOIN revisions r ON r.app = a.id AND r.number = a.revisions ORDER BY a.repository"
    )
    return [
        Standing(
            text(id),
            RepositoryName(text(repository)),
            text(host),
            whole(newest),
            phase is not None and Phase(text(phase)).coming,
            phase is not None and version != deployed,
        )
        for id, repository, host, newest, version, phase, deployed in rows
    ]
