"""Where clients get tokens: /auth/token and /auth/jwks.

Distribution's token specification (GET) and its OAuth2 form (POST), RFC 6749 and 8693. Nobody is
refused for what a token is asked for: it names what of that is allowed, perhaps nothing. Neither
answers nor errors are kept by anybody, and nothing secret is taken from a URL.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from registry.access import address, request_id
from registry.audit import Audit, Event, NoAudit, Outcome
from registry.auth import resources
from registry.auth.gate import Gate
from registry.auth.identity import Credentials, Kind, Principal
from registry.auth.keys import Keys, jwk
from registry.auth.oauth import NO_STORE, OAuthError, last, one, pairs, read_form, refusal
from registry.auth.refresh import RefreshTokens
from registry.auth.resources import ASKED, CATALOG, EVERYTHING, Resource
from registry.auth.scope import Action
from registry.auth.tokens import Tokens
from registry.errors import QueryInvalid, TooManyRequests, Unauthorized

log = structlog.get_logger(__name__)

TOKEN_PATH: Final = "/auth/token"  # noqa: S105  # a path
JWKS_PATH: Final = "/auth/jwks"

_TOLD: Final = 8  # resources that the audit names of a token
_TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # a name
_ISSUED_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"


class Exchange(Protocol):
    async def exchange(self, subject_token: str, subject_token_type: str) -> Principal:
        """Who somebody else's token speaks of. Raises Unauthorized, TooManyRequests."""
        ...


class TokenService:
    def __init__(
        self,
        gate: Gate,
        tokens: Tokens,
        keys: Keys,
        *,
        service: str,
        life: float,
        refresh: RefreshTokens | None = None,
        exchange: Exchange | None = None,
        audit: Audit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`life`: seconds; not more than the tokens' longest. `refresh`: None gives nobody any."""
        self._gate = gate
        self._tokens = tokens
        self._keys = keys
        self._service = service
        self._life = int(life)
        self._refresh = refresh
        self._exchange = exchange
        self._audit = audit or NoAudit()
        self._clock = clock

    def routes(self) -> list[Route]:
        """For an application that renders registry.errors."""
        return [
            Route(TOKEN_PATH, self._token, methods=["GET", "POST"]),
            Route(JWKS_PATH, self._jwks, methods=["GET"]),
        ]

    async def _token(self, request: Request) -> Response:
        if request.method != "POST":
            return await self._get(request)
        try:
            return await self._post(request)
        except (OAuthError, TooManyRequests) as error:
            return refusal(error)

    async def _get(self, request: Request) -> Response:
        fields = _query(request)
        self._check_service(fields)
        try:
            principal = await self._gate.identify(_credentials(request))
        except Unauthorized as error:
            # Whatever else the registry takes, here a name and a password are asked for.
            challenge = f'Basic realm="{self._service}", charset="UTF-8"'
            raise Unauthorized(
                str(error), [(b"www-authenticate", challenge.encode("latin-1", "replace"))]
            ) from None
        try:
            offline = last(fields, "offline_token") == "true"
            answer, _ = await self._issue(request, principal, fields, offline=offline)
        except ValueError as error:
            raise QueryInvalid(str(error)) from None
        return JSONResponse(answer, headers=NO_STORE)

    async def _post(self, request: Request) -> Response:
        fields = await read_form(request)
        try:
            self._check_service(fields)
        except QueryInvalid as error:
            raise OAuthError("invalid_request", str(error)) from None
        kind = one(fields, "grant_type")
        try:
            principal = await self._granting(request, kind, fields)
        except Unauthorized as error:
            raise OAuthError("invalid_grant", str(error)) from None
        offline = kind == "password" and last(fields, "access_type") == "offline"
        try:
            answer, granted = await self._issue(request, principal, fields, offline=offline)
        except ValueError as error:
            raise OAuthError("invalid_scope", str(error)) from None
        answer |= {"token_type": "Bearer", "scope": " ".join(map(str, granted))}
        if kind == _TOKEN_EXCHANGE:
            answer["issued_token_type"] = _ISSUED_TYPE  # RFC 8693, section 2.2.1
        return JSONResponse(answer, headers=NO_STORE)

    async def _granting(
        self, request: Request, kind: str, fields: Sequence[tuple[str, str]]
    ) -> Principal:
        """Who asks with a POST. Raises OAuthError, Unauthorized, TooManyRequests."""
        match kind:
            case "password":
                user, password = one(fields, "username"), one(fields, "password")
                if ":" in user:  # it could not be told from a shorter name (RFC 7617, section 2)
                    raise OAuthError("invalid_grant", "no user has a name with a colon in it")
                pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
                return await self._gate.identify(
                    Credentials(f"Basic {pair}", address(request.scope), request_id(request.scope))
                )
            case "refresh_token" if self._refresh is not None:
                principal = await self._refresh.redeem(one(fields, "refresh_token"))
                if principal is None:
                    raise OAuthError(
                        "invalid_grant",
                        "the refresh token is expired, revoked or not ours: sign in again",
                    )
                return principal
            case _ if kind == _TOKEN_EXCHANGE and self._exchange is not None:
                return await self._exchange.exchange(
                    one(fields, "subject_token"), one(fields, "subject_token_type")
                )
            case _:
                raise OAuthError("unsupported_grant_type", f"{kind[:80]!r} is not taken here")

    async def _issue(
        self,
        request: Request,
        principal: Principal,
        fields: Sequence[tuple[str, str]],
        *,
        offline: bool,
    ) -> tuple[dict[str, object], tuple[Resource, ...]]:
        """The answer without what only one of both forms has. Raises ValueError, OSError."""
        asked = resources.parse_scopes(value for name, value in fields if name == "scope")
        granted = grant(self._gate, principal, asked)
        now = self._clock()
        text = await self._tokens.issue(principal, granted, self._life)
        answer: dict[str, object] = {
            # Docker's family reads the first, OAuth2's the second, and Spin 2 to 4 only the first.
            "token": text,
            "access_token": text,
            "expires_in": self._life,
            "issued_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if offline and self._refresh is not None and principal.kind is Kind.USER:
            kept = await self._refresh.issue(principal.text)
            if kept is not None:
                answer["refresh_token"] = kept
        if principal.signed_in:
            await self._tell(request, principal, granted, refresh="refresh_token" in answer)
        return answer, granted

    async def _tell(
        self, request: Request, principal: Principal, granted: Sequence[Resource], *, refresh: bool
    ) -> None:
        what = " ".join(map(str, granted[:_TOLD])) or "nothing"
        if len(granted) > _TOLD:
            what += f" and {len(granted) - _TOLD} more"
        event = Event(
            "token.issue",
            Outcome.DONE,
            principal.text,
            address(request.scope),
            request_id(request.scope),
            status=200,
            detail=f"for {what}" + (", with a refresh token" if refresh else ""),
        )
        try:
            await self._audit.record(event)
        except OSError as error:
            # On a full disk one can still pull and delete, and so has to be able to sign in.
            log.error("audit.failed", action=event.action, reason=str(error))

    def _check_service(self, fields: Sequence[tuple[str, str]]) -> None:
        """Clients send back what the challenge says; some say nothing. Raises QueryInvalid."""
        asked = last(fields, "service")
        if asked and asked != self._service:
            raise QueryInvalid(
                f"tokens of service {self._service!r} are given here, and none of {asked[:80]!r}"
            )

    async def _jwks(self, request: Request) -> Response:
        """RFC 7517, section 5."""
        return JSONResponse(
            {"keys": [jwk(key) for key in await self._keys.all()]},
            headers={"cache-control": "public, max-age=60", "x-content-type-options": "nosniff"},
            media_type="application/jwk-set+json",
        )


def grant(gate: Gate, principal: Principal, asked: Sequence[Resource]) -> tuple[Resource, ...]:
    """What is allowed now of what a token is asked for; what is not, is left out."""
    granted = []
    for resource in asked:
        words = _allowed(gate, principal, resource)
        if words:
            granted.append(Resource(resource.type, resource.name, words))
    return tuple(granted)


def _allowed(gate: Gate, principal: Principal, resource: Resource) -> tuple[str, ...]:
    if (resource.type, resource.name) == CATALOG:
        return resource.actions  # it shows everybody what he may pull, and no more
    words = resource.actions
    if EVERYTHING in words:
        # That is for who may do everything; for all others it means each word.
        if gate.decide(principal, Action.ADMIN, resource.name).allowed:
            return (EVERYTHING,)
        words = tuple(word for word in ASKED if word != EVERYTHING)
    return tuple(
        word for word in words if gate.decide(principal, ASKED[word], resource.name).allowed
    )


def _credentials(request: Request) -> Credentials:
    """Only Basic: a token that could be shown for a new one would never expire.

    Raises Unauthorized.
    """
    given = request.headers.getlist("authorization")
    if not given:
        return Credentials(None, address(request.scope), request_id(request.scope))
    scheme = given[0].partition(" ")[0].lower()
    if len(given) > 1 or scheme != "basic":
        raise Unauthorized("tokens are given for a user name and a password")
    return Credentials(given[0], address(request.scope), request_id(request.scope))


def _query(request: Request) -> list[tuple[str, str]]:
    """Raises QueryInvalid."""
    return pairs(request.scope["query_string"].decode("latin-1"), QueryInvalid)
