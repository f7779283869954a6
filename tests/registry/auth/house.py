"""A registry with a token service on a port of its own, and a small gate to ask."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
import yarl

from registry import app
from registry.audit import Event
from registry.auth.gate import Access, Decision
from registry.auth.identity import ANONYMOUS, Credentials, Kind, Principal
from registry.auth.keys import Keys
from registry.auth.refresh import Owner, RefreshTokens
from registry.auth.scope import Action, Grant
from registry.auth.service import Exchange, TokenService
from registry.auth.tokens import TokenInvalid, Tokens
from registry.config import load
from registry.errors import TooManyRequests, Unauthorized
from tests.registry.auth.front import Asked, Front
from tests.registry.auth.keyring import LIFE, LONGEST, Clock


class House:
    """A Gate, and the Owners: users with passwords, and what each of them may do."""

    closed = True

    def __init__(self) -> None:
        self.passwords = {"ada": "correct horse", "bob": "pass:with:colons", "ünï": "pässwörd"}
        self.rights: dict[str, list[Grant]] = {
            "user:ada": [Grant.parse("acme/**", ["admin"])],
            "user:bob": [Grant.parse("acme/shop", ["pull", "push"])],
            "user:root": [Grant.parse("**", ["admin"])],
            "anonymous": [Grant.parse("public/*", ["pull"])],
        }
        self.passwords["root"] = "secret of root"
        self.tokens: Tokens | None = None
        self.busy = False
        self.shown: list[Credentials] = []

    async def identify(self, credentials: Credentials) -> Principal:
        self.shown.append(credentials)
        if self.busy:
            raise TooManyRequests("too many failures from you", after=7.2)
        if credentials.authorization is None:
            return ANONYMOUS
        scheme, _, given = credentials.authorization.partition(" ")
        if scheme.lower() == "bearer" and self.tokens is not None:
            try:
                verified = await self.tokens.verify(given)
            except TokenInvalid:
                raise Unauthorized("the token is not valid") from None
            kind, _, name = verified.subject.partition(":")
            return Principal(Kind(kind), name, bounds=verified.access)
        try:
            user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthorized("the header cannot be read") from None
        if self.passwords.get(user) != password:
            challenge = (b"www-authenticate", b'Bearer realm="not for the token service"')
            raise Unauthorized("the user name or the password is wrong", [challenge])
        return Principal(Kind.USER, user)

    def decide(self, principal: Principal, action: Action, repository: str | None) -> Decision:
        bounds, rights = principal.bounds, self.rights.get(principal.text, [])
        inside = bounds is None or any(one.covers(action, repository) for one in bounds)
        return Decision(inside and any(one.covers(action, repository) for one in rights), "house")

    def challenges(
        self, host: str, access: Sequence[Access], error: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        scopes = " ".join(f"repository:{one.repository}:{','.join(one.actions)}" for one in access)
        value = f'Bearer realm="{host}/auth/token",service="spindle"'
        value += f',scope="{scopes}"' if scopes else ""
        value += f',error="{error}"' if error else ""
        return [(b"www-authenticate", value.encode())]

    async def recall(self, subject: str) -> Owner | None:
        kind, _, name = subject.partition(":")
        password = self.passwords.get(name)
        if kind != "user" or password is None:
            return None
        fingerprint = hashlib.sha256(password.encode()).hexdigest()
        return Owner(Principal(Kind.USER, name), fingerprint)


class Heard:
    """An Audit that can be full."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.full = False

    async def record(self, event: Event) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.events.append(event)


class Site:
    """`house`, `tokens`, `clock` and the rest of what answers at `url`."""

    def __init__(
        self,
        root: Path,
        house: House,
        tokens: Tokens,
        refresh: RefreshTokens,
        heard: Heard,
        clock: Clock,
    ) -> None:
        self.house = house
        self.tokens = tokens
        self.refresh = refresh
        self.heard = heard
        self.clock = clock
        self.root = root
        self.url = ""
        self.asked: list[Asked] = []
        """What was asked of the token service, behind a Front."""
        self.client: aiohttp.ClientSession

    async def get(
        self, query: str = "", auth: tuple[str, str] | None = None, **headers: str
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        """GET /auth/token?query; the status, the JSON, and the rest."""
        if auth is not None:
            headers["authorization"] = basic(*auth)
        return await self.ask("GET", f"/auth/token?{query}", headers=headers)

    async def post(
        self, fields: dict[str, str] | str | bytes, **more: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        if isinstance(fields, str | bytes):
            more.setdefault("headers", {"content-type": "application/x-www-form-urlencoded"})
        return await self.ask("POST", "/auth/token", data=fields, **more)

    async def ask(
        self, method: str, target: str, **more: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        url = yarl.URL(self.url + target, encoded=True)
        async with self.client.request(method, url, **more) as answer:
            json = answer.content_type.endswith("json")
            return answer.status, await answer.json(content_type=None) if json else None, answer

    async def access(self, token: str) -> dict[str, set[str]]:
        """What a token is for: the actions by pattern."""
        verified = await self.tokens.verify(token)
        return {one.pattern.text: set(one.actions) for one in verified.access}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@asynccontextmanager
async def site(
    root: Path, *, exchange: Exchange | None = None, refreshes: bool = True, front: bool = False
) -> AsyncIterator[Site]:
    """`front`: whoever asks for anything under /v2 has to sign in."""
    flags = {"data": str(root / "data"), "limits.reserve": "64KiB"}
    config = load(None, {}, flags)
    async with app.open_records(config) as records:
        house, heard, clock = House(), Heard(), Clock()
        keys = Keys(records.store.database, life=LIFE, longest=LONGEST, clock=clock)
        await keys.open()
        tokens = Tokens(keys, service="spindle", longest=LONGEST, clock=clock)
        house.tokens = tokens
        refresh = RefreshTokens(records.store.database, house, clock=clock)
        await refresh.open()
        service = TokenService(
            house,
            tokens,
            keys,
            service="spindle",
            life=600,
            refresh=refresh if refreshes else None,
            exchange=exchange,
            audit=heard,
            clock=clock,
        )
        made = Site(root, house, tokens, refresh, heard, clock)
        answering = app.create_app(
            config, records, gateway_port=80, wake=app.nobody_to_wake, tokens=service
        )
        server = Quiet(
            uvicorn.Config(
                Front(answering, made) if front else answering,
                host="127.0.0.1",
                port=0,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
            )
        )
        running = asyncio.create_task(server.serve())
        for _ in range(3000):
            if server.started:
                break
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        made.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as made.client:
            try:
                yield made
            finally:
                server.should_exit = True
                await running


class Quiet(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
