"""What the handlers know of authentication and policy: two questions and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from registry.auth.identity import ANYBODY, Credentials, Principal
from registry.auth.scope import Action


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str
    """Which line of which file decided, for the log and for `spindle policy explain`."""


@dataclass(frozen=True, slots=True)
class Access:
    """What an answer to somebody who must sign in, or has too small a token, asks for."""

    repository: str | None
    """None: the catalogue."""
    actions: tuple[str, ...]
    """In the words of token scopes: pull, push, delete."""


class Gate(Protocol):
    """Safe to be asked on the event loop for every request."""

    async def identify(self, credentials: Credentials) -> Principal:
        """Raises errors.Unauthorized for credentials that are wrong, errors.TooManyRequests."""
        ...

    def decide(self, principal: Principal, action: Action, repository: str | None) -> Decision:
        """`repository` is a name, or None for what belongs to none. Pure, some microseconds."""
        ...

    def challenges(
        self, host: str, access: Sequence[Access], error: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        """WWW-Authenticate headers (RFC 6750, section 3; distribution's token specification).

        `host` is what the client calls us, with scheme: `http://localhost:5000`. `error` is
        `insufficient_scope` or `invalid_token`.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether anything needs a login: then `GET /v2/` without one is challenged."""
        ...


class Open:
    """Gate of a registry that asks nobody to sign in."""

    closed = False

    async def identify(self, credentials: Credentials) -> Principal:
        return ANYBODY

    def decide(self, principal: Principal, action: Action, repository: str | None) -> Decision:
        return Decision(True, "nobody has to sign in here (auth.enabled)")

    def challenges(
        self, host: str, access: Sequence[Access], error: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        return []
