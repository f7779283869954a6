"""What a token is worth, and that nothing but our own are worth anything.

Each row of FORGED is signed by the right key wherever that is possible, so that it is the one thing
it says that is refused; the control of all of them is the same token without that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.auth.identity import ANONYMOUS, Kind, Principal
from registry.auth.jws import parse
from registry.auth.keys import Key, jwk
from registry.auth.resources import Resource
from registry.auth.scope import Action
from registry.auth.tokens import CACHED, TokenInvalid, Tokens, TokenTooLarge
from tests.registry.auth.keyring import (
    LONGEST,
    ORDER,
    Forger,
    Process,
    b64,
    processes,
    raw_signature,
    unb64,
)

ADA = Principal(Kind.USER, "ada")
SHOP = (Resource("repository", "acme/shop", ("pull", "push")),)


class Mint:
    def __init__(self, process: Process, key: Key) -> None:
        self.process = process
        self.clock = process.clock
        self.key = key
        self.tokens = Tokens(process.keys, service="spindle", longest=LONGEST, clock=process.clock)
        self.forger = Forger(key, self.clock.now)

    async def refuses(self, text: str) -> str:
        """Returns the reason."""
        with pytest.raises(TokenInvalid) as raised:
            await self.tokens.verify(text)
        return str(raised.value)


@pytest.fixture
async def mint(tmp_path: Path) -> AsyncIterator[Mint]:
    async with processes(tmp_path) as [process]:
        await process.keys.open()
        yield Mint(process, await process.keys.signing())


async def test_a_token_tells_who_it_was_made_for_and_what_for(mint: Mint) -> None:
    verified = await mint.tokens.verify(await mint.tokens.issue(ADA, SHOP, 600))
    assert verified.subject == "user:ada"
    [grant] = verified.access
    assert grant.pattern.text == "acme/shop"
    assert grant.actions == {Action.PULL, Action.PUSH, Action.OVERWRITE}
    assert verified.claims == {}
    assert verified.issued == mint.clock.now


async def test_what_a_token_may_be_used_for_ends_at_the_repository_it_names(mint: Mint) -> None:
    resource = Resource("repository", "acme/shop", ("*",))
    [grant] = (await mint.tokens.verify(await mint.tokens.issue(ADA, [resource], 600))).access
    assert all(grant.covers(action, "acme/shop") for action in Action)
    assert not any(
        grant.covers(action, name)
        for action in Action
        for name in ("acme", "acme/shop2", "acme/shop/deep", None)
    )


async def test_an_empty_access_is_good_and_allows_nothing(mint: Mint) -> None:
    verified = await mint.tokens.verify(await mint.tokens.issue(ANONYMOUS, (), 600))
    assert (verified.subject, verified.access) == ("anonymous", ())


async def test_the_claims_of_a_workload_ride_along(mint: Mint) -> None:
    claims = {"repository": "acme/shop", "ref": "refs/heads/main"}
    principal = Principal(Kind.WORKLOAD, "github:repo:acme/shop", claims)
    verified = await mint.tokens.verify(await mint.tokens.issue(principal, SHOP, 600))
    assert verified.claims == claims
    assert verified.subject == "workload:github:repo:acme/shop"


async def test_a_token_is_good_until_its_end_and_not_after(mint: Mint) -> None:
    text = await mint.tokens.issue(ADA, SHOP, 600)
    mint.clock.now += 599.5
    await mint.tokens.verify(text)
    mint.clock.now += 0.5
    assert await mint.refuses(text) == "expired"


async def test_no_token_lives_longer_than_the_longest(mint: Mint) -> None:
    text = await mint.tokens.issue(ADA, SHOP, 10 * LONGEST)
    payload = json.loads(unb64(text.split(".")[1]))
    assert payload["exp"] - payload["iat"] == LONGEST
    await mint.tokens.verify(text)


async def test_every_token_is_another_one(mint: Mint) -> None:
    assert await mint.tokens.issue(ADA, SHOP, 600) != await mint.tokens.issue(ADA, SHOP, 600)


async def test_what_does_not_fit_in_a_token_is_refused_when_it_is_made(mint: Mint) -> None:
    names = [f"acme/{number:02}{'x' * 240}" for number in range(64)]
    with pytest.raises(TokenTooLarge, match="fewer repositories"):
        await mint.tokens.issue(ADA, [Resource("repository", n, ("pull",)) for n in names], 600)
    large = Principal(Kind.WORKLOAD, "github:x", {"ref": "x" * 2000})
    with pytest.raises(TokenTooLarge, match="a claim"):
        await mint.tokens.issue(large, (), 600)


async def test_another_service_with_the_same_keys_takes_none_of_our_tokens(mint: Mint) -> None:
    other = Tokens(mint.process.keys, service="spindle2", longest=LONGEST, clock=mint.clock)
    with pytest.raises(TokenInvalid):
        await other.verify(await mint.tokens.issue(ADA, SHOP, 600))


async def test_every_signature_that_is_made_is_in_the_lower_half(mint: Mint) -> None:
    for _ in range(16):
        text = await mint.tokens.issue(ADA, SHOP, 600)
        assert int.from_bytes(unb64(text.split(".")[2])[32:], "big") <= ORDER // 2


# The cache


async def test_a_token_that_was_seen_is_not_verified_again(
    mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = await mint.tokens.issue(ADA, SHOP, 600)
    first = await mint.tokens.verify(text)
    monkeypatch.setattr("registry.auth.jws.verify", None)
    assert await mint.tokens.verify(text) is first
    with pytest.raises(TypeError):
        await mint.tokens.verify(mint.forger.good())


async def test_a_token_that_was_seen_is_forgotten_with_its_key(mint: Mint) -> None:
    text = await mint.tokens.issue(ADA, SHOP, 600)
    await mint.tokens.verify(text)
    await mint.process.keys.rotate(forget=True)
    assert await mint.refuses(text) == "no such key"


@pytest.mark.parametrize("resources", [7, 63])
async def test_no_more_is_remembered_than_there_is_room_for(mint: Mint, resources: int) -> None:
    """Of tokens with many resources fewer, for anybody can ask for them."""
    access = [{**mint.forger.payload["access"][0], "name": f"a{n}"} for n in range(resources)]
    room = CACHED // (1 + resources)

    def token(number: int) -> str:
        return mint.forger.with_payload(jti=f"{number}", access=access)

    first, second = token(0), token(1)
    known = await mint.tokens.verify(first)
    also_known = await mint.tokens.verify(second)
    for number in range(2, room + 1):
        await mint.tokens.verify(token(number))
    assert await mint.tokens.verify(second) is also_known
    assert await mint.tokens.verify(first) is not known


# What is no token of ours

Forge = Callable[[Forger], str]


def hs256(secret: Callable[[Key], bytes]) -> Forge:
    """Signed with what everybody can know of the key."""

    def forge(f: Forger) -> str:
        data = f.data(alg="HS256")
        return f"{data}.{b64(hmac.digest(secret(f.key), data.encode(), hashlib.sha256))}"

    return forge


def public(encoding: serialization.Encoding) -> Callable[[Key], bytes]:
    return lambda key: key.public.public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def stranger(curve: ec.EllipticCurve, **header: Any) -> Forge:
    def forge(f: Forger) -> str:
        size = (curve.key_size + 7) // 8
        data = f.data(**header)
        key = ec.generate_private_key(curve)
        return f"{data}.{b64(raw_signature(key, data.encode(), size=size))}"

    return forge


def flipped(part: int) -> Forge:
    """One bit of a byte in the middle."""

    def forge(f: Forger) -> str:
        parts = f.good().split(".")
        data = bytearray(unb64(parts[part]))
        data[len(data) // 2] ^= 1
        parts[part] = b64(bytes(data))
        return ".".join(parts)

    return forge


def in_part(part: int, change: Callable[[str], str]) -> Forge:
    def forge(f: Forger) -> str:
        parts = f.good().split(".")
        parts[part] = change(parts[part])
        return ".".join(parts)

    return forge


def unused_bits(part: str) -> str:
    """The same bytes in another spelling."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(part) % 4 in (2, 3)
    return part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1]


def swapped(token: str, other: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


def own_key(f: Forger) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    embedded = jwk(Key("mine", key, key.public_key(), 0, None))
    data = f.data(jwk=embedded)
    return f"{data}.{b64(raw_signature(key, data.encode()))}"


def twice(name: str, value: Any) -> Forge:
    """A member of the payload once more."""
    return lambda f: f.with_body(f.body()[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}")


def spelt(name: str, number: str) -> Forge:
    """A number of the payload, as it is written."""
    return lambda f: f.with_body(json.dumps({**f.payload, name: "@"}).replace('"@"', number))


def now(f: Forger) -> int:
    return int(f.payload["iat"])


FORGED: dict[str, tuple[str, Forge]] = {
    # The algorithm is the key's
    "alg none, no signature": ("base64url", lambda f: f"{f.data(alg='none')}."),
    "alg none, a signature": ("another alg", lambda f: f.with_header(alg="none")),
    "alg None": ("another alg", lambda f: f.with_header(alg="None")),
    "alg NONE": ("another alg", lambda f: f.with_header(alg="NONE")),
    "alg empty": ("another alg", lambda f: f.with_header(alg="")),
    "alg null": ("another alg", lambda f: f.with_header(alg=None)),
    "alg a list": ("another alg", lambda f: f.with_header(alg=["ES256"])),
    "alg in lower case": ("another alg", lambda f: f.with_header(alg="es256")),
    "alg with a space": ("another alg", lambda f: f.with_header(alg="ES256 ")),
    "alg with a look-alike": ("another alg", lambda f: f.with_header(alg="\u0415S256")),
    "alg missing": ("just alg", lambda f: f.without_header("alg")),
    "HS256 with the key as PEM": ("another alg", hs256(public(serialization.Encoding.PEM))),
    "HS256 with the key as DER": ("another alg", hs256(public(serialization.Encoding.DER))),
    "HS256 with the key as JWK": (
        "another alg",
        hs256(lambda key: json.dumps(jwk(key)).encode()),
    ),
    "HS256 with nothing": ("another alg", hs256(lambda key: b"")),
    "RS256": ("another alg", lambda f: f.with_header(alg="RS256")),
    "EdDSA": ("another alg", lambda f: f.with_header(alg="EdDSA")),
    "ES384 on its own curve": ("another alg", stranger(ec.SECP384R1(), alg="ES384")),
    "ES256 on another curve": ("signature", stranger(ec.SECP256K1())),
    # The key is ours
    "the key of somebody else, under our kid": ("signature", stranger(ec.SECP256R1())),
    "kid a path": ("kid", lambda f: f.with_header(kid="../../../../../../dev/null")),
    "kid SQL": ("kid", lambda f: f.with_header(kid="' OR 1=1 UNION SELECT private --")),
    "kid unknown": ("no such key", lambda f: f.with_header(kid="A" * 43)),
    "kid ours and more": ("kid", lambda f: f.with_header(kid=f.key.kid + "A")),
    "kid ours and a newline": ("kid", lambda f: f.with_header(kid=f.key.kid + "\n")),
    "kid empty": ("kid", lambda f: f.with_header(kid="")),
    "kid absent": ("just alg", lambda f: f.without_header("kid")),
    "kid a number": ("kid", lambda f: f.with_header(kid=0)),
    "kid a list": ("kid", lambda f: f.with_header(kid=[f.key.kid])),
    "kid an object": ("kid", lambda f: f.with_header(kid={f.key.kid: 1})),
    # Headers that ask for something
    "jwk of somebody else": ("just alg", own_key),
    "jwk of ours": ("just alg", lambda f: f.with_header(jwk=jwk(f.key))),
    "jku": ("just alg", lambda f: f.with_header(jku="http://127.0.0.1/jwks")),
    "x5u": ("just alg", lambda f: f.with_header(x5u="http://127.0.0.1/cert")),
    "x5c": ("just alg", lambda f: f.with_header(x5c=["MIIB"])),
    "x5t": ("just alg", lambda f: f.with_header(x5t="AAAA")),
    "crit": ("just alg", lambda f: f.with_header(crit=["exp"], exp=1)),
    "crit of nothing": ("just alg", lambda f: f.with_header(crit=[])),
    "b64 false": ("just alg", lambda f: f.with_header(b64=False, crit=["b64"])),
    "zip": ("just alg", lambda f: f.with_header(zip="DEF")),
    "cty": ("just alg", lambda f: f.with_header(cty="JWT")),
    "enc": ("just alg", lambda f: f.with_header(enc="A128GCM")),
    "typ missing": ("just alg", lambda f: f.without_header("typ")),
    "typ at+jwt": ("another typ", lambda f: f.with_header(typ="at+jwt")),
    "typ of a number": ("another typ", lambda f: f.with_header(typ=1)),
    "the header twice alg": (
        "twice",
        lambda f: f.sign(
            b'{"alg": "none", "alg": "ES256", "typ": "JWT", "kid": "%s"}' % f.key.kid.encode(),
            f.body().encode(),
        ),
    ),
    "the header a list": ("no JSON object", lambda f: f.sign(b"[]", f.body().encode())),
    "the header no JSON": ("not the JSON", lambda f: f.sign(b"alg", f.body().encode())),
    "the header with a BOM": (
        "not the JSON",
        lambda f: f.sign(b"\xef\xbb\xbf" + json.dumps(f.header).encode(), f.body().encode()),
    ),
    "the header in UTF-16": (
        "not the JSON",
        lambda f: f.sign(json.dumps(f.header).encode("utf-16"), f.body().encode()),
    ),
    "the header large": ("a header of more", lambda f: f.with_header(typ="JWT" + " " * 600)),
    # The three parts
    "a bit of the header flipped": ("kid|just alg|not the JSON|no such key|another", flipped(0)),
    "a bit of the payload flipped": ("signature", flipped(1)),
    "a bit of the signature flipped": ("signature", flipped(2)),
    "the payload of another token": (
        "signature",
        lambda f: swapped(f.good(), f.with_payload(sub="user:eve")),
    ),
    "cut by one character": ("cut off|another spelling|64 bytes", lambda f: f.good()[:-1]),
    "cut in half": ("three parts|cut|spelling", lambda f: f.good()[: len(f.good()) // 2]),
    "padded": ("base64url", in_part(2, lambda part: part + "==")),
    "padded in its header": ("base64url", in_part(0, lambda part: part + "=")),
    "the alphabet of base64": ("base64url", in_part(1, lambda part: "+/" + part[2:])),
    "unused bits of the signature": ("spelling", in_part(2, unused_bits)),
    "a newline at the end": ("base64url", lambda f: f.good() + "\n"),
    "a newline within": ("base64url", in_part(1, lambda part: part[:8] + "\n" + part[8:])),
    "a space before": ("base64url", lambda f: " " + f.good()),
    "a space within": ("base64url", in_part(2, lambda part: part[:8] + " " + part[8:])),
    "a NUL at the end": ("base64url", lambda f: f.good() + "\0"),
    "something after it": ("base64url", lambda f: f.good() + ",x"),
    "a full-width letter": ("base64url", in_part(1, lambda part: "\uff45" + part[1:])),
    "a lone surrogate": ("base64url", in_part(1, lambda part: "\udc80" + part[1:])),
    "the scheme before it": ("base64url", lambda f: "Bearer " + f.good()),
    "four parts": ("three parts", lambda f: f.good() + ".AAAA"),
    "a dot at the end": ("three parts", lambda f: f.good() + "."),
    "two parts": ("three parts", lambda f: f.data()),
    "five parts, as encrypted ones have": (
        "three parts",
        lambda f: f.with_header(alg="dir", enc="A128GCM") + ".AAAA.AAAA",
    ),
    "nothing": ("three parts", lambda f: ""),
    "two dots": ("base64url", lambda f: ".."),
    "the general JSON form": (
        "three parts",
        lambda f: json.dumps({"payload": "", "signatures": []}),
    ),
    "more than 8 KiB": ("longer", lambda f: f.with_payload(jti="x" * 9000)),
    # The signature
    "no signature": ("base64url", lambda f: f.data() + "."),
    "r and s zero": ("out of range", lambda f: f.signed_by(bytes(64))),
    "r zero": ("out of range", lambda f: f.signed_by(bytes(32) + b"\0" * 31 + b"\1")),
    "r and s the order": (
        "out of range",
        lambda f: f.signed_by(ORDER.to_bytes(32, "big") * 2),
    ),
    "r and s one": ("signature", lambda f: f.signed_by((1).to_bytes(32, "big") * 2)),
    "s in the upper half": (
        "out of range",
        lambda f: f.signed_by(raw_signature(f.key.private, f.data().encode(), low=False)),
    ),
    "DER": (
        "64 bytes",
        lambda f: f.signed_by(f.key.private.sign(f.data().encode(), ec.ECDSA(hashes.SHA256()))),
    ),
    "a byte more": (
        "64 bytes",
        lambda f: f.signed_by(raw_signature(f.key.private, f.data().encode()) + b"\0"),
    ),
    # When
    "exp twice": ("twice", twice("exp", 4_000_000_000)),
    "exp a text": ("a time", lambda f: f.with_payload(exp=str(now(f) + 3600))),
    "exp a float": ("a time", lambda f: f.with_payload(exp=now(f) + 3600.0)),
    "exp true": ("a time", lambda f: f.with_payload(exp=True)),
    "exp null": ("a time", lambda f: f.with_payload(exp=None)),
    "exp negative": ("a time", lambda f: f.with_payload(exp=-1)),
    "exp with an exponent": ("a time", spelt("exp", "1e300")),
    "exp infinite": ("not the JSON", spelt("exp", "Infinity")),
    "exp no number": ("not the JSON", spelt("exp", "NaN")),
    "exp of 30 digits": ("a time", spelt("exp", "9" * 30)),
    "exp of 5000 digits": ("not the JSON", spelt("exp", "9" * 5000)),
    "exp too far": ("longer", lambda f: f.with_payload(exp=now(f) + 3601)),
    "exp over": ("expired", lambda f: f.with_payload(exp=now(f), nbf=now(f) - 9, iat=now(f) - 9)),
    "exp missing": ("lacks", lambda f: f.without("exp")),
    "nbf in the future": (
        "not valid yet",
        lambda f: f.with_payload(nbf=now(f) + 61),
    ),
    "iat in the future": (
        "not valid yet",
        lambda f: f.with_payload(iat=now(f) + 61, nbf=now(f) + 61, exp=now(f) + 3600),
    ),
    "nbf before iat": ("longer", lambda f: f.with_payload(nbf=now(f) - 1)),
    "nbf missing": ("lacks", lambda f: f.without("nbf")),
    "iat missing": ("lacks", lambda f: f.without("iat")),
    "iat a text": ("a time", lambda f: f.with_payload(iat=str(now(f)))),
    # For whom, of whom, about whom
    "aud of another": ("service", lambda f: f.with_payload(aud="other")),
    "aud a list with ours": ("service", lambda f: f.with_payload(aud=["spindle"])),
    "aud ours and more": ("service", lambda f: f.with_payload(aud="spindle.example")),
    "aud a beginning of ours": ("service", lambda f: f.with_payload(aud="spin")),
    "aud with a look-alike": ("service", lambda f: f.with_payload(aud="sp\u0456ndle")),
    "aud empty": ("service", lambda f: f.with_payload(aud="")),
    "aud missing": ("lacks", lambda f: f.without("aud")),
    "iss of another": ("service", lambda f: f.with_payload(iss="https://spindle")),
    "iss missing": ("lacks", lambda f: f.without("iss")),
    "sub missing": ("lacks", lambda f: f.without("sub")),
    "sub a list": ("sub", lambda f: f.with_payload(sub=["user:ada"])),
    "sub empty": ("sub", lambda f: f.with_payload(sub="")),
    "sub long": ("sub", lambda f: f.with_payload(sub="user:" + "a" * 600)),
    "sub twice": ("twice", twice("sub", "user:root")),
    "jti missing": ("lacks", lambda f: f.without("jti")),
    "jti a number": ("jti", lambda f: f.with_payload(jti=7)),
    "a member that we do not know": ("has more", lambda f: f.with_payload(admin=True)),
    # What for
    "access missing": ("lacks", lambda f: f.without("access")),
    "access null": ("no list", lambda f: f.with_access(None)),
    "access an object": ("no list", lambda f: f.with_access({})),
    "access a text": ("no list", lambda f: f.with_access("repository:acme/shop:pull")),
    "access of texts": ("other members", lambda f: f.with_access(["repository:acme/shop:pull"])),
    "access of too many": (
        "too long",
        lambda f: f.with_access([{**f.payload["access"][0], "name": f"a{n}"} for n in range(65)]),
    ),
    "access to a pattern": ("no resource", lambda f: f.with_entry(name="**")),
    "access to a name with a newline": ("no resource", lambda f: f.with_entry(name="acme/shop\n")),
    "access to no name": ("no resource", lambda f: f.with_entry(name="")),
    "access to a number": ("no resource", lambda f: f.with_entry(name=1)),
    "access to a name with a look-alike": (
        "no resource",
        lambda f: f.with_entry(name="\u0430cme/shop"),
    ),
    "access of another type": ("no resource", lambda f: f.with_entry(type="registry")),
    "access of a type that is a list": ("no resource", lambda f: f.with_entry(type=[])),
    "access with actions as text": ("other actions", lambda f: f.with_entry(actions="pull")),
    "access with no actions": ("other actions", lambda f: f.with_entry(actions=[])),
    "access with an action twice": (
        "other actions",
        lambda f: f.with_entry(actions=["pull", "pull"]),
    ),
    "access with an unknown action": (
        "other actions",
        lambda f: f.with_entry(actions=["pull", "admin"]),
    ),
    "access with an action that is a list": (
        "other actions",
        lambda f: f.with_entry(actions=[["pull"]]),
    ),
    "access with a class": ("other members", lambda f: f.with_entry(**{"class": "plugin"})),
    "access twice to one": ("twice", lambda f: f.with_access(2 * f.payload["access"])),
    "access with a member twice": (
        "twice",
        lambda f: f.with_body(f.body().replace('"type":', '"type": "registry", "type":')),
    ),
    # The payload as such
    "claims a list": ("claims", lambda f: f.with_payload(claims=[])),
    "a claim a number": ("a claim", lambda f: f.with_payload(claims={"ref": 1})),
    "a claim long": ("a claim", lambda f: f.with_payload(claims={"ref": "x" * 1025})),
    "claims of too many": (
        "claims",
        lambda f: f.with_payload(claims={str(n): "" for n in range(65)}),
    ),
    "a payload that is deep": (
        "not the JSON|no JSON object",  # as deep as the parser of this Python goes
        lambda f: f.with_body("[" * 2900 + "]" * 2900),
    ),
    "a payload of 5000 brackets": ("not the JSON", lambda f: f.with_body("[" * 5000)),
    "a payload that is a list": ("no JSON object", lambda f: f.with_body("[]")),
    "a payload that is a text": ("no JSON object", lambda f: f.with_body('"user:ada"')),
    "a payload of nothing": ("base64url", lambda f: f.with_body("")),
    "a payload that is not UTF-8": (
        "not the JSON",
        lambda f: f.with_body(f.body().encode().replace(b"ada", b"\xff\xfe")),
    ),
    "a payload that is a token": ("not the JSON", lambda f: f.with_body(f.good())),
    "a payload with something after it": ("not the JSON", lambda f: f.with_body(f.body() + "{}")),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_token_is_refused(mint: Mint, name: str) -> None:
    reason, forge = FORGED[name]
    await mint.tokens.verify(mint.forger.good())  # the control
    forged = forge(mint.forger)
    for _ in range(2):  # also when it was seen before
        told = await mint.refuses(forged)
    assert re.search(reason, told), told


def test_there_are_enough_of_them() -> None:
    assert len(FORGED) >= 60


@pytest.mark.parametrize(
    "genuine",
    [
        lambda f: f.with_payload(nbf=now(f) + 60),
        lambda f: f.with_payload(iat=now(f) + 60, nbf=now(f) + 60),
        lambda f: f.with_payload(exp=now(f) + 1),
        lambda f: f.with_payload(claims={"ref": "x" * 1024}),
        lambda f: f.with_payload(sub="x" * 560),
        lambda f: f.with_entry(actions=["*"]),
        lambda f: f.with_entry(type="registry", name="catalog", actions=["*"]),
        lambda f: f.with_access([{**f.payload["access"][0], "name": f"a{n}"} for n in range(64)]),
        lambda f: f.with_access([]),
    ],
)
async def test_what_is_just_within_the_bounds_is_good(mint: Mint, genuine: Forge) -> None:
    await mint.tokens.verify(genuine(mint.forger))


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
async def test_whatever_is_changed_in_a_token_makes_it_invalid(mint: Mint, data: Any) -> None:
    text = mint.forger.good()
    place = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(place, min(place + 3, len(text))))
    put = data.draw(st.text(st.characters(), max_size=3))
    changed = text[:place] + put + text[end:]
    if changed != text:
        await mint.refuses(changed)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_-]{1,99}(\.[A-Za-z0-9_-]{0,99}){2}")))
def test_the_parser_raises_nothing_else(text: str) -> None:
    with pytest.raises(TokenInvalid):
        parse(text)
