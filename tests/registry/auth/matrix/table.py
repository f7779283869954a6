"""Every route, method and sort of caller, with what there is and what there is not: the answers.

The rows come from the tables of routes. What a route's path is filled in with is said here, and a
route of which nothing is said is an error: so none can be added without saying who may use it.
`python -m tests.registry.auth.matrix` writes the answers down anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry import v2
from registry.auth.identity import Kind, Principal
from registry.auth.scope import Grant
from registry.deploy import api
from registry.deploy.apps import Settings
from registry.deploy.journal import Journal
from registry.v2 import V2
from storage.filesystem.layout import Layout
from storage.memory import MemoryBlobs
from storage.names import RepositoryName
from storage.records.database import Connection
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import IMAGE, digest_of, image
from tests.registry.auth.granting import Granting, basic, bearer, bounded

GOLDEN: Final = Path(__file__).parent / "answers.txt"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

HERE, ABSENT = "acme/shop", "acme/none"
BLOB, MANIFEST, OTHER = b"{}", image(), image(annotations={"is": "another"})
PUSHED: Final = b"pushed"
SESSION: Final = "{session}"


def _grants(*rules: tuple[str, str]) -> list[Grant]:
    return [Grant.parse(pattern, actions.split()) for pattern, actions in rules]


_PUSH: Final = Principal(Kind.USER, "push")
GATE: Final = Granting(
    {
        "user:pull": _grants(("acme/*", "pull")),
        "user:push": _grants(("acme/*", "pull push")),
        "user:overwrite": _grants(("acme/*", "pull push overwrite")),
        "user:blind": _grants(("acme/*", "push")),
        "user:delete": _grants(("acme/*", "pull delete")),
        "user:deploy": _grants(("acme/*", "pull deploy")),
        "user:admin": _grants(("**", "admin")),
        "user:owner": _grants(("acme/**", "admin")),
        "user:neighbour": _grants(("other/*", "pull push overwrite delete deploy")),
    },
    {
        "robot": bounded(
            Principal(Kind.ROBOT, "ci", grants=tuple(_grants(("acme/*", "pull push")))),
            *_grants(("acme/*", "pull")),
        ),
        "small": bounded(_PUSH, *_grants(("acme/*", "pull"))),
        "empty": bounded(_PUSH),
    },
)
CALLERS: Final[Mapping[str, Mapping[str, str]]] = {
    "anonymous": {},
    "wrong": basic("admin", "wrong"),
    "none": basic("none"),
    "pull": basic("pull"),
    "push": basic("push"),
    "overwrite": basic("overwrite"),
    "blind": basic("blind"),  # may push, but not pull
    "delete": basic("delete"),
    "deploy": basic("deploy"),
    "admin": basic("admin"),
    "owner": basic("owner"),
    "neighbour": basic("neighbour"),  # may everything, but elsewhere
    "robot": bearer("robot"),  # may push, with a token to pull
    "small": bearer("small"),  # push, with a token to pull
    "empty": bearer("empty"),  # push, with a token for nothing
}
BLIND: Final = ("anonymous", "wrong", "none", "neighbour")
"""They may not know what there is under acme."""


@dataclass(frozen=True)
class Row:
    """A route with something in it."""

    route: str
    state: str
    """What the path leads to: here, missing (in a repository that is here), absent, or neither."""
    target: str
    body: bytes = b""
    kind: str = IMAGE

    def __str__(self) -> str:
        shown = self.target.replace(digest_of(MANIFEST), "<digest>")
        shown = shown.replace(digest_of(OTHER), "<other digest>")
        shown = shown.replace(digest_of(PUSHED), "<digest>").replace(digest_of(BLOB), "<digest>")
        return f"{shown}  ({self.state})" if self.state else shown


def _v2(route: str, *targets: tuple[str, str], body: bytes = b"") -> list[Row]:
    return [Row(route, state, f"/v2/{target}", body) for state, target in targets]


def _in_each(rest: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("here", f"{HERE}/{rest}"), ("absent", f"{ABSENT}/{rest}")


_NOTHING = digest_of(b"nothing")
V2_ROWS: Final = [
    *_v2("BASE", ("", "")),
    *_v2("CATALOG", ("", "_catalog")),
    *_v2("EXTENSIONS", ("", "_oci/ext/discover")),
    *_v2("REPOSITORY_EXTENSIONS", *_in_each("_oci/ext/discover")),
    *_v2(
        "MANIFESTS",
        *(*_in_each("manifests/latest"), ("missing", f"{HERE}/manifests/new")),
        ("invalid", "Acme/manifests/latest"),
        body=OTHER,
    ),
    *_v2("MANIFESTS", *_in_each(f"manifests/{digest_of(MANIFEST)}"), body=MANIFEST),
    *_v2("MANIFESTS", ("missing", f"{HERE}/manifests/{digest_of(OTHER)}"), body=OTHER),
    *_v2("MANIFESTS", *_in_each(f"manifests/{digest_of(OTHER)}?tag=latest"), body=OTHER),
    *_v2("BLOBS", *_in_each(f"blobs/{digest_of(BLOB)}"), ("missing", f"{HERE}/blobs/{_NOTHING}")),
    *_v2("UPLOADS", *_in_each("blobs/uploads/")),
    *_v2("UPLOADS", *_in_each(f"blobs/uploads/?digest={digest_of(PUSHED)}"), body=PUSHED),
    *_v2("UPLOADS", *_in_each(f"blobs/uploads/?mount={digest_of(BLOB)}&from=other/base")),
    *_v2("UPLOADS", *_in_each(f"blobs/uploads/?mount={digest_of(BLOB)}&from={HERE}")),
    *_v2(
        "UPLOAD",
        ("begun by push", f"{HERE}/blobs/uploads/{SESSION}?digest={digest_of(PUSHED)}"),
        ("absent", f"{ABSENT}/blobs/uploads/{SESSION}?digest={digest_of(PUSHED)}"),
        ("missing", f"{HERE}/blobs/uploads/none?digest={digest_of(PUSHED)}"),
        body=PUSHED,
    ),
    *_v2("TAGS", *_in_each("tags/list")),
    *_v2("REFERRERS", *_in_each(f"referrers/{digest_of(MANIFEST)}")),
    *_v2("", ("no path", "nothing")),
]
V1_STATES: Final = {"here": HERE, "absent": ABSENT, "invalid": "acme/Shop"}


def rows() -> list[Row]:
    """All of them. Raises LookupError for a route of /v2 of which nothing is said here."""
    tables = {name for name, value in vars(v2).items() if _is_methods(value)}
    if tables != (said := {row.route for row in V2_ROWS if row.route}):
        raise LookupError(f"say who may use what, in V2_ROWS: {', '.join(tables ^ said)}")
    return [*V2_ROWS, *_v1_rows()]


def _is_methods(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(one, v2.Route) for one in value.values())


def _v1_rows() -> Iterator[Row]:
    for path in dict.fromkeys(operation.path for operation in api.OPERATIONS):
        if "{" not in path:
            yield Row(path, "", path)
            continue
        for state, name in V1_STATES.items():
            target = path.replace("{repository}", name)
            yield Row(path, state, target, b"{}", "application/json")


@dataclass
class World:
    """A registry in memory, put back to how it was after every request that changed it."""

    store: Store
    journal: Journal
    app: ASGIApp
    session: str = field(default="")

    @staticmethod
    @asynccontextmanager
    async def open(root: Path) -> AsyncIterator[World]:
        store = await Store.open(await SQLite.open(Layout.open(root)), MemoryBlobs())
        try:
            journal = Journal(store.database)
            await journal.open()
            world = World(store, journal, _application(store, journal))
            await world.restore()
            yield world
        finally:
            await store.close()

    async def restore(self) -> None:
        session = await self.store.repository(_name(HERE)).start_upload(principal="user:push")
        self.session = session.id
        admin = CALLERS["admin"]
        for name in (HERE, "other/base"):
            digest = digest_of(BLOB)
            target = f"/v2/{name}/blobs/uploads/?digest={digest}"
            assert (await self.ask("POST", Row("", "", target, BLOB), admin)).status == 201
            row = Row("", "", f"/v2/{name}/manifests/latest", MANIFEST)
            assert (await self.ask("PUT", row, admin)).status == 201
        for gone in (f"manifests/{digest_of(OTHER)}", f"blobs/{digest_of(PUSHED)}"):
            await self.ask("DELETE", Row("", "", f"/v2/{HERE}/{gone}"), admin)
        await self.journal.configure(_name(HERE), Settings(), "apps.example")
        await self.journal.forget(_name(ABSENT))
        await self.store.database.write(_forget)

    async def ask(self, method: str, row: Row, headers: Mapping[str, str]) -> Answered:
        path, _, query = row.target.replace(SESSION, self.session).partition("?")
        body = row.body if method in ("POST", "PUT", "PATCH") else b""
        sent = [(b"host", b"registry.test"), (b"content-length", str(len(body)).encode())]
        sent += [(b"content-type", row.kind.encode())] if body else []
        sent += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        found = Answered()

        async def receive() -> Message:
            found.reads += 1
            if found.reads > 1:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                found.status, found.headers = message["status"], list(message["headers"])
            else:
                found.body += message.get("body", b"")

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": sent,
            "client": ("192.0.2.1", 1),
            "state": {},
        }
        await self.app(scope, receive, send)
        return found


@dataclass
class Answered:
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    reads: int = 0

    def __str__(self) -> str:
        words = [str(self.status)]
        if self.status >= 400 and self.body:
            words += [error["code"] for error in json.loads(self.body).get("errors", ())]
        if any(b"insufficient_scope" in value for _, value in self.headers):
            words.append("insufficient_scope")
        return " ".join(words)


def _application(store: Store, journal: Journal) -> ASGIApp:
    registry = V2(store, moved=lambda: None, gate=GATE)
    routes = api.routes(
        journal,
        url_for=lambda app: f"http://{app.host}/",
        log_of=lambda app: Path("/nowhere"),
        domain="apps.example",
        wake=lambda: None,
        gate=GATE,
    )
    deployment = Starlette(routes=routes, exception_handlers=api.EXCEPTION_HANDLERS)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        under = scope["path"] == "/v2" or scope["path"].startswith("/v2/")
        await (registry if under else deployment)(scope, receive, send)

    return answer


def _forget(c: Connection) -> None:
    """As if nothing had ever been pushed to what is absent."""
    row = c.one("SELECT id FROM repositories WHERE name = ?", ABSENT)
    if row is not None:
        for table in ("tags", "tag_moves", "edges", "leases", "links", "manifests"):
            c.execute(f"DELETE FROM {table} WHERE repository = ?", row[0])
        c.execute("DELETE FROM repositories WHERE id = ?", row[0])


def _name(text: str) -> RepositoryName:
    return RepositoryName.parse(text)


@dataclass(frozen=True)
class Cell:
    row: Row
    method: str
    caller: str
    answer: Answered


async def answers(root: Path) -> list[Cell]:
    """Every cell, each asked of the same registry."""
    cells = []
    async with World.open(root) as world:
        for row in rows():
            for method in METHODS:
                for caller, headers in CALLERS.items():
                    answer = await world.ask(method, row, headers)
                    cells.append(Cell(row, method, caller, answer))
                    if method not in ("GET", "HEAD", "OPTIONS") and answer.status < 300:
                        await world.restore()
    return cells


def written(cells: list[Cell]) -> str:
    """As a person reads it: by row and method, who is answered what."""
    lines = []
    shown = None
    for row, method in dict.fromkeys((cell.row, cell.method) for cell in cells):
        if row is not shown:
            lines += ["", str(row)]
            shown = row
        by_answer: dict[str, list[str]] = {}
        for cell in cells:
            if cell.row is row and cell.method == method:
                by_answer.setdefault(str(cell.answer), []).append(cell.caller)
        for answer, callers in sorted(by_answer.items()):
            lines.append(f"  {method:8}{answer:36}{_listed(callers)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _listed(callers: list[str]) -> str:
    others = [caller for caller in CALLERS if caller not in callers]
    if not others:
        return "everybody"
    return " ".join(callers) if len(others) >= 6 else f"everybody but {' '.join(others)}"
