"""The description of an HTTP API (OpenAPI 3.1), made from what is declared beside its handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from registry.permissions import Need

Schema: TypeAlias = Mapping[str, Any]
"""JSON Schema, draft 2020-12."""

Handler: TypeAlias = Callable[[Any, Request], Awaitable[Response]]
"""Called with the object that answers, and the request."""


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    place: str
    """`path` or `query`."""
    description: str
    schema: Schema

    def described(self) -> Schema:
        return {
            "name": self.name,
            "in": self.place,
            "required": self.place == "path",
            "description": self.description,
            "schema": self.schema,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    description: str
    schema: str | None = None
    """The name of a schema; None for any JSON."""

    def described(self) -> Schema:
        return {"description": self.description, "content": _json(self.schema)}


_REFUSALS: Final[Mapping[int, Answer]] = {
    401: Answer("Who calls has to sign in, or did with what is wrong.", "Errors"),
    403: Answer("Who calls may not do that.", "Errors"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    handler: Handler
    need: Need
    summary: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: str | None = None
    """The name of the schema of the request's body."""

    def described(self) -> Schema:
        answers = {**self.answers, **(_REFUSALS if self.need is not Need.NOTHING else {})}.items()
        found: dict[str, Any] = {
            "operationId": self.handler.__name__,
            "summary": self.summary,
            "x-spindle-need": self.need.value,
            "parameters": [parameter.described() for parameter in self.parameters],
            "responses": {str(code): answer.described() for code, answer in sorted(answers)},
        }
        if self.body is not None:
            found["requestBody"] = {"required": True, "content": _json(self.body)}
        return found


def document(
    operations: Iterable[Operation], schemas: Mapping[str, Schema], *, title: str, version: str
) -> dict[str, Any]:
    paths: dict[str, dict[str, Schema]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.described()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "A repository's name may have slashes; they are not escaped in a path.",
        },
        "paths": paths,
        "components": {"schemas": dict(schemas)},
    }


def _json(schema: str | None) -> Schema:
    shape = {} if schema is None else {"$ref": f"#/components/schemas/{schema}"}
    return {"application/json": {"schema": shape}}
