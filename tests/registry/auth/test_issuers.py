"""Workloads are known by the tokens of their platforms, whose keys are asked for and kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from registry.auth.identity import Kind, Principal
from registry.auth.issuers import Federation
from registry.auth.oidc import TokenRefused
from registry.auth.trust import Issuer
from registry.auth.wildcard import Wildcard
from registry.errors import Unauthorized
from tests.registry.auth.certificates import Certificate
from tests.registry.auth.minting import Signer
from tests.registry.auth.platforms import AUDIENCE, NOW, Clock, Platform

JWT = "urn:ietf:params:oauth:token-type:jwt"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.rsa("first")


@pytest.fixture
async def platform(certificate: Certificate, signer: Signer) -> AsyncIterator[Platform]:
    async with Platform(signer).serving(certificate) as serving:
        yield serving


async def refused(federation: Federation, token: str) -> str:
    """Why, as the audit is told."""
    with pytest.raises(Unauthorized, match="was not accepted") as caught:
        await federation.sign_in(token)
    assert isinstance(caught.value.__cause__, TokenRefused)
    return str(caught.value.__cause__)


async def test_a_workload_is_known_by_its_issuer_and_its_subject(platform: Platform) -> None:
    workload = await platform.federation().exchange(platform.token(), JWT)

    assert workload.kind is Kind.WORKLOAD
    assert workload.text == "workload:local:repo:acme/shop:ref:refs/heads/main"
    assert (workload.grants, workload.bounds) == ((), None)
    assert platform.asked == [DISCOVERY, "/keys"]


GITHUB = {
    "jti": "6f0c1d6e-9a0b-4b27-8f9c-5d6b0c0a2a11",
    "sub": "repo:acme/shop:ref:refs/heads/main",
    "ref": "refs/heads/main",
    "sha": "0123456789abcdef0123456789abcdef01234567",
    "repository": "acme/shop",
    "repository_owner": "acme",
    "repository_owner_id": "65",
    "run_id": "30433642",
    "run_attempt": "1",
    "repository_visibility": "private",
    "event_name": "push",
    "ref_protected": "true",
    "ref_type": "branch",
    "job_workflow_ref": "acme/shop/.github/workflows/push.yml@refs/heads/main",
    "runner_environment": "github-hosted",
}
GITLAB = {
    "sub": "project_path:acme/web/shop:ref_type:branch:ref:main",
    "project_id": "22",
    "project_path": "acme/web/shop",
    "namespace_path": "acme/web",
    "user_login": "ada",
    "pipeline_source": "push",
    "job_id": "3",
    "ref": "main",
    "ref_protected": "true",
    "groups_direct": ["acme", "acme/web"],
}
KUBERNETES = {
    "jti": "8c1c0f3c-0bd2-4a4c-9a77-0d7a4b0d5a1e",
    "sub": "system:serviceaccount:build:pusher",
    "kubernetes.io": {
        "namespace": "build",
        "serviceaccount": {"name": "pusher", "uid": "fd2a3f0d-6d8f-4ee0-8f84-5ca8a3e0a3f1"},
    },
}


@pytest.mark.parametrize(
    ("name", "said", "header", "claims"),
    [
        (
            "github",
            GITHUB,
            {"x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE"},
            {"repository": "acme/shop", "ref": "refs/heads/main", "run_id": "30433642"},
        ),
        ("gitlab", GITLAB, {}, {"project_path": "acme/web/shop", "ref_protected": "true"}),
        ("cluster", KUBERNETES, {}, {"sub": "system:serviceaccount:build:pusher"}),
    ],
)
async def test_tokens_of_the_platforms_are_understood(
    platform: Platform,
    signer: Signer,
    name: str,
    said: dict[str, Any],
    header: dict[str, Any],
    claims: dict[str, str],
) -> None:
    aud = [AUDIENCE] if name == "cluster" else AUDIENCE
    token = signer.token(platform.claims(**said, aud=aud), signer.header(**header))

    workload = await platform.federation(name=name).sign_in(token)

    assert workload.text == f"workload:{name}:{said['sub']}"
    assert workload.claims.items() >= ({"issuer": name} | claims).items()
    assert not {"groups_direct", "kubernetes.io", "jti"} & workload.claims.keys()


@pytest.mark.parametrize("make", [Signer.rsa, Signer.ec, Signer.ed])
async def test_signatures_of_each_sort_are_checked(certificate: Certificate, make: Any) -> None:
    async with Platform(make("one")).serving(certificate) as platform:
        federation = platform.federation(algorithms=("RS256", "ES256", "EdDSA"))
        assert await federation.sign_in(platform.token())
        other = make("one").token(platform.claims())
        assert await refused(federation, other) == "the signature is wrong"


async def test_claims_are_texts_numbers_and_booleans(platform: Platform) -> None:
    claims: dict[str, Any] = {
        "text": "Grüße",
        "number": 42,
        "true": True,
        "null": None,
        "list": ["a"],
        "object": {"a": "b"},
        "long": "x" * 1025,
        "as long as may be": "x" * 1024,
        "lines": "a\nb",
        "n" * 65: "a name that is too long",
        "issuer": "another",
    }
    workload = await platform.federation().sign_in(platform.token(**claims))

    assert set(workload.claims) == {
        *("sub", "issuer"),
        *("text", "number", "true", "as long as may be"),
    }
    assert (workload.claims["number"], workload.claims["true"]) == ("42", "true")
    assert workload.claims["issuer"] == "local", "the name in the settings, not what a token says"


async def test_an_issuer_can_be_asked_for_certain_claims(platform: Platform) -> None:
    wanted = {
        "repository": (Wildcard("acme/*"), Wildcard("shop/one")),
        "ref": (Wildcard("refs/heads/*"),),
    }
    federation = platform.federation(claims=wanted)
    ref = "refs/heads/feature/x"

    good = await federation.sign_in(platform.token(repository="acme/shop", ref=ref))
    assert await federation.sign_in(platform.token(repository="shop/one", ref=ref))

    for bad in (
        {"repository": "acme2/shop", "ref": ref},
        {"repository": "acme/shop", "ref": "refs/tags/v1"},
        {"repository": ["acme/shop"], "ref": ref},
        {"ref": ref},
    ):
        assert "is not as the settings ask" in await refused(federation, platform.token(**bad))

    assert federation.trusts(good)
    assert not platform.federation(claims={"actor": (Wildcard("*"),)}).trusts(good)
    assert not platform.federation(name="loc").trusts(good)
    assert not federation.trusts(Principal(Kind.USER, "local:x", good.claims))


async def test_the_audience_of_an_issuer_goes_before_that_of_the_registry(
    platform: Platform,
) -> None:
    federation = platform.federation(audience="ours")
    assert await federation.sign_in(platform.token(aud="ours"))
    assert await federation.sign_in(platform.token(aud=["another", "ours"]))
    assert "aud is not ours" in await refused(federation, platform.token(aud=AUDIENCE))
    assert "aud is not ours" in await refused(federation, platform.token(aud=["another"]))


@pytest.mark.parametrize("kind", [None, JWT, "urn:ietf:params:oauth:token-type:id_token"])
async def test_these_sorts_of_tokens_are_exchanged(platform: Platform, kind: str | None) -> None:
    assert await platform.federation().exchange(platform.token(), kind)


@pytest.mark.parametrize(
    "kind",
    ["", "jwt", "urn:ietf:params:oauth:token-type:access_token", JWT.upper()],
)
async def test_other_sorts_are_not(platform: Platform, kind: str) -> None:
    with pytest.raises(Unauthorized, match="subject_token_type"):
        await platform.federation().exchange(platform.token(), kind)
    assert platform.asked == []


async def test_the_form_of_a_token_tells_it_from_a_password(platform: Platform) -> None:
    assert Federation.recognises(platform.token())
    for other in ("", "secret", "a.b.c", "spt_1_secret", "eyJ.eyJ.x", platform.token() + "="):
        assert not Federation.recognises(other)


async def test_what_is_wrong_is_for_the_log_and_not_for_who_asks(platform: Platform) -> None:
    token = platform.token(aud="other", canary="chirp-5150")
    with structlog.testing.capture_logs() as log, pytest.raises(Unauthorized) as caught:
        await platform.federation().sign_in(token)

    assert "aud" not in str(caught.value)
    [line] = [one for one in log if "refused" in one["event"]]
    assert (line["issuer"], line["reason"]) == ("local", f"aud is not {AUDIENCE}")
    assert line["token"] == f"sha256:{hashlib.sha256(token.encode()).hexdigest()[:16]}"
    assert not [part for part in [*token.split("."), "chirp-5150"] if part in json.dumps(log)]


async def test_what_may_be_a_password_leaves_no_trace(platform: Platform) -> None:
    with structlog.testing.capture_logs() as log:
        await refused(platform.federation(), "a password, by mistake")
    assert "token" not in log[0]


# The keys


async def test_keys_are_asked_for_once_and_kept_for_ten_minutes(platform: Platform) -> None:
    federation = platform.federation()
    await federation.sign_in(platform.token())
    platform.pass_time(599)
    await federation.sign_in(platform.token())
    assert len(platform.asked) == 2
    platform.pass_time(2)
    await federation.sign_in(platform.token())
    assert len(platform.asked) == 4


async def test_however_many_ask_the_issuer_is_asked_once(platform: Platform) -> None:
    federation = platform.federation()
    platform.server.answering.clear()
    asking = [asyncio.create_task(federation.sign_in(platform.token())) for _ in range(20)]
    await platform.server.asked.wait()
    asking[0].cancel()  # whoever came first leaves, and the others go on
    platform.server.answering.set()

    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(one, Principal) for one in answers[1:])
    assert platform.asked == [DISCOVERY, "/keys"]


async def test_a_new_key_is_found_and_an_old_one_forgotten(platform: Platform) -> None:
    federation = platform.federation()
    old = platform.token()
    await federation.sign_in(old)
    platform.signers = [Signer.ec("second")]
    platform.pass_time(60)

    assert await federation.sign_in(platform.token())

    assert "none of the issuer's keys" in await refused(federation, old)


async def test_for_a_key_that_is_not_there_is_looked_once_a_minute(platform: Platform) -> None:
    federation = platform.federation()
    await federation.sign_in(platform.token())
    unknown = Signer.ec("unknown").token(platform.claims())
    for _ in range(10):
        await refused(federation, unknown)
    assert len(platform.asked) == 2, "they had just been looked for"
    platform.pass_time(60)
    for _ in range(10):
        await refused(federation, unknown)
    assert len(platform.asked) == 4
    assert await federation.sign_in(platform.token())


async def test_an_issuer_that_cannot_be_asked_keeps_its_keys_for_an_hour(
    platform: Platform,
) -> None:
    federation = platform.federation()
    await federation.sign_in(platform.token())
    platform.broken = True
    platform.pass_time(3599)
    with structlog.testing.capture_logs() as log:
        assert await federation.sign_in(platform.token())
        assert await federation.sign_in(platform.token())
    [line] = [one for one in log if "keys" in one["event"]]
    assert (line["issuer"], line["reason"]) == ("local", "localhost answers with status 503")
    assert len(platform.asked) == 3, "and is asked again once a minute"

    platform.pass_time(1)
    assert "cannot be had" in await refused(federation, platform.token())

    platform.broken = False
    platform.pass_time(10)
    assert await federation.sign_in(platform.token())


async def test_one_that_never_answered_is_asked_every_ten_seconds(platform: Platform) -> None:
    federation = platform.federation()
    platform.broken = True
    for _ in range(5):
        assert "cannot be had" in await refused(federation, platform.token())
    assert len(platform.asked) == 1
    platform.broken = False
    platform.pass_time(10)
    assert await federation.sign_in(platform.token())


async def test_nobody_listens_where_the_issuer_was(
    certificate: Certificate, signer: Signer
) -> None:
    async with Platform(signer).serving(certificate) as platform:
        federation = platform.federation()
    assert "cannot be had" in await refused(federation, platform.token())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"issuer": "https://another.test"}, "of another issuer"),
        ({"issuer": None}, "of another issuer"),
        ({"jwks_uri": None}, "has no jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "does not begin with https"),
        ({"jwks_uri": "http://localhost:443/keys"}, "only asked over https"),
        ({"jwks_uri": "https://169.254.169.254/keys"}, "link-local"),
        ({"jwks_uri": "https://10.0.0.1/keys"}, "private"),
        ({"jwks_uri": "https://localhost:22/keys"}, "has port 22"),
        ({"jwks_uri": "https://user:secret@localhost/keys"}, "user name"),
    ],
)
async def test_discovery_leads_to_keys_and_nowhere_else(
    platform: Platform, said: dict[str, Any], reason: str
) -> None:
    platform.discovery = said
    with structlog.testing.capture_logs() as log:
        await refused(platform.federation(), platform.token())
    assert platform.asked == [DISCOVERY]
    assert reason in log[0]["reason"]
    assert "secret" not in json.dumps(log)


async def test_without_its_network_in_the_settings_a_private_issuer_is_not_asked(
    platform: Platform,
) -> None:
    with structlog.testing.capture_logs() as log:
        await refused(platform.federation(networks=()), platform.token())
    assert platform.server.connections == 0
    assert "leads to 127.0.0.1" in log[0]["reason"]


async def test_the_url_of_the_keys_can_be_said(platform: Platform) -> None:
    federation = platform.federation(jwks_url=f"{platform.url}/keys")
    assert await federation.sign_in(platform.token())
    assert platform.asked == ["/keys"]


async def test_the_keys_can_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first, second = Signer.ec("first"), Signer.ec("second")
    clock = Clock(0)
    issuer = Issuer("cluster", "https://kubernetes.default.svc", jwks=file)
    federation = Federation([issuer], audience=AUDIENCE, now=Clock(NOW), clock=clock)
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "a", "iat": NOW, "exp": NOW + 60}

    assert "cannot be had" in await refused(federation, first.token(claims))

    file.write_text(json.dumps({"keys": [first.jwk()]}))
    clock.now += 60
    assert await federation.sign_in(first.token(claims))

    file.write_text(json.dumps({"keys": [second.jwk()]}))
    clock.now += 60
    assert await federation.sign_in(second.token(claims))


async def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with file.open("wb") as made:
        made.truncate((1 << 20) + 1)
    issuer = Issuer("cluster", "https://kubernetes.default.svc", jwks=file)
    federation = Federation([issuer], audience=AUDIENCE, now=Clock(NOW))
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "a", "iat": NOW, "exp": NOW + 60}
    with structlog.testing.capture_logs() as log:
        await refused(federation, Signer.ec("first").token(claims))
    assert "more than 1048576 bytes" in log[0]["reason"]
