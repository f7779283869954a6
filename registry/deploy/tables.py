"""The tables of deployment, and how their rows become values.

Numbers of revisions and events are counted in the app's own row, so that two databases count alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from registry.deploy.apps import App, Event, Revision, Settings
from registry.deploy.rollout import Phase
from storage.digest import Digest
from storage.names import RepositoryName, Tag
from storage.records.database import Row, Value

ROOM: Final = "deploy"

STEPS: Final[Sequence[Sequence[str]]] = (
    (
        """CREATE TABLE apps (
            id {text} PRIMARY KEY,
            repository {text} NOT NULL UNIQUE,
            host {text} NOT NULL UNIQUE,
            name {text},
            settings_version BIGINT NOT NULL,
            revisions BIGINT NOT NULL,
            events BIGINT NOT NULL,
            generation BIGINT NOT NULL,
            live BIGINT,
            previous BIGINT,
            created DOUBLE PRECISION NOT NULL
        )""",
        # By version, since what is live goes on with those it was proven with.
        """CREATE TABLE app_settings (
            app {text} NOT NULL REFERENCES apps (id),
            version BIGINT NOT NULL,
            variables {text} NOT NULL,
            health_path {text},
            PRIMARY KEY (app, version)
        )""",
        """CREATE TABLE revisions (
            app {text} NOT NULL REFERENCES apps (id),
            number BIGINT NOT NULL,
            digest {text} NOT NULL,
            tag {text} NOT NULL,
            generation BIGINT NOT NULL,
            settings_version BIGINT NOT NULL,
            phase {text} NOT NULL,
            reason {text} NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            changed DOUBLE PRECISION NOT NULL,
            PRIMARY KEY (app, number)
        )""",
        """CREATE TABLE events (
            app {text} NOT NULL REFERENCES apps (id),
            number BIGINT NOT NULL,
            revision BIGINT,
            phase {text},
            at DOUBLE PRECISION NOT NULL,
            detail {text} NOT NULL,
            PRIMARY KEY (app, number)
        )""",
        # The generation of the last move of a tag that was looked at.
        "CREATE TABLE deploy_cursor (id BIGINT PRIMARY KEY, generation BIGINT NOT NULL)",
        "INSERT INTO deploy_cursor (id, generation) VALUES (1, 0)",
        """CREATE TABLE deploy_lease (
            id BIGINT PRIMARY KEY,
            machine {text} NOT NULL,
            pid BIGINT NOT NULL,
            started BIGINT NOT NULL,
            token {text} NOT NULL,
            expires DOUBLE PRECISION NOT NULL
        )""",
    ),
)

SELECT_APP: Final = (
    "SELECT id, repository, host, name, variables, health_path, live, settings_version, previous"
    " FROM apps JOIN app_settings ON app = id AND version = settings_version"
)
SELECT_REVISION: Final = (
    "SELECT app, number, digest, tag, generation, phase, reason, created, changed,"
    " settings_version,"
    " (SELECT principal FROM movers WHERE movers.generation = revisions.generation)"
    " FROM revisions"
)
SELECT_EVENT: Final = "SELECT app, revision, phase, at, detail FROM events"


def app_of(row: Row) -> App:
    """A row of SELECT_APP."""
    id, repository, host, name, variables, health_path, live, version, previous = row
    return App(
        text(id),
        RepositoryName(text(repository)),
        text(host),
        optional_text(name),
        settings_of(variables, health_path),
        optional_whole(live),
        whole(version),
        optional_whole(previous),
    )


def settings_of(variables: Value, health_path: Value) -> Settings:
    return Settings(MappingProxyType(json.loads(text(variables))), optional_text(health_path))


def revision_of(row: Row) -> Revision:
    """A row of SELECT_REVISION."""
    app, number, digest, tag, generation, phase, reason, created, changed, version, mover = row
    return Revision(
        text(app),
        whole(number),
        Digest.parse(text(digest)),
        Tag(text(tag)),
        whole(generation),
        Phase(text(phase)),
        text(reason),
        real(created),
        real(changed),
        whole(version),
        optional_text(mover),
    )


def event_of(row: Row) -> Event:
    """A row of SELECT_EVENT."""
    app, revision, phase, at, detail = row
    named = optional_text(phase)
    return Event(
        text(app),
        optional_whole(revision),
        Phase(named) if named is not None else None,
        real(at),
        text(detail),
    )


def text(value: Value) -> str:
    assert isinstance(value, str)
    return value


def whole(value: Value) -> int:
    assert isinstance(value, int)
    return value


def real(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def optional_text(value: Value) -> str | None:
    return None if value is None else text(value)


def optional_whole(value: Value) -> int | None:
    return None if value is None else whole(value)
