"""A small real gate: who may do what is a list of grants, and passwords are the names."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.auth.gate import Access, Decision
from registry.auth.identity import ANONYMOUS, Credentials, Kind, Principal
from registry.auth.scope import Action, Grant
from registry.errors import Unauthorized


@dataclass
class Granting:
    """Gate. `Basic NAME:NAME` is user NAME; `Bearer NAME` is what `tokens` has under NAME."""

    grants: Mapping[str, Sequence[Grant]] = field(default_factory=dict)
    """By Principal.text; `anonymous` too. Owners are whoever is granted admin."""
    tokens: Mapping[str, Principal] = field(default_factory=dict)
    closed: bool = True
    asked: list[tuple[str, Action, str | None]] = field(default_factory=list)
    shown: list[Credentials] = field(default_factory=list)

    async def identify(self, credentials: Credentials) -> Principal:
        self.shown.append(credentials)
        if credentials.authorization is None:
            return ANONYMOUS
        scheme, _, rest = credentials.authorization.partition(" ")
        if scheme == "Basic":
            name, _, password = base64.b64decode(rest).decode().partition(":")
            if name == password:
                return Principal(Kind.USER, name)
        if scheme == "Bearer" and rest in self.tokens:
            return self.tokens[rest]
        raise Unauthorized("these credentials are wrong")

    def decide(self, principal: Principal, action: Action, repository: str | None) -> Decision:
        self.asked.append((principal.text, action, repository))
        if principal.bounds is not None and not _cover(principal.bounds, action, repository):
            return Decision(False, "beyond the bounds of the token")
        own = [*principal.grants, *self.grants.get(principal.text, ())]
        return Decision(_cover(own, action, repository), "the grants of this test")

    def challenges(
        self, host: str, access: Sequence[Access], error: str | None = None
    ) -> list[tuple[bytes, bytes]]:
        scopes = " ".join(
            f"registry:catalog:{','.join(one.actions)}"
            if one.repository is None
            else f"repository:{one.repository}:{','.join(one.actions)}"
            for one in access
        )
        told = [f'realm="{host}/auth/token"', 'service="test"']
        told += [f'scope="{scopes}"'] if scopes else []
        told += [f'error="{error}"'] if error else []
        return [(b"www-authenticate", f"Bearer {','.join(told)}".encode())]


def _cover(grants: Sequence[Grant], action: Action, repository: str | None) -> bool:
    return any(grant.covers(action, repository) for grant in grants)


def basic(name: str, password: str | None = None) -> dict[str, str]:
    """Headers of user `name`."""
    text = f"{name}:{name if password is None else password}"
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def bounded(principal: Principal, *bounds: Grant) -> Principal:
    """The same with a token that is for no more than that."""
    return replace(principal, bounds=bounds)
