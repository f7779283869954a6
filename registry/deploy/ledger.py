"""What one transaction does to the rows of deployment: the steps that `journal` is made of.

Everything here takes the connection of a transaction under way, and relies on it.
"""

from __future__ import annotations

import json

from registry.deploy.apps import App, Revision, Settings, host_for, new_id
from registry.deploy.rollout import Died, Faulty, Observation, Overtaken, Phase, Replaced, next_step
from registry.deploy.tables import SELECT_APP, SELECT_REVISION, app_of, revision_of, whole
from storage.digest import Digest
from storage.names import RepositoryName, Tag
from storage.records.database import Connection
from storage.store import Move

EVENTS_KEPT = 1000  # of an app; older ones are dropped
REVISIONS_KEPT = 200  # of an app; older ones that are over are dropped
DETAIL_LENGTH = 16 << 10  # characters; what an application calls itself or prints may be in it

_COMING = ", ".join(f"'{phase.value}'" for phase in Phase if phase.coming)
_OVER = ", ".join(f"'{phase.value}'" for phase in Phase if phase.final)


def find_app(connection: Connection, repository: RepositoryName) -> App | None:
    row = connection.one(SELECT_APP + " WHERE repository = ?", repository.text)
    return app_of(row) if row else None


def find_app_by_id(connection: Connection, id: str) -> App | None:
    row = connection.one(SELECT_APP + " WHERE id = ?", id)
    return app_of(row) if row else None


def find_revision(connection: Connection, app: str, number: int) -> Revision | None:
    statement = SELECT_REVISION + " WHERE app = ? AND number = ?"
    row = connection.one(statement, app, number)
    return revision_of(row) if row else None


def newest_revision(connection: Connection, app: str) -> Revision | None:
    statement = SELECT_REVISION + " WHERE app = ? ORDER BY number DESC LIMIT 1"
    row = connection.one(statement, app)
    return revision_of(row) if row else None


def ensure_app(connection: Connection, repository: RepositoryName, domain: str, now: float) -> App:
    id = new_id()
    made = connection.execute(
        "INSERT INTO apps (id, repository, host, name, settings_version, revisions, events,"
        " generation, live, previous, created) VALUES (?, ?, ?, NULL, 0, 0, 0, 0, NULL, NULL, ?)"
        " ON CONFLICT (repository) DO NOTHING",
        *(id, repository.text, host_for(repository, domain), now),
    )
    if made:
        add_settings(connection, id, 0, Settings())
    app = find_app(connection, repository)
    assert app is not None
    return app


def add_settings(connection: Connection, app: str, version: int, settings: Settings) -> None:
    """One more version; those that nothing can start with any more are gone, being secrets."""
    connection.execute(
        "INSERT INTO app_settings (app, version, variables, health_path) VALUES (?, ?, ?, ?)",
        *(app, version, json.dumps(dict(settings.variables), sort_keys=True)),
        settings.health_path,
    )
    connection.execute("UPDATE apps SET settings_version = ? WHERE id = ?", version, app)
    connection.execute(
        "DELETE FROM app_settings WHERE app = ? AND version < ? AND version NOT IN"  # noqa: S608 - a constant
        f" (SELECT settings_version FROM revisions WHERE app = ? AND phase NOT IN ({_OVER}))",
        *(app, version, app),
    )


def pass_over(connection: Connection, move: Move) -> bool:
    """Advance the cursor; False when the move was passed before."""
    return (
        connection.execute(
            "UPDATE deploy_cursor SET generation = ? WHERE id = 1 AND generation < ?",
            *(move.generation, move.generation),
        )
        == 1
    )


def add_revision(
    connection: Connection,
    app: App,
    digest: Digest,
    tag: Tag,
    generation: int,
    now: float,
    detail: str,
) -> Revision:
    """A new revision; those that are on their way are superseded by it."""
    row = connection.one(
        "UPDATE apps SET revisions = revisions + 1 WHERE id = ? RETURNING revisions", app.id
    )
    assert row is not None
    number = whole(row[0])
    statement = SELECT_REVISION + f" WHERE app = ? AND phase IN ({_COMING})"
    for coming in connection.all(statement, app.id):
        step(connection, revision_of(coming), Overtaken(number), now, "")
    connection.execute(
        "INSERT INTO revisions (app, number, digest, tag, generation, settings_version, phase,"
        " reason, created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, '', ?, ?)",
        *(app.id, number, digest.text, tag.text, generation, app.settings_version),
        *(Phase.RECEIVED.value, now, now),
    )
    tell(connection, app.id, number, Phase.RECEIVED, now, detail)
    connection.execute(
        f"DELETE FROM revisions WHERE app = ? AND number <= ? AND phase IN ({_OVER})"  # noqa: S608 - a constant
        " AND number <> ?",
        *(app.id, number - REVISIONS_KEPT, app.previous or 0),
    )
    revision = find_revision(connection, app.id, number)
    assert revision is not None
    return revision


def step(
    connection: Connection, revision: Revision, observation: Observation, now: float, detail: str
) -> None:
    phase = next_step(revision.phase, observation)
    reason = revision.reason
    match observation:
        case Faulty(reason):
            detail = detail or reason
        case Died(why):
            detail = detail or why
        case Overtaken(by):
            detail = reason = f"revision {by} was admitted before this one was live"
        case Replaced(by):
            detail = f"revision {by} is live"
        case _:
            pass
    connection.execute(
        "UPDATE revisions SET phase = ?, reason = ?, changed = ? WHERE app = ? AND number = ?",
        *(phase.value, _kept(reason), now, revision.app, revision.number),
    )
    tell(connection, revision.app, revision.number, phase, now, detail)


def switch(connection: Connection, app: App, revision: Revision, now: float) -> None:
    """`revision` is live: the one that was drains, and both are held."""
    old = find_revision(connection, app.id, app.live) if app.live is not None else None
    if old is not None and old.phase is Phase.LIVE:
        step(connection, old, Replaced(revision.number), now, "")
    connection.execute(
        "UPDATE apps SET live = ?, previous = ? WHERE id = ?",
        *(revision.number, old.number if old else None, app.id),
    )
    held = {revision.digest: f"revision {revision.number} is live"}
    if old is not None:
        held.setdefault(old.digest, f"revision {old.number} was live before, to go back to")
    connection.execute("DELETE FROM holds WHERE holder = ?", holder_of(app))
    for digest, reason in held.items():
        connection.execute(
            "INSERT INTO holds (repository_name, digest, holder, reason) VALUES (?, ?, ?, ?)",
            *(app.repository.text, digest.text, holder_of(app), reason),
        )


def holder_of(app: App) -> str:
    return f"app {app.repository}"


def tell(
    connection: Connection,
    app: str,
    revision: int | None,
    phase: Phase | None,
    now: float,
    detail: str,
) -> None:
    row = connection.one("UPDATE apps SET events = events + 1 WHERE id = ? RETURNING events", app)
    assert row is not None
    number = whole(row[0])
    connection.execute(
        "INSERT INTO events (app, number, revision, phase, at, detail) VALUES (?, ?, ?, ?, ?, ?)",
        *(app, number, revision, phase.value if phase else None, now, _kept(detail)),
    )
    connection.execute(
        "DELETE FROM events WHERE app = ? AND number <= ?", app, number - EVENTS_KEPT
    )


def _kept(text: str) -> str:
    """The beginning and the end of a long text, and no NUL, which PostgreSQL does not take."""
    if len(text) > DETAIL_LENGTH:
        half = DETAIL_LENGTH // 2
        text = f"{text[:half]}\n[…]\n{text[-half:]}"
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
