"""Who is asking. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from registry.auth.scope import Grant

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Kind(StrEnum):
    ANONYMOUS = "anonymous"
    USER = "user"
    """A row of the htpasswd file."""
    ROBOT = "robot"
    """A token that somebody made for a program."""
    WORKLOAD = "workload"
    """Somebody whom a configured OIDC issuer vouches for."""
    ANYBODY = "anybody"
    """Whoever reaches a registry that asks nobody to sign in. May do everything."""


@dataclass(frozen=True, slots=True)
class Principal:
    kind: Kind
    name: str = ""
    """Of a workload `<issuer>:<subject>`; empty for those who have none."""
    claims: Mapping[str, str] = field(default_factory=lambda: _NONE, hash=False)
    """Of a workload's OIDC token, as texts."""
    grants: tuple[Grant, ...] = ()
    """What a credential allows by itself, whatever the policy says: a robot's token."""
    bounds: tuple[Grant, ...] | None = None
    """What a credential may be used for at most; None for all that its owner may do."""

    @property
    def text(self) -> str:
        """`user:ada`, `robot:ci`, `workload:github:repo:acme/shop:ref:refs/heads/main`,
        `anonymous`, `anybody`: in logs, in the audit, as the owner of an upload.
        """
        return f"{self.kind}:{self.name}" if self.name else self.kind.value

    @property
    def signed_in(self) -> bool:
        return self.kind in (Kind.USER, Kind.ROBOT, Kind.WORKLOAD)


ANONYMOUS: Final = Principal(Kind.ANONYMOUS)
ANYBODY: Final = Principal(Kind.ANYBODY)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request shows of its sender."""

    authorization: str | None
    """The header as it was sent. Never to be logged."""
    address: str
    """IP address of the client, as far as the trusted proxies tell; empty on a Unix socket."""
    request: str = ""
    """The id of the request, for the audit."""
    certificate: str | None = None
    """The subject's common name of a client certificate that was verified."""
