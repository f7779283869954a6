"""The tokens that we sign, and what is still true of one that somebody shows.

A token says who asked for it and what it may be used for at most; what its owner may do is asked
of the policy with every request. It cannot be called back, so it lives for an hour at most or so.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from registry.auth import jws, resources
from registry.auth.identity import Kind, Principal
from registry.auth.jws import TokenInvalid
from registry.auth.keys import LEEWAY, Keys
from registry.auth.resources import Resource, ResourceInvalid
from registry.auth.scope import Grant

SHORTEST: Final = 300  # seconds; with less, long pushes of Spin fail midway
CACHED: Final = 8192  # tokens and the resources in them; each takes about 2 KiB

# Of a workload, so that the conditions of the policy can be asked again.
CLAIMS: Final = 64  # GitHub gives about 30
_CLAIM_NAME: Final = 64  # characters
_CLAIM_VALUE: Final = 1024  # characters
_SUBJECT: Final = 560  # characters: a kind, an issuer's name of 32, and what that says

_MEMBERS: Final = frozenset({"iss", "aud", "sub", "exp", "nbf", "iat", "jti", "access"})
_LATEST: Final = 1 << 40  # seconds since 1970; beyond that no number is a time


class TokenTooLarge(ValueError):
    """What was asked for does not fit in one token."""


@dataclass(frozen=True, slots=True)
class Verified:
    subject: str
    """Principal.text of whom it was made for; not whether there still is one."""
    access: tuple[Grant, ...]
    """What it may be used for at most: Principal.bounds."""
    claims: Mapping[str, str]
    """Of a workload; else none."""
    issued: int
    """Seconds since 1970: a robot that was made later has only its name in common."""


class Tokens:
    def __init__(
        self,
        keys: Keys,
        *,
        service: str,
        longest: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`service`: who issues and who takes them. `longest`: seconds that any may live."""
        self._keys = keys
        self._service = service
        self._longest = int(longest)
        self._clock = clock
        self._cache: dict[bytes, tuple[int, Verified]] = {}
        self._weight = 0
        self._generation = keys.generation

    async def issue(self, principal: Principal, access: Sequence[Resource], life: float) -> str:
        """A token of `life` seconds, or the longest that any has. Raises TokenTooLarge, OSError."""
        key = await self._keys.signing()
        now = int(self._clock())
        payload: dict[str, object] = {
            "iss": self._service,
            "aud": self._service,
            "sub": principal.text,
            "exp": now + min(int(life), self._longest),
            "nbf": now,
            "iat": now,
            "jti": secrets.token_urlsafe(16),
            "access": resources.as_access(access),
        }
        if principal.kind is Kind.WORKLOAD:
            payload["claims"] = dict(principal.claims)
        try:
            _claims(payload)
            _subject(payload)
        except TokenInvalid as error:
            raise TokenTooLarge(f"what is known of you does not fit in a token: {error}") from None
        text = jws.sign(payload, key.kid, key.private)
        if len(text) > jws.LARGEST:
            raise TokenTooLarge(
                f"a token has {jws.LARGEST} characters at most; ask for fewer repositories at once"
            )
        return text

    async def verify(self, text: str) -> Verified:
        """Raises TokenInvalid. Some microseconds for a token that was seen before."""
        if await self._keys.seen() != self._generation:
            self._forget()
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._cache.get(name)
        now = self._clock()
        if found is not None and now < found[0]:
            return found[1]
        expires, verified = await self._verify(text, now)
        # A look for its key may have found that others are gone.
        if self._keys.generation != self._generation:
            self._forget()
        self._keep(name, expires, verified)
        return verified

    def _keep(self, name: bytes, expires: int, verified: Verified) -> None:
        self._drop(name)
        self._cache[name] = expires, verified
        self._weight += _weight(verified)
        while self._weight > CACHED:  # the oldest goes, and is verified again if need be
            self._drop(next(iter(self._cache)))

    def _drop(self, name: bytes) -> None:
        found = self._cache.pop(name, None)
        if found is not None:
            self._weight -= _weight(found[1])

    def _forget(self) -> None:
        self._cache.clear()
        self._weight = 0
        self._generation = self._keys.generation

    async def _verify(self, text: str, now: float) -> tuple[int, Verified]:
        signed = jws.parse(text)
        key = await self._keys.verifying(signed.kid)
        if key is None:
            raise TokenInvalid("no such key")
        jws.verify(signed, key.public)
        payload = jws.read_object(signed.payload)
        # Our signature is on it; what follows guards against our own mistakes, and other releases.
        if not _MEMBERS <= payload.keys() <= _MEMBERS | {"claims"}:
            raise TokenInvalid("the payload lacks something, or has more")
        if payload["iss"] != self._service or payload["aud"] != self._service:
            raise TokenInvalid("of, or for, another service")
        if not isinstance(payload["jti"], str) or not 0 < len(payload["jti"]) <= 64:
            raise TokenInvalid("jti is no id")
        expires = self._times(payload, now)
        try:
            access = resources.as_grants(resources.parse_access(payload["access"]))
        except ResourceInvalid as error:
            raise TokenInvalid(str(error)) from None
        return expires, Verified(_subject(payload), access, _claims(payload), payload["iat"])

    def _times(self, payload: dict[str, Any], now: float) -> int:
        """Until when it can be used, in seconds since 1970."""
        issued, begins, expires = (_whole(payload[name]) for name in ("iat", "nbf", "exp"))
        if issued > now + LEEWAY or begins > now + LEEWAY:
            raise TokenInvalid("not valid yet")
        if not issued <= begins < expires or expires - issued > self._longest:
            raise TokenInvalid("valid for longer than any token, or never")
        # Without leeway: it was our clock, or that of a machine that shares our disk.
        if now >= expires:
            raise TokenInvalid("expired")
        return expires


def _weight(verified: Verified) -> int:
    """Anybody may ask for tokens of 64 resources, and each is a pattern that was compiled."""
    return 1 + len(verified.access)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 < value < _LATEST:  # True is an int
        raise TokenInvalid("a time is no whole number of seconds")
    return value


def _subject(payload: Mapping[str, object]) -> str:
    subject = payload["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT:
        raise TokenInvalid("sub is no text, or too long")
    return subject


def _claims(payload: Mapping[str, object]) -> Mapping[str, str]:
    claims = payload.get("claims", {})
    if not isinstance(claims, dict) or len(claims) > CLAIMS:
        raise TokenInvalid("claims is no object, or too large")
    if not all(
        len(name) <= _CLAIM_NAME and isinstance(value, str) and len(value) <= _CLAIM_VALUE
        for name, value in claims.items()
    ):
        raise TokenInvalid("a claim is no text, or too long")
    return MappingProxyType(claims)
