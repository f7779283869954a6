"""What a request leaves in the audit: what it changed, or that it was refused.

A change is committed, then durable in the audit, and only then answered: an answer of 2xx has its
lines. A crash in between leaves a change that nobody was told of and that has no line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.access import address, request_id
from registry.audit import Audit, Event, NoAudit, Outcome
from registry.auth.identity import ANYBODY
from registry.errors import render

if TYPE_CHECKING:
    from registry.exchange import Exchange

log = structlog.get_logger(__name__)

CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
REFUSED: Final = frozenset({401, 403, 409, 413, 429})
"""409 is what somebody holds, or what is immutable."""

_VERBS: Final = {
    "GET": "pull",
    "HEAD": "pull",
    "POST": "push",
    "PUT": "push",
    "PATCH": "push",
    "DELETE": "delete",
}
_KINDS: Final = {"manifests": "manifest", "blobs": "blob", "tags": "tag", "referrers": "referrers"}


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit: what a handler has done."""

    action: str
    reference: str = ""
    digest: str = ""
    detail: str = ""


async def tell(exchange: Exchange, status: int) -> None:
    """Before an answer is begun. Raises OSError where a change was made and cannot be recorded."""
    audit = exchange.registry.audit
    changes, exchange.changes = exchange.changes, []
    if isinstance(audit, NoAudit):
        return
    if changes:
        await _all(audit, [_changed(exchange, change, status) for change in changes])
    elif status in REFUSED and not _asked_how(exchange, status):
        await refuse(audit, _refused(exchange, status))


async def _all(audit: Audit, events: Iterable[Event]) -> None:
    """In this order, and in one write where that can be."""
    for done in await asyncio.gather(*map(audit.record, events), return_exceptions=True):
        if isinstance(done, BaseException):
            raise done


async def refuse(audit: Audit, event: Event) -> None:
    """A refusal changes nothing, so it is answered even where it cannot be recorded."""
    try:
        await audit.record(event)
    except OSError as error:
        log.warning("a refusal is not in the audit yet", reason=str(error))


def _changed(exchange: Exchange, change: Change, status: int) -> Event:
    return Event(
        *(change.action, Outcome.DONE, exchange.principal.text, exchange.address),
        *(exchange.request_id or "", exchange.name, change.reference, change.digest),
        *(status, change.detail),
    )


def _asked_how(exchange: Exchange, status: int) -> bool:
    """Every client asks first, without anything to show, how to sign in: nobody is refused."""
    return status == 401 and not exchange.name and exchange.header(b"authorization") is None


def _refused(exchange: Exchange, status: int) -> Event:
    kind = exchange.path.rpartition("/")[0].rpartition("/")[2]
    upload = kind == "uploads" or exchange.path.endswith("/blobs/uploads")
    noun = "blob" if upload else _KINDS.get(kind, "request")
    return Event(
        *(f"{noun}.{_VERBS.get(exchange.method, 'other')}", Outcome.REFUSED),
        *(exchange.principal.text, exchange.address, exchange.request_id or "", exchange.name),
        # The id of an upload lets whoever knows it go on with it.
        reference="" if upload else exchange.last,
        status=status,
    )


class Audited:
    """ASGI middleware of the /v1 API: every change that it answers with success, every refusal.

    Handlers say in `scope["state"]["changed"]` what they did; a doorman in front says in
    `scope["state"]["caller"]` who asks.
    """

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or isinstance(self._audit, NoAudit):
            await self._app(scope, receive, send)
            return
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        dropped = False

        async def answer(message: Message) -> None:
            nonlocal dropped
            if message["type"] == "http.response.start":
                try:
                    await self._tell(scope, state, message["status"])
                except OSError as error:
                    dropped = True
                    await _fail(scope, send, error)
            if not dropped:
                await send(message)

        if scope["method"] in CHANGING:
            try:
                await self._audit.ready()
            except OSError as error:
                await _fail(scope, send, error)
                return
        await self._app(scope, receive, answer)

    async def _tell(self, scope: Scope, state: MutableMapping[str, Any], status: int) -> None:
        changed = state.get("changed")
        if changed is None and status not in REFUSED:
            return
        caller = state.get("caller")
        principal = ANYBODY if caller is None else caller.principal
        event = Event(
            _action(scope),
            Outcome.REFUSED if changed is None else Outcome.DONE,
            principal.text,
            address(scope),
            request_id(scope),
            str(scope.get("path_params", {}).get("repository", "")),
            status=status,
            detail=changed or "",
        )
        await (refuse(self._audit, event) if changed is None else self._audit.record(event))


def _action(scope: Scope) -> str:
    if scope["path"].startswith("/auth/"):
        return "token.issue"
    return "app.configure" if scope["method"] in CHANGING else "app.read"


async def _fail(scope: Scope, send: Send, error: OSError) -> None:
    status, headers, body = render(error, scope["path"])
    log.error("request.failed", path=scope["path"], status=status, reason=str(error))
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
