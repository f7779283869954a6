"""In front of /v2: who must sign in is told so, as the specification of tokens says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.auth.gate import Access
from registry.auth.identity import Credentials
from registry.auth.scope import Action
from registry.errors import Unauthorized, render

if TYPE_CHECKING:
    from tests.registry.auth.house import Site

_NAME: Final = re.compile(r"/v2/(.+?)/(?:manifests|blobs|tags|referrers)/")

Fields = list[tuple[str, str]]


@dataclass
class Asked:
    """One request for a token."""

    method: str
    authorization: str
    """Its scheme."""
    fields: Fields = field(default_factory=list)
    """Of the query, or of the form."""


class Front:
    """Enough of a guard for clients to sign in; keeps what they ask the token service."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site
        site.asked = self.asked = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"authorization")
        authorization = None if given is None else given.decode("latin-1")
        if scope["path"] == "/auth/token":
            scheme = (authorization or "").partition(" ")[0]
            asked = Asked(scope["method"], scheme, _parsed(scope["query_string"]))
            self.asked.append(asked)

            async def overheard() -> Message:
                message = await receive()
                asked.fields += _parsed(message.get("body", b""))
                return message

            await self._app(scope, overheard, send)
            return
        if not scope["path"].startswith("/v2"):
            await self._app(scope, receive, send)
            return
        found = _NAME.match(scope["path"])
        action = Action.PULL if scope["method"] in ("GET", "HEAD") else Action.PUSH
        words = ("pull",) if action is Action.PULL else ("pull", "push")
        access = [Access(found[1], words)] if found else []
        house = self._site.house
        try:
            if authorization is None or not authorization.startswith("Bearer "):
                raise Unauthorized("sign in", house.challenges(self._site.url, access))
            principal = await house.identify(Credentials(authorization, ""))
            if found and not house.decide(principal, action, found[1]).allowed:
                error = "insufficient_scope"
                raise Unauthorized("no", house.challenges(self._site.url, access, error))
        except Unauthorized as error:
            status, more, body = render(error, scope["path"])
            more += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": more})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)


def _parsed(raw: bytes) -> Fields:
    return parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
