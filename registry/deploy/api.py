"""The /v1 API: what was deployed, why, and with which settings. Its clients are the command line
and whoever waits for a push to be live.

Each operation is declared once, below its handler: from it come the route, the permission it needs
and its description in GET /v1/openapi.json.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry import errors
from registry.auth.doorman import CATALOG, Caller, Doorman
from registry.auth.gate import Gate, Open
from registry.auth.scope import Action
from registry.deploy import openapi, output, schemas
from registry.deploy.apps import App, Settings, SettingsInvalid
from registry.deploy.change import SettingsChange
from registry.deploy.journal import Journal
from registry.deploy.openapi import Answer, Operation, Parameter
from registry.permissions import Need
from storage.errors import NameInvalid, RepositoryUnknown, StorageError
from storage.names import RepositoryName

BODY_LIMIT: Final = 2 << 20  # bytes; above what the longest settings take with every escape
TAIL_LIMIT: Final = 10_000
EVENT_LIMIT: Final = 1_000
REVISION_LIMIT: Final = 50


class Api:
    def __init__(
        self,
        journal: Journal,
        *,
        url_for: Callable[[App], str],
        log_of: Callable[[App], Path],
        domain: str,
        wake: Callable[[], None],
        going: Callable[[], bool],
    ) -> None:
        self._going = going
        self._journal = journal
        self._url_for = url_for
        self._log_of = log_of
        self._domain = domain
        self._wake = wake
        self._configuring = asyncio.Lock()

    async def list_apps(self, request: Request) -> Response:
        apps = await self._journal.apps()
        caller = _caller(request)
        if caller is not None:
            apps = [app for app in apps if caller.may(Action.DEPLOY, app.repository.text)]
            if not apps and not caller.principal.signed_in:
                raise caller.unauthorized("sign in first: here is no app for everybody", CATALOG)
        return JSONResponse({"apps": [await self._shown(app, revisions=1) for app in apps]})

    async def show_app(self, request: Request) -> Response:
        app = await self._app(request)
        return JSONResponse(await self._shown(app, revisions=REVISION_LIMIT))

    async def list_events(self, request: Request) -> Response:
        limit = _number(request, "limit", default=100, most=EVENT_LIMIT)
        app = await self._app(request)
        events = await self._journal.events(app.id, limit=limit)
        return JSONResponse({"events": [schemas.event(event) for event in events]})

    async def read_logs(self, request: Request) -> Response:
        count = _number(request, "tail", default=100, most=TAIL_LIMIT)
        after = request.query_params.get("after")
        try:
            cursor = None if after is None else output.Cursor.parse(after)
        except output.CursorInvalid as error:
            raise errors.QueryInvalid(f"after: {error}") from None
        log = self._log_of(await self._app(request))
        printed = await asyncio.to_thread(
            lambda: output.tail(log, count) if cursor is None else output.since(log, cursor)
        )
        return JSONResponse({"lines": printed.lines, "cursor": str(printed.cursor)})

    async def show_settings(self, request: Request) -> Response:
        app = await self._app(request)
        return JSONResponse(schemas.settings(app.settings))

    async def change_settings(self, request: Request) -> Response:
        repository = _repository(request)
        change = SettingsChange.parse(await _body(request))
        async with self._configuring:  # two changes of one app must not undo each other
            app = await self._journal.app(repository)
            changed = change.applied_to(app.settings if app else Settings())
            app = await self._journal.configure(repository, changed, self._domain)
        request.scope.setdefault("state", {})["changed"] = change.summary
        self._wake()
        return JSONResponse(schemas.settings(app.settings))

    async def describe(self, request: Request) -> Response:
        return JSONResponse(DOCUMENT)

    async def show_version(self, request: Request) -> Response:
        return JSONResponse({"version": version_of("spindle")})

    async def healthy(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        if self._going():
            return JSONResponse({"status": "stopping"}, 503)
        try:
            await self._journal.cursor()
        except Exception:
            return JSONResponse({"status": "unavailable"}, 503)
        return JSONResponse({"status": "ok"})

    async def _app(self, request: Request) -> App:
        repository = _repository(request)
        app = await self._journal.app(repository)
        if app is None:
            raise RepositoryUnknown(
                f"there is no app {repository}; push a Spin application to that repository, or set"
                " variables for it first"
            )
        return app

    async def _shown(self, app: App, *, revisions: int) -> dict[str, Any]:
        listed = await self._journal.revisions(app.id, limit=revisions)
        live = None
        if app.live is not None:
            known = {revision.number: revision for revision in listed}
            live = known.get(app.live) or await self._journal.revision(app.id, app.live)
        return schemas.app(app, self._url_for(app), live, listed)


_REPOSITORY: Final = Parameter(
    "repository",
    "path",
    "The repository of the app, such as acme/hello.",
    {"type": "string", "maxLength": 255},
)
_UNKNOWN: Final = Answer("There is no such app.", "Errors")
_WRONG: Final = Answer("Something in the request is wrong; the message says what.", "Errors")


def _count(name: str, what: str, default: int, most: int) -> Parameter:
    schema = {"type": "integer", "minimum": 0, "maximum": most, "default": default}
    return Parameter(name, "query", what, schema)


OPERATIONS: Final = (
    Operation(
        "GET",
        "/v1/apps",
        Api.list_apps,
        Need.APPS,
        "All apps by repository, each with its newest revision only",
        {200: Answer("The apps.", "Apps")},
    ),
    Operation(
        "GET",
        "/v1/apps/{repository}/_events",
        Api.list_events,
        Need.DEPLOY,
        "What happened to an app, newest first",
        {200: Answer("The events.", "Events"), 400: _WRONG, 404: _UNKNOWN},
        (_REPOSITORY, _count("limit", "How many at most.", 100, EVENT_LIMIT)),
    ),
    Operation(
        "GET",
        "/v1/apps/{repository}/_logs",
        Api.read_logs,
        Need.DEPLOY,
        "What an app printed, oldest first",
        {200: Answer("The lines.", "Logs"), 400: _WRONG, 404: _UNKNOWN},
        (
            _REPOSITORY,
            _count("tail", "How many of the last lines.", 100, TAIL_LIMIT),
            Parameter(
                "after",
                "query",
                "A cursor from an earlier answer: what was printed since then, instead of a tail.",
                {"type": "string"},
            ),
        ),
    ),
    Operation(
        "GET",
        "/v1/apps/{repository}/_settings",
        Api.show_settings,
        Need.DEPLOY,
        "The names of an app's variables, and its health path; never a value",
        {200: Answer("The settings.", "Settings"), 400: _WRONG, 404: _UNKNOWN},
        (_REPOSITORY,),
    ),
    Operation(
        "PATCH",
        "/v1/apps/{repository}/_settings",
        Api.change_settings,
        Need.DEPLOY,
        "Set or remove variables and the health path; a change deploys the app again, and an app"
        " that is not there yet is made",
        {
            200: Answer("The settings after the change.", "Settings"),
            400: _WRONG,
            413: Answer("The body is too large.", "Errors"),
        },
        (_REPOSITORY,),
        body="SettingsChange",
    ),
    Operation(
        "GET",
        "/v1/apps/{repository}",
        Api.show_app,
        Need.DEPLOY,
        f"An app with its {REVISION_LIMIT} newest revisions, newest first",
        {200: Answer("The app.", "App"), 400: _WRONG, 404: _UNKNOWN},
        (_REPOSITORY,),
    ),
    Operation(
        "GET",
        "/v1/openapi.json",
        Api.describe,
        Need.NOTHING,
        "This document",
        {200: Answer("OpenAPI 3.1.")},
    ),
    Operation(
        "GET",
        "/v1/version",
        Api.show_version,
        Need.NOTHING,
        "The version of Spindle",
        {200: Answer("The version.", "Version")},
    ),
    Operation(
        "GET",
        "/healthz",
        Api.healthy,
        Need.NOTHING,
        "Whether the process answers",
        {200: Answer("It does.", "Health")},
    ),
    Operation(
        "GET",
        "/readyz",
        Api.ready,
        Need.NOTHING,
        "Whether the records can be read, and the server is there to stay",
        {200: Answer("They can.", "Health"), 503: Answer("They cannot, or it stops.", "Health")},
    ),
)

DOCUMENT: Final = openapi.document(
    OPERATIONS, schemas.SCHEMAS, title="Spindle", version=version_of("spindle")
)


def routes(
    journal: Journal,
    *,
    url_for: Callable[[App], str],
    log_of: Callable[[App], Path],
    domain: str,
    wake: Callable[[], None],
    gate: Gate | None = None,
    url: str = "",
    going: Callable[[], bool] = lambda: False,
) -> list[Route]:
    """`log_of` names the file of what an app prints; `wake` tells the deployer of a change.

    Who does not pass the `gate` is refused before anything of the body is read; without one nobody
    has to sign in. `url` is how clients reach us, if not as their Host says. `going`: the server
    was told to stop.
    """
    doorman = None if gate is None or isinstance(gate, Open) else Doorman(gate, url)
    api = Api(journal, url_for=url_for, log_of=log_of, domain=domain, wake=wake, going=going)
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation

    def route(path: str, operations: Mapping[str, Operation]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            operation = operations[method]
            if doorman is not None and operation.need is not Need.NOTHING:
                name = request.path_params.get("repository", "")
                caller = await doorman.identify(request.scope, operation.need, name)
                request.state.caller = caller
                try:
                    doorman.admit(caller, operation.need, name)
                except NameInvalid:
                    _repository(request)  # which tells better what is wrong
                    raise
            return await operation.handler(api, request)

        # `path` takes slashes, so what comes after a name is read from the right.
        pattern = path.replace("{repository}", "{repository:path}")
        return Route(pattern, answer, methods=list(operations), name=path)

    return [route(path, operations) for path, operations in by_path.items()]


def _caller(request: Request) -> Caller | None:
    """None where nobody has to sign in."""
    found = getattr(request.state, "caller", None)
    assert found is None or isinstance(found, Caller)
    return found


def _repository(request: Request) -> RepositoryName:
    """Raises NameInvalid, or PathUnknown: no repository has a component that begins with '_'."""
    name: str = request.path_params["repository"]
    if name.rpartition("/")[2].startswith("_"):
        raise errors.PathUnknown(f"an app has no {name.rpartition('/')[2][:40]!r}")
    return RepositoryName.parse(name)


def _number(request: Request, name: str, *, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) > most:
        raise errors.QueryInvalid(f"{name} must be a whole number from 0 to {most}")
    return int(text)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            raise errors.BodyTooLarge(f"a change of settings has at most {BODY_LIMIT} bytes")
    return bytes(body)


def _failed(request: Request, error: Exception) -> Response:
    match error:
        case SettingsInvalid():
            body = {"errors": [{"code": "SETTINGS_INVALID", "message": str(error)}]}
            return JSONResponse(body, 400)
        case HTTPException(status_code=405):
            allow = (error.headers or {}).get("Allow", "")
            error = errors.MethodRefused(f"{request.method} is not for this path", allow=allow)
        case HTTPException():
            error = errors.PathUnknown("there is nothing at this path; see /v1/openapi.json")
        case ClientDisconnect():
            return Response(status_code=400)  # nobody reads it
        case _:
            pass
    status, headers, rendered = errors.render(error, request.scope["path"])
    response = Response(rendered, status)
    response.raw_headers.extend(headers)
    return response


EXCEPTION_HANDLERS: Final = dict.fromkeys(
    (
        *(StorageError, errors.RequestError, SettingsInvalid),
        *(HTTPException, ClientDisconnect, Exception),
    ),
    _failed,
)
"""For the Starlette application that has these routes."""
