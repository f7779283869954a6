"""The keys of an issuer: which of a key set are taken, and when none is."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.jwks import KeysInvalid, decoded, parse_keys
from tests.registry.auth.minting import Signer, base64url, number, without

RSA: Final = Signer.rsa("rsa")
EC: Final = Signer.ec("ec")
ED: Final = Signer.ed("ed")


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_are_known_by_id_and_algorithm() -> None:
    keys = parse_keys(key_set(RSA.jwk(), EC.jwk(), ED.jwk()))
    assert set(keys) == {("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")}


def test_what_a_key_leaves_out_is_told_by_its_type() -> None:
    keys = parse_keys(key_set(without(EC.jwk(), "alg", "use"), without(RSA.jwk(), "alg")))
    assert set(keys) == {("ec", "ES256"), ("rsa", "RS256")}


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "RS256"},
        RSA.jwk(use="enc"),
        RSA.jwk(key_ops=["sign"]),
        RSA.jwk(key_ops="verify"),
        RSA.jwk(alg="RSA-OAEP"),
        RSA.jwk(alg="PS256"),
        RSA.jwk(alg="HS256"),
        RSA.jwk(alg="ES256"),
        RSA.jwk(d="AQAB"),
        RSA.jwk(e=number(3)),
        RSA.jwk(e=number(1)),
        RSA.jwk(e=[65537]),
        RSA.jwk(n=RSA.jwk()["n"] + "="),
        RSA.jwk(n=number((1 << 1023) + 1)),
        RSA.jwk(n=number((1 << 16383) + 1)),
        RSA.jwk(n=""),
        RSA.jwk(kid=""),
        RSA.jwk(kid=1),
        RSA.jwk(kid="x" * 257),
        without(RSA.jwk(), "kid"),
        without(RSA.jwk(), "kty"),
        EC.jwk(crv="P-384"),
        EC.jwk(crv="secp256k1"),
        EC.jwk(x=base64url(bytes(32)), y=base64url(bytes(32))),
        EC.jwk(y=base64url(bytes(31))),
        EC.jwk(x=base64url(b"\0" * 33)),
        without(EC.jwk(), "y"),
        ED.jwk(crv="X25519"),
        ED.jwk(x=base64url(bytes(31))),
        "key",
        None,
        [],
    ],
)
def test_a_key_of_another_sort_is_left_out(other: Any) -> None:
    assert set(parse_keys(key_set(other, Signer("good", EC.private).jwk()))) == {("good", "ES256")}
    with pytest.raises(KeysInvalid, match="no key"):
        parse_keys(key_set(other))


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list of keys"),
        (b'{"keys": {}}', "no list of keys"),
        (b'{"keys": []}', "no key"),
        (b'{"keys": [], "keys": []}', "same key twice"),
        (key_set(*[RSA.jwk()] * 65), "more than 64"),
        (key_set(RSA.jwk(), Signer.rsa("rsa").jwk()), "same id"),
        (key_set(EC.jwk(), Signer.ec("ec").jwk()), "same id"),
        (b'{"keys":' + b"[" * 5000, "nested too deep"),
    ],
)
def test_what_is_no_key_set_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(KeysInvalid, match=reason):
        parse_keys(document)


def test_the_same_key_may_be_there_twice() -> None:
    assert len(parse_keys(key_set(RSA.jwk(), RSA.jwk()))) == 1


@given(st.binary(min_size=1, max_size=80))
def test_bytes_have_one_spelling(data: bytes) -> None:
    assert decoded(base64url(data)) == data


@given(st.text(alphabet="AQgw_-=+/ \n\u00c4", min_size=1, max_size=9))
def test_no_other_spelling_is_taken(text: str) -> None:
    try:
        data = decoded(text)
    except ValueError:
        return
    assert base64url(data) == text
