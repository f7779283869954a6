"""Tokens that no issuer made, or made for somebody else, or long ago: none is anybody."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.identity import Kind, Principal
from registry.auth.jwks import parse_keys
from registry.auth.oidc import TokenRefused, parse, verify
from registry.auth.trust import Issuer
from tests.registry.auth.minting import Signer, base64url, part, without

NOW: Final = 1_790_000_000
ISSUER: Final = Issuer(
    "local", "https://issuer.test", algorithms=("RS256", "ES256", "EdDSA"), max_age=3600
)
AUDIENCE: Final = "https://registry.example.org"
RSA: Final = Signer.rsa("rsa")
EC: Final = Signer.ec("ec")
ED: Final = Signer.ed("ed")
STRANGER: Final = Signer.rsa("rsa")  # who says that he is the first
KEYS: Final = parse_keys(json.dumps({"keys": [RSA.jwk(), EC.jwk(), ED.jwk()]}).encode())
CLAIMS: Final[dict[str, Any]] = {
    "iss": ISSUER.url,
    "aud": AUDIENCE,
    "sub": "repo:acme/shop",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 300,
}


def shown(token: str, issuer: Issuer = ISSUER, now: float = NOW) -> Principal:
    """As registry.auth.issuers does it, without having to ask for keys."""
    read = parse(token)
    key = KEYS.get((read.key_id, read.algorithm))
    if key is None:
        raise TokenRefused("kid and alg name none of the issuer's keys")
    return verify(read, issuer, key, audience=AUDIENCE, now=now)


def claims(**more: Any) -> str:
    return RSA.token(CLAIMS | more)


def lacking(*names: str) -> str:
    return RSA.token(without(CLAIMS, *names))


def header(**more: Any) -> str:
    return RSA.token(CLAIMS, RSA.header(**more))


def pem(signer: Signer) -> bytes:
    return signer.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def hmacked(secret: bytes, **head: Any) -> str:
    message = f"{part(RSA.header(alg='HS256') | head)}.{part(CLAIMS)}"
    return f"{message}.{base64url(hmac.digest(secret, message.encode(), hashlib.sha256))}"


def signed_otherwise(pad: Any, algorithm: Any) -> str:
    message = f"{part(RSA.header())}.{part(CLAIMS)}"
    assert isinstance(RSA.private, rsa.RSAPrivateKey)
    return f"{message}.{base64url(RSA.private.sign(message.encode(), pad, algorithm))}"


def with_signature(change: Callable[[bytes], bytes], signer: Signer = RSA) -> str:
    head, _, signature = signer.token(CLAIMS).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{head}.{base64url(change(raw))}"


def other_last_bits(token: str) -> str:
    """Another spelling of the same signature: the last character has bits that mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


TOKEN: Final = RSA.token(CLAIMS)
HEAD, BODY, SIGNATURE = TOKEN.split(".")
EC_DER: Final = base64url(EC.sign(f"{part(EC.header())}.{part(CLAIMS)}".encode(), der=True))

FORGED: Final[dict[str, tuple[str, str]]] = {
    # The algorithm
    "none": (f"{part(RSA.header(alg='none'))}.{BODY}.AAAA", "name none"),
    "none, without a signature": (f"{part(RSA.header(alg='none'))}.{BODY}.", "base64url"),
    "None": (f"{part(RSA.header(alg='NonE'))}.{BODY}.{SIGNATURE}", "name none"),
    "an HMAC with the public key as PEM": (hmacked(pem(RSA)), "name none"),
    "an HMAC with the JWK": (hmacked(json.dumps(RSA.jwk()).encode()), "name none"),
    "an HMAC with nothing": (hmacked(b""), "name none"),
    "an HMAC that says RS256": (hmacked(pem(RSA), alg="RS256"), "signature is wrong"),
    "RS512": (header(alg="RS512"), "name none"),
    "PS256": (header(alg="PS256"), "name none"),
    "rs256": (header(alg="rs256"), "name none"),
    "ES256 of an RSA key": (header(alg="ES256"), "name none"),
    "RS256 of an EC key": (EC.token(CLAIMS, EC.header(alg="RS256")), "name none"),
    "RS256 of an EC key, with the id of an RSA key": (
        EC.token(CLAIMS, RSA.header()),
        "signature is wrong",
    ),
    "an alg that is a list": (header(alg=["RS256"]), "no alg"),
    "no alg": (RSA.token(CLAIMS, without(RSA.header(), "alg")), "no alg"),
    "a PSS signature that says RS256": (
        signed_otherwise(padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        "signature is wrong",
    ),
    "a signature with SHA-1": (
        signed_otherwise(padding.PKCS1v15(), hashes.SHA1()),
        "signature is wrong",
    ),
    # The key
    "somebody else's key under the same id": (STRANGER.token(CLAIMS), "signature is wrong"),
    "a key in the header": (
        STRANGER.token(CLAIMS, STRANGER.header(jwk=STRANGER.jwk())),
        "'jwk', which is not taken",
    ),
    "the URL of a key set": (header(jku="https://evil.test/keys"), "'jku'"),
    "the URL of a certificate": (header(x5u="https://evil.test/x"), "'x5u'"),
    "a certificate": (header(x5c=["MII"]), "'x5c'"),
    "a path for an id": (header(kid="../../dev/null"), "name none"),
    "SQL for an id": (header(kid="rsa' or '1'='1"), "name none"),
    "an id with a NUL": (header(kid="rsa\0"), "name none"),
    "an empty id": (header(kid=""), "no kid"),
    "an id that is a number": (header(kid=1), "no kid"),
    "no id": (RSA.token(CLAIMS, without(RSA.header(), "kid")), "no kid"),
    "the id of another key": (header(kid="ed"), "name none"),
    # The header
    "crit": (header(crit=["exp"]), "'crit'"),
    "an unencoded payload": (header(b64=False, crit=["b64"]), "is not taken"),
    "a compressed payload": (header(zip="DEF"), "'zip'"),
    "an encrypted token": (header(enc="A256GCM"), "'enc'"),
    "five parts": (f"{TOKEN}.AAAA.AAAA", "three parts"),
    "another typ": (header(typ="at+jwt"), "typ is not JWT"),
    "a typ that is a list": (header(typ=["JWT"]), "typ is not JWT"),
    "two algs": (
        RSA.token(CLAIMS, b'{"alg":"none","alg":"RS256","kid":"rsa"}'),
        "same key twice",
    ),
    "a header that is a list": (RSA.token(CLAIMS, b'["RS256"]'), "not a JSON object"),
    "a header of many levels": (RSA.token(CLAIMS, b"[" * 3000), "nested too deep"),
    # The spelling
    "nothing": ("", "three parts"),
    "dots": ("..", "base64url"),
    "two parts": (f"{HEAD}.{BODY}", "three parts"),
    "no signature": (f"{HEAD}.{BODY}.", "base64url"),
    "padding": (f"{HEAD}.{BODY}.{SIGNATURE}==", "base64url"),
    "the other base64": (f"{HEAD}.{BODY}.{'+/' + SIGNATURE[2:]}", "base64url"),
    "a newline after it": (f"{TOKEN}\n", "base64url"),
    "a space before it": (f" {TOKEN}", "base64url"),
    "a signature of full-width letters": (f"{HEAD}.{BODY}.\uff21{SIGNATURE[1:]}", "base64url"),
    "a last character with other bits": (other_last_bits(TOKEN), "mean nothing"),
    "a character too many": (f"{TOKEN}A", "signature is wrong"),
    "three characters too many": (f"{TOKEN}AAA", "base64url"),
    "more than 8 KiB": (claims(x="y" * 8192), "longer than"),
    "a lone surrogate": (RSA.token(json.dumps(CLAIMS | {"sub": "\ud800"}).encode()), "surrogate"),
    "a payload that is no JSON": (RSA.token(b"{"), "not JSON"),
    "a payload that is a list": (RSA.token(b"[]"), "not a JSON object"),
    "a payload in UTF-16": (RSA.token(json.dumps(CLAIMS).encode("utf-16")), "not UTF-8"),
    "a payload with something behind": (RSA.token(json.dumps(CLAIMS).encode() + b"{}"), "not JSON"),
    "two subjects": (
        RSA.token(json.dumps(CLAIMS).encode()[:-1] + b', "sub": "admin"}'),
        "same key twice",
    ),
    # The signature
    "a flipped bit": (with_signature(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), "wrong"),
    "a short signature": (with_signature(lambda raw: raw[:-1]), "signature is wrong"),
    "a signature with a zero in front": (with_signature(lambda raw: b"\0" + raw), "wrong"),
    "a signature of zeros": (with_signature(lambda raw: bytes(len(raw))), "signature is wrong"),
    "the signature of another payload": (f"{HEAD}.{BODY}.{claims(sub='a').split('.')[2]}", "wrong"),
    "an ECDSA signature in DER": (f"{part(EC.header())}.{part(CLAIMS)}.{EC_DER}", "wrong"),
    "an ECDSA signature of zeros": (with_signature(lambda raw: bytes(64), EC), "wrong"),
    "an ECDSA signature of the order": (
        with_signature(lambda raw: b"\xff" * 64, EC),
        "signature is wrong",
    ),
    "an Ed25519 signature of zeros": (with_signature(lambda raw: bytes(64), ED), "wrong"),
    "a payload that was changed": (
        f"{HEAD}.{part(CLAIMS | {'sub': 'admin'})}.{SIGNATURE}",
        "wrong",
    ),
    # Whose it is, and for whom
    "another issuer": (claims(iss="https://evil.test"), "another issuer"),
    "an issuer with a slash more": (claims(iss=f"{ISSUER.url}/"), "another issuer"),
    "an issuer in capitals": (claims(iss=ISSUER.url.upper()), "another issuer"),
    "a list of issuers": (claims(iss=[ISSUER.url]), "no iss"),
    "no issuer": (lacking("iss"), "no iss"),
    "another audience": (claims(aud="https://other.example.org"), "aud is not"),
    "a longer audience": (claims(aud=f"{AUDIENCE}.evil.test"), "aud is not"),
    "a list of other audiences": (claims(aud=["a", "b"]), "aud is not"),
    "an empty list of audiences": (claims(aud=[]), "aud is not"),
    "audiences that are no texts": (claims(aud=[AUDIENCE, 1]), "no aud"),
    "an audience that is an object": (claims(aud={AUDIENCE: True}), "no aud"),
    "no audience": (lacking("aud"), "no aud"),
    # When
    "expired": (claims(iat=NOW - 600, nbf=NOW - 600, exp=NOW - 60), "is expired"),
    "no expiry": (lacking("exp"), "no exp"),
    "an expiry that is a text": (claims(exp=str(NOW + 300)), "no exp"),
    "an expiry that is true": (claims(exp=True), "no exp"),
    "an expiry of null": (claims(exp=None), "no exp"),
    "an infinite expiry": (
        RSA.token(json.dumps(CLAIMS | {"exp": 0}).replace('"exp": 0', '"exp": 1e999').encode()),
        "no exp",
    ),
    "an expiry in other centuries": (claims(exp=1e300), "no exp"),
    "an expiry of 400 digits": (claims(exp=10**400), "no exp"),
    "an expiry before its issue": (claims(iat=NOW + 30, exp=NOW + 20), "before it was issued"),
    "made in the future": (claims(iat=NOW + 61), "iat is in the future"),
    "made long ago": (claims(iat=NOW - 3661, nbf=NOW - 3661), "issued more than 3600 seconds"),
    "no time of issue": (lacking("iat"), "no iat"),
    "a negative time of issue": (claims(iat=-1), "no iat"),
    "not yet": (claims(nbf=NOW + 61), "nbf is in the future"),
    "a not-before that is a text": (claims(nbf="now"), "no nbf"),
    # The subject
    "no subject": (lacking("sub"), "no sub"),
    "an empty subject": (claims(sub=""), "sub is not"),
    "a subject that is a number": (claims(sub=1), "no sub"),
    "a subject with a line break": (claims(sub="a\r\nx-evil: 1"), "sub is not"),
    "a subject that ends in one": (claims(sub="a\n"), "sub is not"),
    "a subject with a space": (claims(sub="repo:acme/shop admin"), "sub is not"),
    "a subject with a NUL": (claims(sub="a\0"), "sub is not"),
    "a subject beyond ASCII": (claims(sub="\u0430cme"), "sub is not"),
    "a subject of 513 characters": (claims(sub="a" * 513), "sub is not"),
    "64 claims": (claims(**{f"c{at}": 1 for at in range(63)}), "64 or more claims"),
}


@pytest.mark.parametrize(("token", "reason"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_nobody(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        shown(token)
    assert reason in str(caught.value)


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=["RSA", "EC", "Ed25519"])
def test_the_one_that_they_are_forged_from_is_somebody(signer: Signer) -> None:
    assert shown(signer.token(CLAIMS)).text == "workload:local:repo:acme/shop"


@pytest.mark.parametrize(
    "more",
    [
        {"exp": NOW - 59, "iat": NOW - 90, "nbf": NOW - 90},
        {"iat": NOW + 60, "nbf": NOW + 60},
        {"iat": NOW - 3660, "nbf": NOW - 3660},
        {"exp": NOW + 0.5},
        {"aud": ["https://other.example.org", AUDIENCE]},
        {"sub": "!" + "~" * 511},
        {f"c{at}": 1 for at in range(62)},
    ],
)
def test_what_is_just_within_bounds_is_somebody(more: dict[str, Any]) -> None:
    assert shown(claims(**more)).kind is Kind.WORKLOAD


def test_nbf_may_be_missing_and_typ_too() -> None:
    assert shown(lacking("nbf"))
    assert shown(RSA.token(CLAIMS, without(RSA.header(), "typ")))
    assert shown(header(typ="jwt", x5t="abc"))


def test_an_algorithm_that_the_settings_do_not_allow_the_issuer_is_refused() -> None:
    strict = Issuer("local", ISSUER.url, algorithms=("ES256",))
    assert shown(EC.token(CLAIMS), strict)
    with pytest.raises(TokenRefused, match="alg is not one"):
        shown(TOKEN, strict)


def test_a_token_of_one_issuer_is_none_of_another() -> None:
    other = Issuer("other", "https://other.test")
    with pytest.raises(TokenRefused, match="iss is another"):
        shown(TOKEN, other)


TOKENS: Final = [RSA.token(CLAIMS), EC.token(CLAIMS), ED.token(CLAIMS)]


@given(
    st.sampled_from(TOKENS),
    st.integers(0, 10_000),
    st.characters(min_codepoint=0, max_codepoint=0x2FF),
)
def test_no_character_can_be_another(token: str, place: int, character: str) -> None:
    at = place % len(token)
    changed = token[:at] + character + token[at + 1 :]
    if changed != token:
        with pytest.raises(TokenRefused):
            shown(changed)


@given(st.sampled_from(TOKENS), st.integers(0, 10_000), st.integers(0, 10_000), st.text(max_size=8))
def test_nothing_can_be_cut_out_or_put_in(token: str, start: int, stop: int, text: str) -> None:
    start, stop = sorted((start % len(token), stop % len(token)))
    changed = token[:start] + text + token[stop:]
    if changed != token:
        with pytest.raises(TokenRefused):
            shown(changed)


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "iat", "nbf", "exp"]) | st.text(max_size=8), JSON
    ),
    st.dictionaries(st.sampled_from(["alg", "kid", "typ"]) | st.text(max_size=8), JSON),
)
def test_whatever_an_issuer_signs_is_a_plain_workload_or_is_refused(
    said: dict[str, Any], head: dict[str, Any]
) -> None:
    """Nothing else is raised, and nothing gets out that could not stand in a header."""
    token = EC.token(CLAIMS | said, EC.header() | head)
    with contextlib.suppress(TokenRefused):
        workload = shown(token)
        assert workload.name.isascii()
        assert workload.name.isprintable()
        assert " " not in workload.name
        assert workload.claims["issuer"] == "local"
        assert all(isinstance(value, str) for value in workload.claims.values())
        assert all(value.isprintable() for value in workload.claims.values())
        assert not {"iss", "aud", "iat", "nbf", "exp", "jti"} & workload.claims.keys()


@given(st.text(max_size=200) | st.text(alphabet="eyJ.AQ_-=", max_size=60))
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(TokenRefused):
        shown(text)
