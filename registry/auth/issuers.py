"""Workloads that somebody else vouches for: their identity tokens, and the keys to check them.

A pipeline or a pod shows a token of its own platform (OpenID Connect) and is known by it, so that
it needs no secret of ours. What a token has to be is said in registry.auth.oidc; here are its
issuers' keys, how they are had, and how long they count.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

from registry.auth.destination import Destination
from registry.auth.fingerprint import fingerprint
from registry.auth.identity import Kind, Principal
from registry.auth.jwks import Key, Keys, KeysInvalid, parse_keys
from registry.auth.oidc import LARGEST as LARGEST_TOKEN
from registry.auth.oidc import TokenRefused, parse, verify
from registry.auth.outbound import LARGEST, Allowance, NotFetched, Outbound
from registry.auth.trust import Issuer
from registry.errors import Unauthorized
from storage.document import parse_object
from storage.errors import ManifestInvalid

FRESH: Final = 600.0  # seconds that keys count without another look
KEPT: Final = 3600.0  # seconds that they count while the issuer cannot be asked
AGAIN: Final = 60.0  # seconds between two looks for a key that is not there, or that failed
_FIRST_AGAIN: Final = 10.0  # seconds between two looks while there are no keys at all

DISCOVERY: Final = "/.well-known/openid-configuration"

# RFC 8693, section 3: both are what an issuer of identity tokens hands out.
TOKEN_TYPES: Final = frozenset(
    {"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}
)
_FORM: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

_log: Final = structlog.get_logger()


class Keyring:
    """The keys of one issuer. However many ask at once, the issuer is asked once."""

    def __init__(self, issuer: Issuer, outbound: Outbound, clock: Callable[[], float]) -> None:
        """`clock` in seconds, only ever forward."""
        self.issuer = issuer
        self._outbound = outbound
        self._clock = clock
        self._keys: Keys = {}
        self._had: float | None = None
        """When the keys were had."""
        self._looked: float | None = None
        """When the last look for them ended, well or not."""
        self._looking: asyncio.Task[None] | None = None

    async def key(self, key_id: str, algorithm: str) -> Key:
        """Raises TokenRefused: there is no such key, or the issuer cannot be asked for it."""
        if self._due(key_id, algorithm):
            await self._look()
        if self._had is None or self._clock() - self._had >= KEPT:
            raise TokenRefused("the issuer's keys cannot be had at the moment; the log tells why")
        try:
            return self._keys[key_id, algorithm]
        except KeyError:
            raise TokenRefused("kid and alg name none of the issuer's keys") from None

    def _due(self, key_id: str, algorithm: str) -> bool:
        now = self._clock()
        if self._looked is None:
            return True
        if self._had is None or now - self._had >= KEPT:
            return now - self._looked >= _FIRST_AGAIN
        if now - self._had < FRESH and (key_id, algorithm) in self._keys:
            return False
        return now - self._looked >= AGAIN

    async def _look(self) -> None:
        if self._looking is None:
            # A task of its own: whoever asked may leave, and the others still wait for it.
            self._looking = asyncio.create_task(self._fetch(), name=f"keys of {self.issuer.name}")
        await asyncio.shield(self._looking)

    async def _fetch(self) -> None:
        try:
            keys = parse_keys(await self._document())
        except (NotFetched, KeysInvalid) as error:
            _log.warning(
                "the keys of an issuer could not be had",
                issuer=self.issuer.name,
                reason=str(error),
                kept=len(self._keys),
            )
        else:
            self._keys = keys
            self._had = self._clock()
        finally:
            self._looked = self._clock()
            self._looking = None

    async def _document(self) -> bytes:
        """Raises NotFetched, KeysInvalid."""
        issuer = self.issuer
        if issuer.jwks is not None:
            return await asyncio.to_thread(_read, issuer.jwks)
        allowance = _allowance(issuer)
        if issuer.jwks_url is not None:
            return await self._outbound.fetch(issuer.jwks_url, allowance)
        found = await self._outbound.fetch(issuer.url.rstrip("/") + DISCOVERY, allowance)
        return await self._outbound.fetch(_keys_url(found, issuer), allowance)


def _allowance(issuer: Issuer) -> Allowance:
    hosts = frozenset({Destination.parse(issuer.jwks_url or issuer.url).host})
    return Allowance(issuer.networks, hosts if issuer.insecure else frozenset(), issuer.authorities)


def _keys_url(document: bytes, issuer: Issuer) -> str:
    """`jwks_uri` of what an issuer says of itself. OpenID Connect Discovery, section 4.3.

    Nobody wrote that URL into our settings, so it may have no other port than https has, or the
    issuer. Raises KeysInvalid.
    """
    try:
        said = parse_object(document, what="the discovery document")
    except ManifestInvalid as error:
        raise KeysInvalid(str(error)) from None
    if said.get("issuer") != issuer.url:
        raise KeysInvalid("the discovery document is of another issuer than the settings name")
    url = said.get("jwks_uri")
    if not isinstance(url, str):
        raise KeysInvalid("the discovery document has no jwks_uri")
    try:
        destination = Destination.parse(url)
    except ValueError as error:
        raise KeysInvalid(f"the jwks_uri {error}") from None
    if destination.port not in (443, Destination.parse(issuer.url).port):
        raise KeysInvalid(
            f"the jwks_uri has port {destination.port}; if that is right, set it as jwks_url"
        )
    return url


def _read(path: Path) -> bytes:
    """Raises NotFetched."""
    try:
        with path.open("rb") as file:
            document = file.read(LARGEST + 1)
    except OSError as error:
        raise NotFetched(f"{path} cannot be read: {error.strerror}") from None
    if len(document) > LARGEST:
        raise NotFetched(f"{path} has more than {LARGEST} bytes")
    return document


class Federation:
    """Who a workload is, by the token of its platform.

    A token can be shown more than once while it is good: it lives for minutes, clients sign in
    again for each scope, and to remember each one would only help against a thief who is slower
    than its owner.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        audience: str,
        outbound: Outbound | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`audience` is that of issuers which have none of their own: auth.service."""
        outbound = outbound or Outbound()
        self._rings = {one.url: Keyring(one, outbound, clock) for one in issuers}
        self._audience = audience
        self._now = now

    @staticmethod
    def recognises(password: str) -> bool:
        """Whether a password has the form of such a token, so that `sign_in` is to be asked."""
        return len(password) <= LARGEST_TOKEN and _FORM.fullmatch(password) is not None

    async def exchange(self, subject_token: str, subject_token_type: str | None) -> Principal:
        """The workload of a token exchange (RFC 8693, section 2.1). Raises Unauthorized."""
        if subject_token_type is not None and subject_token_type not in TOKEN_TYPES:
            raise Unauthorized(
                "subject_token_type has to be urn:ietf:params:oauth:token-type:jwt or :id_token"
            )
        return await self._workload(subject_token)

    async def sign_in(self, password: str) -> Principal:
        """The workload whose token is shown as a password, by whatever user name.

        Raises Unauthorized, whose cause is a TokenRefused with what is wrong.
        """
        return await self._workload(password)

    def trusts(self, principal: Principal) -> bool:
        """Whether a workload that was let in before still would be, by what the settings say now.

        For tokens of ours that were given for a token of an issuer. Needs the claims.
        """
        issuer = next(
            (
                ring.issuer
                for ring in self._rings.values()
                if principal.name.startswith(f"{ring.issuer.name}:")
            ),
            None,
        )
        return (
            principal.kind is Kind.WORKLOAD
            and issuer is not None
            and issuer.misfit(principal.claims) is None
        )

    async def _workload(self, text: str) -> Principal:
        known: dict[str, str] = {}
        try:
            token = parse(text)
            known["token"] = fingerprint(text)  # not before: it could be a password
            ring = self._rings.get(token.issuer)
            if ring is None:
                raise TokenRefused("iss is none of the configured issuers")
            issuer = ring.issuer
            known["issuer"] = issuer.name
            key = await ring.key(token.key_id, token.algorithm)
            audience = issuer.audience or self._audience
            return verify(token, issuer, key, audience=audience, now=self._now())
        except TokenRefused as refused:
            _log.info("an identity token was refused", reason=str(refused), **known)
            raise Unauthorized(
                "the identity token was not accepted; the registry's log tells why"
            ) from refused
