"""/auth/token and /auth/jwks over real connections, asked as clients ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.auth.identity import Kind, Principal
from registry.auth.oauth import BODY_LIMIT
from registry.auth.refresh import LIFE, MOST
from registry.auth.scope import Action
from registry.errors import Unauthorized
from tests.registry.auth.house import Site, basic, site
from tests.registry.auth.keyring import unb64

ADA = ("ada", "correct horse")
BOB = ("bob", "pass:with:colons")
ROOT = ("root", "secret of root")
PUSH = {Action.PUSH, Action.OVERWRITE}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


def password(user: str, secret: str, **more: str) -> dict[str, str]:
    return {"grant_type": "password", "username": user, "password": secret, **more}


# What is in an answer


async def test_an_answer_has_all_that_any_client_reads(here: Site) -> None:
    status, json, answer = await here.get("service=spindle&scope=repository:acme/shop:pull", ADA)
    assert status == 200
    assert json["token"] == json["access_token"] != ""
    assert json["expires_in"] == 600
    assert datetime.fromisoformat(json["issued_at"]).timestamp() == here.clock.now
    assert "refresh_token" not in json
    assert answer.headers["cache-control"] == "no-store"
    assert await here.access(json["token"]) == {"acme/shop": {Action.PULL}}


async def test_a_token_is_for_as_long_as_it_is_said_to_be(here: Site) -> None:
    _, answer, _ = await here.get("", ADA)
    payload = json.loads(unb64(answer["token"].split(".")[1]))
    assert payload["exp"] - payload["iat"] == answer["expires_in"] == 600


async def test_whoever_has_the_jwks_can_verify_a_token(here: Site) -> None:
    _, answer, _ = await here.get("scope=repository:acme/shop:pull", ADA)
    status, keys, head = await here.ask("GET", "/auth/jwks")
    assert status == 200
    assert head.content_type == "application/jwk-set+json"
    [found] = jwt.PyJWKSet.from_dict(keys).keys
    payload = jwt.decode(
        answer["token"],
        found,
        audience="spindle",
        issuer="spindle",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert payload["sub"] == "user:ada"
    assert payload["access"] == [{"type": "repository", "name": "acme/shop", "actions": ["pull"]}]


# What a token is for


@pytest.mark.parametrize(
    ("who", "scopes", "granted"),
    [
        (ADA, ["repository:acme/shop:pull,push"], {"acme/shop": {Action.PULL} | PUSH}),
        (ADA, ["repository:acme/shop:*"], {"acme/shop": set(Action)}),
        (BOB, ["repository:acme/shop:*"], {"acme/shop": {Action.PULL} | PUSH}),
        (BOB, ["repository:acme/shop:delete"], {}),
        (BOB, ["repository:acme/shop:pull,delete"], {"acme/shop": {Action.PULL}}),
        (BOB, ["repository:acme/other:pull"], {}),
        (None, ["repository:public/base:pull,push"], {"public/base": {Action.PULL}}),
        (None, ["repository:acme/shop:pull"], {}),
        (
            BOB,
            ["repository:acme/shop:push", "repository:acme/shop:pull"],
            {"acme/shop": {Action.PULL} | PUSH},
        ),
        (
            ADA,
            ["repository:acme/shop:pull repository:acme/base:pull", "repository:acme/x:delete"],
            {"acme/shop": {Action.PULL}, "acme/base": {Action.PULL}, "acme/x": {Action.DELETE}},
        ),
        (ADA, [""], {}),
        (ADA, [], {}),
        (ADA, ["  "], {}),
        # Which shows everybody what he may pull, and so is refused to nobody.
        (ADA, ["registry:catalog:*"], {"**": {Action.PULL}}),
        (None, ["registry:catalog:*"], {"**": {Action.PULL}}),
        (ROOT, ["registry:other:*", "plugin:acme/shop:pull", "nonsense", ":::"], {}),
        (ROOT, ["repository:**:pull", "repository:acme/*:pull", "repository:ACME:pull"], {}),
        (ROOT, ["repository:acme/shop:admin,overwrite,PULL, pull"], {}),
        (ADA, ["repository:acme/shop:deploy"], {"acme/shop": {Action.DEPLOY}}),
    ],
)
async def test_a_token_is_for_what_is_allowed_of_what_is_asked_for(
    here: Site, who: tuple[str, str] | None, scopes: list[str], granted: dict[str, set[Action]]
) -> None:
    status, json, _ = await here.get(urlencode([("scope", scope) for scope in scopes]), who)
    assert status == 200
    assert await here.access(json["token"]) == granted


async def test_a_token_may_be_for_64_repositories_and_no_more(here: Site) -> None:
    def scope(count: int) -> str:
        return urlencode({"scope": " ".join(f"repository:acme/{n}:pull" for n in range(count))})

    status, json, _ = await here.get(scope(64), ADA)
    assert status == 200
    assert len(await here.access(json["token"])) == 64
    status, json, _ = await here.get(scope(65), ADA)
    assert (status, json["errors"][0]["code"]) == (400, "UNSUPPORTED")
    assert "64 repositories" in json["errors"][0]["message"]


async def test_what_does_not_fit_in_a_token_is_told(here: Site) -> None:
    names = [f"acme/{number:02}{'x' * 240}" for number in range(40)]
    fields = urlencode({"scope": " ".join(f"repository:{name}:pull" for name in names)})
    # In a body: a request line is shorter.
    status, json, _ = await here.post(f"{fields}&{urlencode(password(*ADA))}")
    assert (status, json["error"]) == (400, "invalid_scope")
    assert "fewer repositories" in json["error_description"]


# Who asks


@pytest.mark.parametrize(
    "who", [("ada", "wrong"), ("nobody", "correct horse"), ("ada", ""), ("", "")]
)
async def test_wrong_credentials_are_asked_for_again(here: Site, who: tuple[str, str]) -> None:
    status, json, answer = await here.get("scope=repository:public/base:pull", who)
    assert (status, json["errors"][0]["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers.getall("www-authenticate") == ['Basic realm="spindle", charset="UTF-8"']


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ", "Basic !!!", "Digest x", "basic:x", "Bearer", "", "Negotiate x"]
)
async def test_a_header_that_is_no_basic_one_is_refused(here: Site, header: str) -> None:
    status, json, _ = await here.get("", authorization=header)
    assert (status, json["errors"][0]["code"]) == (401, "UNAUTHORIZED")


async def test_a_token_is_not_taken_for_another_one(here: Site) -> None:
    """Or what was stolen once would never expire."""
    _, json, _ = await here.get("scope=repository:acme/shop:pull", ADA)
    status, _, _ = await here.get("", authorization=f"Bearer {json['token']}")
    assert status == 401
    assert (await here.get("", ("ada", json["token"])))[0] == 401


async def test_names_and_passwords_are_in_utf_8(here: Site) -> None:
    assert (await here.get("", ("ünï", "pässwörd")))[0] == 200
    assert (await here.post(password("ünï", "pässwörd")))[0] == 200
    assert (await here.get("", BOB))[0] == 200
    assert (await here.post(password(*BOB)))[0] == 200


async def test_nothing_secret_is_taken_from_a_url(here: Site) -> None:
    secret = urlencode({**password(*ADA), "access_token": "x", "scope": "repository:acme/a:pull"})
    status, json, _ = await here.get(secret)
    assert status == 200
    assert (await here.tokens.verify(json["token"])).subject == "anonymous"
    status, json, _ = await here.ask(
        "POST", f"/auth/token?{secret}", data={"grant_type": "password"}
    )
    assert (status, json["error"]) == (400, "invalid_request")


async def test_the_account_of_a_query_is_nobody(here: Site) -> None:
    _, json, _ = await here.get("account=root&client_id=docker")
    assert (await here.tokens.verify(json["token"])).subject == "anonymous"


async def test_another_service_is_told_so(here: Site) -> None:
    for query in ("service=spindle", "service=", ""):
        assert (await here.get(query, ADA))[0] == 200
    status, json, _ = await here.get("service=registry.example", ADA)
    assert (status, json["errors"][0]["code"]) == (400, "UNSUPPORTED")
    assert "'registry.example'" in json["errors"][0]["message"]
    status, json, _ = await here.post(password(*ADA, service="registry.example"))
    assert (status, json["error"]) == (400, "invalid_request")


async def test_who_failed_too_often_has_to_wait(here: Site) -> None:
    here.house.busy = True
    status, json, answer = await here.get("", ADA)
    assert (status, answer.headers["retry-after"]) == (429, "8")
    assert json["errors"][0]["code"] == "TOOMANYREQUESTS"
    status, json, answer = await here.post(password(*ADA))
    assert (status, answer.headers["retry-after"]) == (429, "8")
    assert json["error"] == "temporarily_unavailable"
    assert json["errors"][0]["code"] == "TOOMANYREQUESTS"


async def test_the_gate_is_told_where_somebody_asks_from(here: Site) -> None:
    await here.get("", ADA)
    await here.post(password(*ADA))
    assert [one.address for one in here.house.shown] == ["127.0.0.1"] * 2
    assert [one.authorization for one in here.house.shown] == [basic(*ADA)] * 2


# OAuth2


async def test_a_password_gets_a_token(here: Site) -> None:
    scope = "repository:acme/shop:pull,push repository:acme/base:pull"
    status, json, answer = await here.post(
        password(*ADA, service="spindle", client_id="containerd-client", scope=scope)
    )
    assert status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert json["access_token"] == json["token"]
    assert (json["token_type"], json["scope"], json["expires_in"]) == ("Bearer", scope, 600)
    assert "refresh_token" not in json
    assert (await here.access(json["token"])).keys() == {"acme/shop", "acme/base"}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, "unsupported_grant_type"),
        ({"grant_type": EXCHANGE, "subject_token": "x"}, "unsupported_grant_type"),
        ({"grant_type": "password"}, "invalid_request"),
        (password("ada", ""), "invalid_request"),
        (password("", "x"), "invalid_request"),
        (password("ada", "wrong"), "invalid_grant"),
        (password("a:da", "x"), "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": f"spr_{'x' * 43}"}, "invalid_grant"),
        ("grant_type=password&username=ada&username=bob&password=x", "invalid_request"),
        ("grant_type=password&grant_type=password&username=ada&password=x", "invalid_request"),
        ("grant_type=password&username=%ff&password=x", "invalid_request"),
        ("&".join(["grant_type=password"] * 300), "invalid_request"),
        (b"grant_type=password&username=\xc3\xbc&password=x", "invalid_request"),
    ],
)
async def test_what_is_wrong_with_a_form_is_told_in_the_words_of_rfc_6749(
    here: Site, fields: dict[str, str] | str | bytes, error: str
) -> None:
    status, json, answer = await here.post(fields)
    assert (status, json["error"]) == (400, error)
    assert json["error_description"] == json["errors"][0]["message"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b'{"grant_type": "password"}', 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"--x--", 400),
        ({"content-type": ""}, b"grant_type=password", 400),
        (
            {
                "content-type": "application/x-www-form-urlencoded",
                "content-encoding": "gzip",
            },
            b"\x1f\x8b",
            400,
        ),
        (
            {"content-type": "application/x-www-form-urlencoded"},
            b"x" * (BODY_LIMIT + 1),
            413,
        ),
    ],
)
async def test_a_body_that_is_no_form_is_refused_unread(
    here: Site, headers: dict[str, str], body: bytes, status: int
) -> None:
    answered, json, answer = await here.post(body, headers=headers)
    assert (answered, json["error"]) == (status, "invalid_request")
    assert answer.headers["connection"] == "close"


async def test_a_form_without_a_length_is_read_no_further_than_is_taken(here: Site) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100_000):
            read += 1
            yield b"x" * 1024

    status, json, _ = await here.ask(
        "POST",
        "/auth/token",
        data=endless(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert (status, json["error"]) == (413, "invalid_request")
    assert read < 50_000


async def test_a_form_of_just_the_limit_is_taken(here: Site) -> None:
    form = urlencode(password(*ADA)) + "&x="
    status, _, _ = await here.post(form + "x" * (BODY_LIMIT - len(form)))
    assert status == 200


async def test_other_methods_are_told_which_there_are(here: Site) -> None:
    status, json, answer = await here.ask("PUT", "/auth/token")
    assert (status, json["errors"][0]["code"]) == (405, "UNSUPPORTED")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert (await here.ask("POST", "/auth/jwks"))[0] == 405
    assert (await here.ask("GET", "/auth/other"))[0] == 404


# Somebody else's tokens


class Elsewhere:
    async def exchange(self, subject_token: str, subject_token_type: str) -> Principal:
        if subject_token != "good":
            raise Unauthorized("nobody vouches for that token")
        assert subject_token_type == "urn:ietf:params:oauth:token-type:id_token"
        return Principal(Kind.WORKLOAD, "github:repo:acme/shop", {"ref": "refs/heads/main"})


async def test_a_token_of_an_issuer_is_exchanged(tmp_path: Path) -> None:
    fields = {
        "grant_type": EXCHANGE,
        "subject_token": "good",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "scope": "repository:acme/shop:push",
    }
    async with site(tmp_path, exchange=Elsewhere()) as here:
        here.house.rights["workload:github:repo:acme/shop"] = here.house.rights["user:bob"]
        status, json, _ = await here.post(fields)
        assert status == 200
        assert json["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        verified = await here.tokens.verify(json["access_token"])
        assert verified.subject == "workload:github:repo:acme/shop"
        assert verified.claims == {"ref": "refs/heads/main"}
        assert await here.access(json["access_token"]) == {"acme/shop": PUSH}

        status, json, _ = await here.post({**fields, "subject_token": "bad"})
        assert (status, json["error"]) == (400, "invalid_grant")
        status, json, _ = await here.post({**fields, "access_type": "offline"})
        assert "refresh_token" not in json  # an issuer vouches anew each time


# Refresh tokens


async def refresh_token(here: Site, who: tuple[str, str] = ADA) -> str:
    status, json, _ = await here.get("offline_token=true", who)
    assert status == 200
    assert str(json["refresh_token"]).startswith("spr_")
    return str(json["refresh_token"])


async def redeem(here: Site, text: str) -> tuple[int, Any]:
    fields = {"grant_type": "refresh_token", "refresh_token": text, "service": "spindle"}
    status, json, _ = await here.post({**fields, "scope": "repository:acme/shop:pull"})
    return status, json


async def test_a_refresh_token_gets_tokens_again_and_again(here: Site) -> None:
    text = await refresh_token(here)
    for _ in range(2):
        status, json = await redeem(here, text)
        assert status == 200
        assert (await here.tokens.verify(json["access_token"])).subject == "user:ada"
        assert await here.access(json["access_token"]) == {"acme/shop": {Action.PULL}}


async def test_a_password_with_access_type_offline_gets_one_too(here: Site) -> None:
    _, json, _ = await here.post(password(*ADA, access_type="offline"))
    assert (await redeem(here, json["refresh_token"]))[0] == 200


async def test_nobody_gets_one_without_a_name_or_without_asking(here: Site) -> None:
    assert "refresh_token" not in (await here.get("offline_token=true"))[1]
    assert "refresh_token" not in (await here.get("offline_token=false", ADA))[1]
    assert "refresh_token" not in (await here.post(password(*ADA, access_type="online")))[1]


async def test_none_are_given_where_the_settings_say_so(tmp_path: Path) -> None:
    """As is the default: Spin cannot read what `docker login` then keeps."""
    async with site(tmp_path, refreshes=False) as here:
        status, json, _ = await here.get("offline_token=true", ADA)
        assert status == 200
        assert "refresh_token" not in json
        status, json = await redeem(here, f"spr_{'x' * 43}")
        assert (status, json["error"]) == (400, "unsupported_grant_type")


async def test_a_refresh_token_dies_with_the_password_it_was_made_with(here: Site) -> None:
    text = await refresh_token(here)
    here.house.passwords["ada"] = "another"
    status, json = await redeem(here, text)
    assert status == 400
    assert json["error"] == "invalid_grant"


async def test_a_refresh_token_dies_with_its_owner(here: Site) -> None:
    text = await refresh_token(here)
    del here.house.passwords["ada"]
    assert (await redeem(here, text))[0] == 400


async def test_a_refresh_token_dies_after_30_days(here: Site) -> None:
    text = await refresh_token(here)
    here.clock.now += LIFE - 1
    assert (await redeem(here, text))[0] == 200
    here.clock.now += 1
    assert (await redeem(here, text))[0] == 400


async def test_refresh_tokens_can_be_revoked(here: Site) -> None:
    texts = [await refresh_token(here), await refresh_token(here)]
    other = await refresh_token(here, BOB)
    assert await here.refresh.revoke("user:ada") == 2
    assert [(await redeem(here, text))[0] for text in texts] == [400, 400]
    assert (await redeem(here, other))[0] == 200


async def test_an_owner_has_so_many_and_the_oldest_goes(here: Site) -> None:
    other = await refresh_token(here, BOB)
    texts = []
    for _ in range(MOST + 1):
        here.clock.now += 1
        texts.append(await refresh_token(here))
    assert [(await redeem(here, text))[0] for text in texts] == [400] + [200] * MOST
    assert (await redeem(here, other))[0] == 200


async def test_a_refresh_token_gives_no_more_than_its_owner_has_now(here: Site) -> None:
    text = await refresh_token(here)
    here.house.rights["user:ada"] = []
    status, json = await redeem(here, text)
    assert status == 200
    assert await here.access(json["access_token"]) == {}


# The audit, and what must be nowhere


async def test_the_audit_tells_who_got_a_token_and_what_for(here: Site) -> None:
    await here.get("scope=repository:acme/shop:pull,delete", BOB)
    await here.get("scope=repository:public/base:pull")  # nobody is told of who has no name
    await here.get("offline_token=true", ADA)
    told = [(one.action, one.principal, one.detail) for one in here.heard.events]
    assert told == [
        ("token.issue", "user:bob", "for repository:acme/shop:pull"),
        ("token.issue", "user:ada", "for nothing, with a refresh token"),
    ]
    assert all(one.request and one.address == "127.0.0.1" for one in here.heard.events)


async def test_the_audit_names_some_of_many_resources(here: Site) -> None:
    scopes = " ".join(f"repository:acme/{number}:pull" for number in range(10))
    await here.get(urlencode({"scope": scopes}), ADA)
    assert here.heard.events[0].detail.endswith("acme/7:pull and 2 more")


async def test_one_can_sign_in_while_the_disk_of_the_audit_is_full(here: Site) -> None:
    here.heard.full = True
    assert (await here.get("", ADA))[0] == 200


async def test_secrets_are_in_no_log_no_audit_and_no_row(
    here: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = "canary-c0ffee"
    here.house.passwords["ada"] = canary
    _, got, _ = await here.get(f"offline_token=true&password={canary}", ("ada", canary))
    _, posted, _ = await here.post(password("ada", canary))
    await here.get(f"access_token={canary}", ("ada", canary + "x"))
    await here.post(password("ada", canary + "x"))
    await redeem(here, got["refresh_token"])
    output = capsys.readouterr()
    told = output.out + output.err + repr(here.heard.events)
    assert "/auth/token" in told
    rows = b"".join(path.read_bytes() for path in Path(here.root / "data").glob("records.db*"))
    assert b"refresh_tokens" in rows
    for secret in (canary, got["refresh_token"], got["token"], posted["token"]):
        assert secret not in told
        assert secret.encode() not in rows


# What clients send, whatever it is


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    query=st.lists(
        st.tuples(
            st.sampled_from(["scope", "service", "account", "offline_token", "x"]), st.text()
        ),
        max_size=5,
    ),
    body=st.one_of(
        st.binary(max_size=200),
        st.dictionaries(
            st.sampled_from(
                ["grant_type", "username", "password", "refresh_token", "scope", "service"]
            ),
            st.one_of(st.sampled_from(["password", "refresh_token", "ada", EXCHANGE]), st.text()),
        ).map(lambda fields: urlencode(fields, errors="replace").encode()),
    ),
    header=st.one_of(st.none(), st.from_regex(r"(Basic |Bearer |)[!-~]{0,40}", fullmatch=True)),
)
async def test_nothing_that_is_sent_is_answered_with_a_failure(
    here: Site, query: list[tuple[str, str]], body: bytes, header: str | None
) -> None:
    headers = {} if header is None else {"authorization": header.strip()}
    status, _, _ = await here.get(urlencode(query, errors="replace"), **headers)
    assert status in (200, 400, 401)
    status, _, _ = await here.post(body)
    assert status in (200, 400)
    raw = quote(body, safe="&=%;+")
    status, _, _ = await here.get(raw, **headers)
    assert status in (200, 400, 401)
