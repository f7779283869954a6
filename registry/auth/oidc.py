"""An identity token of a workload: what it has to be before anything in it counts. Pure.

OpenID Connect Core, section 3.1.3.7; RFC 7515, 7519 and 8725. A token has one spelling, says with
its header only which of the issuer's keys to take, and is believed for a bounded time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from registry.auth.identity import Kind, Principal
from registry.auth.jwks import Key, decoded
from registry.auth.trust import Issuer
from storage.document import parse_object
from storage.errors import ManifestInvalid

LARGEST: Final = 8 << 10  # characters
LEEWAY: Final = 60.0  # seconds by which the clocks may differ
MOST_CLAIMS: Final = 64
LONGEST_CLAIM: Final = 1024  # bytes in UTF-8
LONGEST_NAME: Final = 64  # bytes
_LONGEST_SUBJECT: Final = 512

# x5t names a certificate by its hash and is not looked at; GitHub and Entra send it. All else is
# refused rather than left alone: keys in the token (jwk, jku, x5u, x5c), what changes how it is to
# be read (crit, b64, zip), and what nobody here knows.
_HEADER: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_SUBJECT: Final = re.compile(r"[!-~]+", re.ASCII)

# Of the token and not of the workload: they were checked, and no rule should be about them.
_OF_THE_TOKEN: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})


class TokenRefused(Exception):
    """Why, for the log and the audit: holds nothing of the token but names of its parts.

    Not for whoever sent the token, who could learn from it how to send a better one.
    """


@dataclass(frozen=True, slots=True)
class Token:
    """In form; nothing in it is to be believed before `verify`."""

    algorithm: str
    key_id: str
    issuer: str
    claims: Mapping[str, Any]
    message: bytes
    signature: bytes


def parse(text: str) -> Token:
    """Raises TokenRefused."""
    if len(text) > LARGEST:
        raise TokenRefused(f"is longer than {LARGEST} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenRefused("is not a signed JWT: three parts with dots between them")
    header = _object(parts[0], "the header")
    for name in header:
        if name not in _HEADER:
            raise TokenRefused(f"the header has {name[:40]!r}, which is not taken")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise TokenRefused("the header's typ is not JWT")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise TokenRefused("the header has no alg")
    if not isinstance(key_id, str) or not key_id:
        raise TokenRefused("the header has no kid")
    claims = _object(parts[1], "the payload")
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise TokenRefused("the payload has no iss")
    return Token(
        algorithm,
        key_id,
        issuer,
        claims,
        f"{parts[0]}.{parts[1]}".encode("ascii"),
        _decoded(parts[2], "the signature"),
    )


def verify(token: Token, issuer: Issuer, key: Key, *, audience: str, now: float) -> Principal:
    """The workload that a token is about. `now` in seconds of the epoch. Raises TokenRefused."""
    if token.issuer != issuer.url:
        raise TokenRefused("iss is another issuer's")
    if token.algorithm not in issuer.algorithms or token.algorithm != key.algorithm:
        raise TokenRefused("alg is not one that this issuer's key checks")
    if not key.signed(token.message, token.signature):
        raise TokenRefused("the signature is wrong")
    _check_audience(token.claims.get("aud"), audience)
    _check_times(token.claims, issuer.max_age, now)
    subject = token.claims.get("sub")
    if not isinstance(subject, str):
        raise TokenRefused("has no sub")
    if len(subject) > _LONGEST_SUBJECT or not _SUBJECT.fullmatch(subject):
        raise TokenRefused(
            f"sub is not 1 to {_LONGEST_SUBJECT} printable ASCII characters without spaces"
        )
    claims = _texts(token.claims) | {"issuer": issuer.name}
    if misfit := issuer.misfit(claims):
        raise TokenRefused(f"the claim {misfit} is not as the settings ask for")
    return Principal(Kind.WORKLOAD, f"{issuer.name}:{subject}", MappingProxyType(claims))


def _check_audience(value: Any, audience: str) -> None:
    """RFC 7519, section 4.1.3: a text, or a list of them that has ours."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TokenRefused("has no aud")
    if audience not in values:
        raise TokenRefused(f"aud is not {audience}")


def _check_times(claims: Mapping[str, Any], max_age: float, now: float) -> None:
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if expires <= now - LEEWAY:
        raise TokenRefused("is expired")
    if issued > now + LEEWAY:
        raise TokenRefused("iat is in the future; do the clocks differ?")
    if issued < now - LEEWAY - max_age:
        raise TokenRefused(f"was issued more than {max_age:g} seconds ago")
    if expires <= issued:
        raise TokenRefused("expires before it was issued")
    if "nbf" in claims and _time(claims, "nbf") > now + LEEWAY:
        raise TokenRefused("nbf is in the future; do the clocks differ?")


def _time(claims: Mapping[str, Any], name: str) -> float:
    """RFC 7519, section 2, NumericDate."""
    match claims.get(name):
        case bool():
            pass
        # Infinity, NaN and what float() would overflow on are not below that.
        case int() | float() as value if 0 <= value < 1 << 53:
            return float(value)
    raise TokenRefused(f"has no {name} that is a time")


def _texts(claims: Mapping[str, Any]) -> dict[str, str]:
    """The claims that rules can be about: texts, numbers, and true and false.

    What is too long or could not be shown is left out. Rules only ever allow, so that allows less.
    """
    texts = {}
    for name, value in claims.items():
        match value:
            case bool():
                text = str(value).lower()
            case int() | float():
                text = str(value)
            case str():
                text = value
            case _:
                continue
        short = len(name.encode()) <= LONGEST_NAME and len(text.encode()) <= LONGEST_CLAIM
        if short and name not in _OF_THE_TOKEN and name.isprintable() and text.isprintable():
            texts[name] = text
    if len(texts) >= MOST_CLAIMS:  # ours is one more
        raise TokenRefused(f"has {MOST_CLAIMS} or more claims that rules could be about")
    return texts


def _object(part: str, what: str) -> Mapping[str, Any]:
    try:
        return parse_object(_decoded(part, what), what=what)
    except ManifestInvalid as error:
        raise TokenRefused(str(error)) from None


def _decoded(part: str, what: str) -> bytes:
    try:
        return decoded(part)
    except ValueError as error:
        raise TokenRefused(f"{what} {error}") from None
