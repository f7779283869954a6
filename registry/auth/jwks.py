"""The public keys that an issuer signs with: RFC 7517 and 7518, as far as is used. Pure.

A key decides by its own type which algorithm it checks; what a token's header says is only compared
with that. There are no symmetric keys here, so none can be made out of a public one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from storage.document import parse_object
from storage.errors import ManifestInvalid

MOST_KEYS: Final = 64
_RSA_BITS: Final = range(2048, 8192 + 1)
_P256_BYTES: Final = 32

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

Public: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey


class KeysInvalid(ValueError):
    """No JWK Set, or one of which two readers could see different keys."""


class _Unusable(ValueError):
    """A key for something else, such as encryption."""


@dataclass(frozen=True, slots=True)
class Key:
    algorithm: str
    public: Public

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is one of `message`, in the one form of RFC 7518, section 3."""
        try:
            match self.public:
                case rsa.RSAPublicKey():
                    if len(signature) != (self.public.key_size + 7) // 8:
                        return False
                    self.public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
                case ec.EllipticCurvePublicKey():
                    if len(signature) != 2 * _P256_BYTES:  # r and s side by side, and not DER
                        return False
                    r, s = (
                        int.from_bytes(half, "big")
                        for half in (signature[:_P256_BYTES], signature[_P256_BYTES:])
                    )
                    der = utils.encode_dss_signature(r, s)
                    self.public.verify(der, message, ec.ECDSA(hashes.SHA256()))
                case Ed25519PublicKey():
                    self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


Keys: TypeAlias = Mapping[tuple[str, str], Key]
"""By key id and algorithm."""


def decoded(text: str) -> bytes:
    """base64url without padding, in the one spelling that its bytes have. Raises ValueError.

    Else one signature would have several spellings, of which a list of refused tokens knows one.
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("is not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise ValueError("is not base64url without padding") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("has bits in its last character that mean nothing")
    return data


def parse_keys(document: bytes) -> Keys:
    """The keys of a JWK Set that can check signatures; others are left out. Raises KeysInvalid."""
    try:
        listed = parse_object(document, what="the key set").get("keys")
    except ManifestInvalid as error:
        raise KeysInvalid(str(error)) from None
    if not isinstance(listed, list):
        raise KeysInvalid("the key set has no list of keys")
    if len(listed) > MOST_KEYS:
        raise KeysInvalid(f"the key set has more than {MOST_KEYS} keys")
    keys: dict[tuple[str, str], Key] = {}
    for one in listed:
        try:
            kid, key = _key(one)
        except _Unusable:
            continue
        if keys.setdefault((kid, key.algorithm), key).public != key.public:
            raise KeysInvalid("the key set has two keys with the same id")
    if not keys:
        raise KeysInvalid(
            "the key set has no key with an id that checks RS256, ES256 or EdDSA signatures"
        )
    return keys


def _key(value: Any) -> tuple[str, Key]:
    if not isinstance(value, dict):
        raise _Unusable("is no object")
    kid = value.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 256:
        raise _Unusable("has no id")
    if value.get("use", "sig") != "sig":
        raise _Unusable("is not for signatures")
    operations = value.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Unusable("is not for checking")
    if "d" in value:
        raise _Unusable("is a private key, which everybody knows now")
    try:
        key = _public(value)
    except ValueError as error:  # also of cryptography, for a point that is not on the curve
        raise _Unusable(str(error)) from None
    if value.get("alg", key.algorithm) != key.algorithm:
        raise _Unusable("is for another algorithm")
    return kid, key


def _public(value: Mapping[str, Any]) -> Key:
    """Raises ValueError."""

    def bytes_of(name: str) -> bytes:
        text = value.get(name)
        if not isinstance(text, str):
            raise ValueError(f"has no {name}")
        return decoded(text)

    match value.get("kty"), value.get("crv"):
        case "RSA", None:
            modulus, exponent = (int.from_bytes(bytes_of(name), "big") for name in ("n", "e"))
            if modulus.bit_length() not in _RSA_BITS or exponent != 65537:
                raise ValueError("is weak, or of an unusual size")
            return Key("RS256", rsa.RSAPublicNumbers(exponent, modulus).public_key())
        case "EC", "P-256":
            x, y = bytes_of("x"), bytes_of("y")
            if len(x) != _P256_BYTES or len(y) != _P256_BYTES:
                raise ValueError("has coordinates of another length")
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
            )
            return Key("ES256", numbers.public_key())
        case "OKP", "Ed25519":
            return Key("EdDSA", Ed25519PublicKey.from_public_bytes(bytes_of("x")))
        case _:
            raise ValueError("is of another type")
