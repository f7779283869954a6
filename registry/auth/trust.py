"""Whom we let vouch for workloads: `[[issuer]]` of the settings file. Pure but for the paths.

An issuer is believed in what it says of its own workloads and nothing else: its name is part of
theirs, so that two issuers can never mean the same workload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from registry.addresses import Network
from registry.auth.destination import Destination
from registry.auth.wildcard import Wildcard

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
MAX_AGE: Final = 3600.0
"""Seconds: Kubernetes' and GitLab's tokens are made for an hour."""
OLDEST: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Issuer:
    """Only values that were checked: see registry.rules."""

    name: str
    """In front of the subject in the name of a workload; `issuer` among its claims."""
    url: str
    """What `iss` has to be, to the letter."""
    audience: str | None = None
    """What `aud` has to be or hold; None for auth.service."""
    jwks_url: str | None = None
    """Where the keys are, for an issuer whose discovery is not to be asked."""
    jwks: Path | None = None
    """A file with the keys, for an issuer that cannot be asked at all."""
    authorities: Path | None = None
    """A PEM file with the certificates that the issuer's own may be signed by."""
    networks: tuple[Network, ...] = ()
    insecure: bool = False
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    claims: Mapping[str, tuple[Wildcard, ...]] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    """Each of these a token must have, fitting one of the patterns."""
    max_age: float = MAX_AGE
    """Seconds since `iat`."""

    def misfit(self, claims: Mapping[str, str]) -> str | None:
        """The name of a claim that is not as `claims` asks for; None if all are."""
        for name, wanted in self.claims.items():
            value = claims.get(name)
            if value is None or not any(one.fits(value) for one in wanted):
                return name
        return None


_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)


def parse_name(text: str) -> str:
    """Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError("takes up to 32 of a-z, 0-9 and -, such as github")
    return text


def parse_url(text: str) -> str:
    """An `iss`. Raises ValueError; OpenID Connect Core, section 2: no query and no fragment."""
    if "?" in text:
        raise ValueError("has a query, which no issuer has")
    Destination.parse(text)
    return text


def parse_keys_url(text: str) -> str:
    """Raises ValueError."""
    Destination.parse(text)
    return text


def check(issuer: Issuer) -> None:
    """Raises ValueError for a combination that means nothing, or less than it seems to."""
    if issuer.jwks is not None and issuer.jwks_url is not None:
        raise ValueError("has both jwks and jwks_url; the keys come from one place")
    asked = [] if issuer.jwks is not None else [issuer.jwks_url or issuer.url]
    if not asked and (issuer.networks or issuer.authorities or issuer.insecure):
        raise ValueError("has its keys in a file, so networks, authorities and insecure do nothing")
    plain = any(Destination.parse(url).scheme == "http" for url in asked)
    if plain and not issuer.insecure:
        raise ValueError(
            "is asked over http, where whoever is in between can put keys of their own; use https,"
            " or set insecure = true for a test"
        )
    if issuer.insecure and not plain:
        raise ValueError("is asked over https: leave insecure out")
