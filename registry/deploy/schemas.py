"""The shapes of the /v1 API: the JSON Schema of each beside what builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from registry.deploy.apps import App, Event, Revision, Settings
from registry.deploy.openapi import Schema
from registry.deploy.rollout import Phase


def _object(properties: Mapping[str, Schema], *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 1}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_DIGEST: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]+$"}
_PHASE: Final[Schema] = {"type": "string", "enum": [phase.value for phase in Phase]}
_NAME: Final[Schema] = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "maxLength": 128}
_PATH: Final[Schema] = {"type": ["string", "null"], "pattern": "^/", "maxLength": 1024}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


SCHEMAS: Final[Mapping[str, Schema]] = {
    "App": _object(
        {
            "id": _TEXT,
            "repository": _TEXT,
            "url": {"type": "string", "format": "uri"},
            "live": _or_null(_object({"revision": _NUMBER, "digest": _DIGEST})),
            "revisions": _list(_ref("Revision")),
        }
    ),
    "Revision": _object(
        {
            "number": _NUMBER,
            "digest": _DIGEST,
            "tag": _TEXT,
            "phase": _PHASE,
            "reason": {"type": "string", "description": "Why it failed or was superseded."},
            "created": _TIME,
            "pushed_by": {
                "type": ["string", "null"],
                "description": "Who moved the tag; null where nobody had to sign in.",
            },
        }
    ),
    "Apps": _object({"apps": _list(_ref("App"))}),
    "Events": _object(
        {
            "events": _list(
                _object(
                    {
                        "revision": _or_null(_NUMBER),
                        "phase": _or_null(_PHASE),
                        "at": _TIME,
                        "detail": _TEXT,
                    }
                )
            )
        }
    ),
    "Logs": _object(
        {
            "lines": _list(
                {
                    "type": "object",
                    "properties": {
                        "time": _TIME,
                        "component": _TEXT,
                        "stream": _TEXT,
                        "revision": _NUMBER,
                        "line": _TEXT,
                    },
                    "required": ["line"],
                }
            ),
            "cursor": {"type": "string", "description": "For `after`, to go on from here."},
        }
    ),
    "Settings": _object({"variables": _list(_NAME), "health_path": _PATH}),
    "SettingsChange": _object(
        {
            "variables": {
                "type": "object",
                "propertyNames": _NAME,
                "additionalProperties": {"type": ["string", "null"]},
                "description": "Null removes a variable; what is not named stays as it is.",
            },
            "health_path": _PATH,
        },
        "variables",
        "health_path",
    ),
    "Version": _object({"version": _TEXT}),
    "Health": _object({"status": {"type": "string", "enum": ["ok", "unavailable"]}}),
    "Errors": _object({"errors": _list(_object({"code": _TEXT, "message": _TEXT}))}),
}


def app(app: App, url: str, live: Revision | None, revisions: Sequence[Revision]) -> dict[str, Any]:
    return {
        "id": app.id,
        "repository": str(app.repository),
        "url": url,
        "live": {"revision": live.number, "digest": str(live.digest)} if live else None,
        "revisions": [
            {
                "number": revision.number,
                "digest": str(revision.digest),
                "tag": str(revision.tag),
                "phase": revision.phase.value,
                "reason": revision.reason,
                "created": time(revision.created),
                "pushed_by": revision.pushed_by,
            }
            for revision in revisions
        ],
    }


def event(event: Event) -> dict[str, Any]:
    return {
        "revision": event.revision,
        "phase": event.phase.value if event.phase else None,
        "at": time(event.at),
        "detail": event.detail,
    }


def settings(settings: Settings) -> dict[str, Any]:
    """Names only: a value may be a secret."""
    return {"variables": sorted(settings.variables), "health_path": settings.health_path}


def time(at: float) -> str:
    """RFC 3339 of seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
