"""How one gets in, by the settings: what registry.auth has, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.audit import Audit, SignIns
from registry.auth import policy, policyfile
from registry.auth.authenticate import Authentication
from registry.auth.gate import Gate, Open
from registry.auth.htpasswd import CurrentUsers, Htpasswd
from registry.auth.identity import Kind, Principal
from registry.auth.issuers import Federation
from registry.auth.keys import Keys
from registry.auth.passwords import Passwords
from registry.auth.refresh import Owner, RefreshTokens
from registry.auth.robots import Robots
from registry.auth.service import TokenService
from registry.auth.tokens import Tokens
from registry.settings import Config
from storage.filesystem.layout import Layout
from storage.records.database import Database


@dataclass(frozen=True, slots=True)
class Entrance:
    gate: Gate
    tokens: TokenService | None = None
    """None where nobody has to sign in."""


def users_file(config: Config, layout: Layout) -> Path:
    return layout.users if config.auth.users == Path() else config.auth.users


@asynccontextmanager
async def entrance(
    config: Config, layout: Layout, database: Database, robots: Robots, audit: Audit
) -> AsyncIterator[Entrance]:
    """Raises UsersInvalid, PolicyInvalid, FileRefused, StorageError, OSError."""
    if not config.auth.enabled:
        yield Entrance(Open())
        return
    auth = config.auth
    policies = policyfile.watch(config)
    users = Htpasswd(users_file(config, layout))
    keys = Keys(database, life=auth.key_life, longest=auth.token_life)
    await keys.open()
    refresh = None
    if auth.refresh_tokens:
        refresh = RefreshTokens(database, _Users(users))
        await refresh.open()
    tokens = Tokens(keys, service=auth.service, longest=auth.token_life)
    federation = Federation(config.issuer, audience=auth.service) if config.issuer else None
    gate = Authentication(
        policies,
        policy.decide,
        users,
        Passwords(users, shared=config.connections.exempt),
        robots,
        tokens=tokens,
        federation=federation,
        sign_ins=SignIns(audit),
        challenge=auth.challenge,
        service=auth.service,
    )
    service = TokenService(
        gate,
        tokens,
        keys,
        service=auth.service,
        life=auth.token_life,
        refresh=refresh,
        exchange=federation,
        audit=audit,
    )
    try:
        yield Entrance(gate, service)
    finally:
        await gate.close()


class _Users:
    """Owners of refresh tokens: users, until they are removed or get another password.

    A robot's secret is as good as a refresh token, and a workload has to show who it is each time.
    """

    def __init__(self, users: CurrentUsers) -> None:
        self._users = users

    async def recall(self, subject: str) -> Owner | None:
        kind, _, name = subject.partition(":")
        user = self._users.current().find(name) if kind == Kind.USER else None
        return None if user is None else Owner(Principal(Kind.USER, name), user.hash)
