"""Identity tokens as platforms make them, and as forgers do: every part can be said."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Signer:
    """A key pair of an issuer."""

    def __init__(
        self, kid: str, private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
    ) -> None:
        self.kid = kid
        self.private = private

    @staticmethod
    def rsa(kid: str, bits: int = 2048) -> Signer:
        return Signer(kid, rsa.generate_private_key(65537, bits))

    @staticmethod
    def ec(kid: str) -> Signer:
        return Signer(kid, ec.generate_private_key(ec.SECP256R1()))

    @staticmethod
    def ed(kid: str) -> Signer:
        return Signer(kid, Ed25519PrivateKey.generate())

    @property
    def algorithm(self) -> str:
        match self.private:
            case rsa.RSAPrivateKey():
                return "RS256"
            case ec.EllipticCurvePrivateKey():
                return "ES256"
            case _:
                return "EdDSA"

    def jwk(self, **more: Any) -> dict[str, Any]:
        match self.private:
            case rsa.RSAPrivateKey():
                numbers = self.private.public_key().public_numbers()
                key = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
            case ec.EllipticCurvePrivateKey():
                point = self.private.public_key().public_numbers()
                x, y = (base64url(one.to_bytes(32, "big")) for one in (point.x, point.y))
                key = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
            case Ed25519PrivateKey():
                raw = self.private.public_key().public_bytes_raw()
                key = {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}
        return key | {"kid": self.kid, "use": "sig", "alg": self.algorithm} | more

    def sign(self, message: bytes, *, der: bool = False) -> bytes:
        match self.private:
            case rsa.RSAPrivateKey():
                return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePrivateKey():
                signature = self.private.sign(message, ec.ECDSA(hashes.SHA256()))
                if der:
                    return signature
                r, s = utils.decode_dss_signature(signature)
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
            case Ed25519PrivateKey():
                return self.private.sign(message)

    def header(self, **more: Any) -> dict[str, Any]:
        return {"typ": "JWT", "alg": self.algorithm, "kid": self.kid} | more

    def token(
        self,
        claims: Mapping[str, Any] | bytes,
        header: Mapping[str, Any] | bytes | None = None,
    ) -> str:
        """Bytes are taken as they are."""
        head = self.header() if header is None else header
        message = f"{part(head)}.{part(claims)}"
        return f"{message}.{base64url(self.sign(message.encode()))}"


def part(value: Mapping[str, Any] | bytes) -> str:
    return base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def without(claims: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if name not in names}
