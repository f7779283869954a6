"""JSON Web Signatures in the one form that we make; whatever differs is refused. Pure.

RFC 7515 lets a token say how it wants to be verified: by which algorithm, with a key that it
brings along or an address to fetch one from. Most that was ever wrong with such tokens comes from
that. So here a header has `alg`, `typ` and `kid` and nothing else, `kid` is a word to look up and
`alg` is only compared, and a token has one spelling: canonical base64url, no member of an object
twice, `s` of the signature in the lower half. Libraries are for the arithmetic.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

LARGEST: Final = 8 << 10  # characters: what fits in a header with every server and proxy
_HEADER: Final = 512  # characters
_KID: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # a SHA-256
_PART: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_TYPE: Final = "JWT"
ALGORITHM: Final = "ES256"
# The order of the group of P-256: (r, n - s) fits wherever (r, s) does.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_JWS: Final = jwt.PyJWS(algorithms=[ALGORITHM])


class TokenInvalid(Exception):
    """What is wrong is for the audit, never for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A token that has the form of one of ours; nothing about it is known to be true."""

    text: str
    kid: str
    payload: bytes


def parse(text: str) -> Signed:
    """Raises TokenInvalid. The payload is not looked into: it may be anybody's."""
    if len(text) > LARGEST:
        raise TokenInvalid(f"longer than {LARGEST} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenInvalid("not three parts")
    if len(parts[0]) > _HEADER:
        raise TokenInvalid(f"a header of more than {_HEADER} characters")
    head, payload, signature = map(_decode, parts)
    header = read_object(head)
    if header.keys() != {"alg", "typ", "kid"}:
        raise TokenInvalid("the header has not just alg, typ and kid")
    kid = header["kid"]
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise TokenInvalid("kid is no thumbprint")
    if header["alg"] != ALGORITHM:
        raise TokenInvalid("another alg")
    if header["typ"] != _TYPE:
        raise TokenInvalid("another typ")
    if len(signature) != 64:
        raise TokenInvalid("the signature has not 64 bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not 0 < r < _ORDER or not 0 < s <= _ORDER // 2:
        raise TokenInvalid("r or s of the signature is out of range")
    return Signed(text, kid, payload)


def verify(signed: Signed, key: ec.EllipticCurvePublicKey) -> None:
    """Raises TokenInvalid unless the holder of the key signed it."""
    try:
        _JWS.decode(signed.text, key, algorithms=[ALGORITHM])
    except jwt.PyJWTError:
        raise TokenInvalid("the signature is of another key or other bytes") from None


def sign(payload: Mapping[str, object], kid: str, key: ec.EllipticCurvePrivateKey) -> str:
    """About 100 µs of processor time."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    header = {"kid": kid, "typ": _TYPE}
    signed, _, signature = _JWS.encode(body, key, ALGORITHM, header).rpartition(".")
    raw = _decode(signature)
    s = int.from_bytes(raw[32:], "big")
    raw = raw[:32] + min(s, _ORDER - s).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode('ascii')}"


def _decode(part: str) -> bytes:
    """base64url without padding, in its only spelling. RFC 7515, section 2."""
    if not _PART.fullmatch(part):
        raise TokenInvalid("a part is not base64url without padding")
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise TokenInvalid("a part is cut off") from None
    # The last character may have bits that are in no byte.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode("ascii"):
        raise TokenInvalid("a part is in another spelling of base64url")
    return data


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object without a repeated member at any depth, and without NaN. TokenInvalid."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise TokenInvalid("a part is not the JSON that we write") from None
    if not isinstance(value, dict):
        raise TokenInvalid("a part is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenInvalid("a member of an object is there twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)
