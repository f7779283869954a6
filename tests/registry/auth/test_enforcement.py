"""Nothing is answered, read or looked up before it is known who asks and that he may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from registry.auth.doorman import Doorman
from registry.auth.identity import ANONYMOUS, Credentials, Kind, Principal
from registry.auth.scope import Grant
from registry.errors import Denied, Unauthorized
from registry.exchange import Exchange
from registry.exchange import Registry as Reached
from registry.permissions import Need
from storage.names import RepositoryName
from storage.records.database import Connection
from tests.asgi import IMAGE, Answer, Registry, digest_of, image, open_store
from tests.registry.auth.granting import Granting, basic, bearer, bounded

HERE, ABSENT = "acme/shop", "acme/none"
MISSING = digest_of(b"what nobody pushed")
GRANTS = {
    "anonymous": [Grant.parse("public/**", ["pull"])],
    "user:root": [Grant.parse("**", ["admin"])],
    "user:reader": [Grant.parse("acme/**", ["pull"])],
    "user:pusher": [Grant.parse("acme/**", ["pull", "push"])],
    "user:mover": [Grant.parse("acme/**", ["pull", "push", "overwrite"])],
    "user:other": [Grant.parse("other/**", ["admin"])],
    "user:mounter": [
        Grant.parse("acme/**", ["push"]),
        Grant.parse("lib/base", ["pull"]),
    ],
}
ADA = Principal(Kind.USER, "pusher")
TOKENS = {
    "narrow": bounded(ADA, Grant.parse("acme/shop", ["pull"])),
    "narrow-reader": bounded(Principal(Kind.USER, "reader"), Grant.parse("acme/shop", ["pull"])),
    "for-nothing": bounded(ADA),
    "nobody": bounded(ANONYMOUS),
    "robot": Principal(Kind.ROBOT, "ci", grants=(Grant.parse("acme/*", ["pull", "push"]),)),
}


class Guarded(Registry):
    """A registry with a gate; `await registry.root(…)` asks as somebody who may do everything."""

    gate: Granting

    async def root(self, method: str, target: str, **request: Any) -> Answer:
        headers = {**request.pop("headers", {}), **basic("root")}
        return await self(method, target, headers=headers, **request)

    async def fill(self, name: str, tag: str = "latest", **fields: Any) -> bytes:
        """An image, pushed by root; returns the manifest."""
        body = image(**fields)
        digest = digest_of(b"{}")
        pushed = await self.root("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", body=b"{}")
        assert pushed.status == 201, pushed.body
        pushed = await self.put(name, tag, body, basic("root"))
        assert pushed.status == 201, pushed.body
        return body

    async def put(self, name: str, tag: str, body: bytes, headers: dict[str, str]) -> Answer:
        target = f"/v2/{name}/manifests/{tag}"
        return await self("PUT", target, body=body, headers={"Content-Type": IMAGE, **headers})


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with open_store(tmp_path) as store:
        gate = Granting(GRANTS, TOKENS)
        guarded = Guarded(store, gate=gate)
        guarded.gate = gate
        yield guarded


# Signing in


async def test_the_base_challenges_whoever_did_not_sign_in(registry: Guarded) -> None:
    """Clients take the challenge from there, whatever they want to do afterwards."""
    answer = await registry("GET", "/v2/")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.header("cache-control") == "no-store"
    realm = 'Bearer realm="http://registry.test/auth/token",service="test"'
    assert answer.header("www-authenticate") == realm

    assert (await registry("GET", "/v2/", headers=basic("reader"))).status == 200
    assert (await registry("GET", "/v2/", headers=bearer("narrow"))).status == 200
    assert (await registry("GET", "/v2/", headers=bearer("nobody"))).status == 200


async def test_where_nothing_needs_a_login_the_base_does_not_either(registry: Guarded) -> None:
    registry.gate.closed = False
    assert (await registry("GET", "/v2/")).status == 200


@pytest.mark.parametrize("headers", [basic("ada", "wrong"), bearer("forged"), bearer("")])
@pytest.mark.parametrize(
    "target",
    [
        *("/v2/", "/v2/_catalog", "/v2/_oci/ext/discover", "/v2/public/x/manifests/latest"),
        *(f"/v2/{HERE}/manifests/latest", "/v2/acme/NAME/manifests/latest"),
    ],
)
async def test_wrong_credentials_are_never_nobodys(
    registry: Guarded, headers: dict[str, str], target: str
) -> None:
    """Also where anonymous might."""
    await registry.fill("public/x")
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        assert (await registry(method, target, headers=headers)).status == 401


async def test_a_path_that_is_none_is_nobodys_business(registry: Guarded) -> None:
    assert (await registry("GET", "/v2/nothing")).status == 404


async def test_who_did_not_sign_in_is_told_to_before_what_else_is_wrong(registry: Guarded) -> None:
    for target in ("/v2/Acme/manifests/latest", "/v2/acme/shop/manifests/latest"):
        for method in ("GET", "PATCH", "OPTIONS"):
            answer = await registry(method, target)
            assert answer.status == 401, (method, target)
    reader = basic("reader")
    wrong = await registry("GET", "/v2/Acme/manifests/latest", headers=reader)
    assert (wrong.status, wrong.code) == (400, "NAME_INVALID")
    wrong = await registry("PATCH", "/v2/acme/shop/manifests/latest", headers=reader)
    assert wrong.status == 405


async def test_a_challenge_asks_for_what_is_needed(registry: Guarded) -> None:
    for method, target, scope in [
        ("GET", "manifests/latest", "repository:acme/shop:pull"),
        ("PUT", "manifests/latest", "repository:acme/shop:pull,push"),
        ("POST", "blobs/uploads/", "repository:acme/shop:pull,push"),
        ("DELETE", "manifests/latest", "repository:acme/shop:delete"),
    ]:
        answer = await registry(method, f"/v2/acme/shop/{target}")
        assert f'scope="{scope}"' in (answer.header("www-authenticate") or "")


async def test_a_token_that_is_too_small_can_be_exchanged(registry: Guarded) -> None:
    """podman and go-containerregistry ask for another one then."""
    target = f"/v2/{HERE}/blobs/uploads/"
    answer = await registry("POST", target, headers=bearer("narrow"))
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    challenge = answer.header("www-authenticate") or ""
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="repository:{HERE}:pull,push"' in challenge

    # But not where a larger one would not help.
    answer = await registry("POST", target, headers=bearer("narrow-reader"))
    assert (answer.status, answer.code) == (403, "DENIED")
    assert answer.header("www-authenticate") is None


async def test_a_robot_may_what_its_token_says(registry: Guarded) -> None:
    await registry.fill(HERE)
    robot = bearer("robot")
    assert (await registry("GET", f"/v2/{HERE}/manifests/latest", headers=robot)).status == 200
    answer = await registry("DELETE", f"/v2/{HERE}/manifests/latest", headers=robot)
    assert (answer.status, answer.code) == (403, "DENIED")


async def test_the_gate_is_shown_all_that_a_request_shows_of_its_sender() -> None:
    gate = Granting(GRANTS)
    scope = {
        "headers": [(b"authorization", b"Basic eDp4"), (b"host", b"r")],
        "client": ("192.0.2.7", 4711),
        "state": {"client_certificate": "ada", "request_id": b"1234"},
    }
    await Doorman(gate).identify(scope, Need.PULL, HERE)
    assert gate.shown == [Credentials("Basic eDp4", "192.0.2.7", "1234", "ada")]
    # Neither of two: each could be the one that somebody in between has looked at.
    gate.tokens = {"a, Bearer b": ANONYMOUS}
    scope["headers"] = [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")]
    await Doorman(gate).identify(scope, Need.PULL, HERE)
    assert gate.shown[-1].authorization == "Bearer a, Bearer b"


@pytest.mark.parametrize(
    ("headers", "who"),
    [({}, "anonymous"), (basic("other"), "user:other"), (basic("x", "wrong"), "anonymous")],
)
async def test_of_a_refused_request_it_is_known_who_sent_it(
    registry: Guarded, headers: dict[str, str], who: str
) -> None:
    """For the audit, which is told when the answer begins."""
    told: list[str] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        told.append(exchange.principal.text)

    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"method": "GET", "headers": sent, "query_string": b""}
    reached = Reached(registry.store, lambda: None, 1, None, 1, None, registry.gate)
    exchange = Exchange(scope, receive, send, reached)
    doorman = Doorman(registry.gate)

    async def enter() -> None:
        exchange.caller = await doorman.identify(scope, Need.PULL, HERE)
        doorman.admit(exchange.caller, Need.PULL, HERE)

    with pytest.raises((Unauthorized, Denied)):
        await enter()
    await exchange.reply(401)
    assert set(told) == {who}


# Before anything is read or looked up


async def test_who_is_refused_is_not_asked_for_the_body(registry: Guarded) -> None:
    """A client that waits for 100-continue has sent nothing then."""
    requests = [
        ("PUT", f"/v2/{HERE}/manifests/latest"),
        ("POST", f"/v2/{HERE}/blobs/uploads/?digest={digest_of(b'x')}"),
        ("POST", f"/v2/{HERE}/blobs/uploads/"),
        ("PATCH", f"/v2/{HERE}/blobs/uploads/id"),
        ("PUT", f"/v2/{HERE}/blobs/uploads/id?digest={digest_of(b'x')}"),
    ]
    for method, target in requests:
        for headers in ({}, basic("reader"), basic("pusher", "wrong"), bearer("narrow")):
            answer = await registry(
                method, target, body=b"x", headers={"Expect": "100-continue", **headers}
            )
            assert answer.status in (401, 403), (method, target, headers)
            assert answer.reads == 0
            assert answer.header("connection") == "close"


async def test_what_is_not_allowed_is_not_looked_up(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        registry = Guarded(store, gate=Granting(GRANTS, TOKENS))
    # The store is closed, so whatever touches it fails with 500.
    assert (await registry("GET", f"/v2/{HERE}/tags/list", headers=basic("root"))).status == 500
    for target in _targets(HERE):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            for headers in ({}, basic("other"), bearer("for-nothing")):
                answer = await registry(method, target, headers=headers)
                assert answer.status in (401, 403, 405), (method, target)


def _targets(name: str) -> list[str]:
    digest = digest_of(image())
    return [
        *(f"/v2/{name}/manifests/latest", f"/v2/{name}/manifests/{digest}"),
        *(f"/v2/{name}/manifests/none", f"/v2/{name}/manifests/{MISSING}"),
        *(f"/v2/{name}/blobs/{digest_of(b'{}')}", f"/v2/{name}/blobs/{MISSING}"),
        *(f"/v2/{name}/blobs/uploads/", f"/v2/{name}/blobs/uploads/none"),
        *(f"/v2/{name}/tags/list", f"/v2/{name}/referrers/{digest}"),
        f"/v2/{name}/_oci/ext/discover",
    ]


# No oracle


async def test_what_may_not_be_seen_is_refused_alike_whether_it_is_there_or_not(
    registry: Guarded,
) -> None:
    """Byte for byte, but for the name that the client itself sent."""
    await registry.fill(HERE)
    await registry.fill("acme/shop2")
    assert len(HERE) == len(ABSENT)
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        for here, absent in zip(_targets(HERE), _targets(ABSENT), strict=True):
            for headers in ({}, basic("other"), bearer("for-nothing"), bearer("nobody")):
                one = await registry(method, here, headers=headers)
                two = await registry(method, absent, headers=headers)
                assert _without(one, HERE) == _without(two, ABSENT), (method, here)
                assert one.status in (401, 403, 405)
    # Within one repository all are alike, too.
    answers = {
        repr(_without(await registry("GET", target, headers=basic("other")), HERE))
        for target in _targets(HERE)
        if "uploads" not in target
    }
    assert len(answers) == 1


def _without(answer: Answer, name: str) -> tuple[int, list[tuple[str, str]], bytes]:
    headers = [(key, value.replace(name, "NAME")) for key, value in answer.headers]
    return answer.status, headers, answer.body.replace(name.encode(), b"NAME")


async def test_what_is_not_there_in_what_one_may_pull_is_404(registry: Guarded) -> None:
    """containerd gives up a push at any answer to HEAD but 200 and 404."""
    for target in ("manifests/latest", f"manifests/{MISSING}", f"blobs/{MISSING}"):
        answer = await registry("HEAD", f"/v2/{ABSENT}/{target}", headers=basic("pusher"))
        assert answer.status == 404


async def test_head_is_get_without_its_body(registry: Guarded) -> None:
    await registry.fill(HERE)
    for headers in ({}, basic("other"), basic("reader"), bearer("forged"), bearer("for-nothing")):
        for target in _targets(HERE):
            get = await registry("GET", target, headers=headers)
            head = await registry("HEAD", target, headers=headers)
            assert (head.status, head.headers) == (get.status, get.headers)


# Overwriting


async def test_a_tag_that_is_there_moves_only_for_who_may_overwrite(registry: Guarded) -> None:
    first, second = image(annotations={"n": "1"}), image(annotations={"n": "2"})
    assert (await registry.put(HERE, "v1", first, basic("pusher"))).status == 201
    # The same again is no move.
    assert (await registry.put(HERE, "v1", first, basic("pusher"))).status == 201

    refused = await registry.put(HERE, "v1", second, basic("pusher"))
    assert (refused.status, refused.code) == (403, "DENIED")
    assert "overwrite" in refused.json["errors"][0]["message"]
    shown = await registry("GET", f"/v2/{HERE}/manifests/v1", headers=basic("reader"))
    assert shown.body == first
    # Nothing of it was kept.
    target = f"/v2/{HERE}/manifests/{digest_of(second)}"
    assert (await registry("GET", target, headers=basic("reader"))).status == 404

    assert (await registry.put(HERE, "v1", second, basic("mover"))).status == 201


async def test_where_the_digest_is_known_that_is_told_before_the_body(registry: Guarded) -> None:
    first, second = image(annotations={"n": "1"}), image(annotations={"n": "2"})
    await registry.put(HERE, "v2", first, basic("pusher"))
    target = f"{digest_of(second)}?tag=v1&tag=v2"
    refused = await registry.put(HERE, target, second, basic("pusher"))
    assert (refused.status, refused.code, refused.reads) == (403, "DENIED", 0)
    # All or nothing.
    answer = await registry("GET", f"/v2/{HERE}/manifests/v1", headers=basic("reader"))
    assert answer.status == 404
    assert (await registry.put(HERE, target, second, basic("mover"))).status == 201


async def test_of_two_pushes_at_once_the_second_is_an_overwrite(registry: Guarded) -> None:
    """Both find no tag before their bodies are read; only one of them can be the first."""
    for round in range(10):
        bodies = [image(annotations={"n": f"{round}-{n}"}) for n in range(4)]
        answers = await asyncio.gather(
            *(registry.put(HERE, f"t{round}", body, basic("pusher")) for body in bodies)
        )
        assert sorted(answer.status for answer in answers) == [201, 403, 403, 403]
        won = bodies[[answer.status for answer in answers].index(201)]
        target = f"/v2/{HERE}/manifests/t{round}"
        assert (await registry("GET", target, headers=basic("reader"))).body == won


async def test_a_push_on_a_condition_is_for_who_may_look(registry: Guarded) -> None:
    """Whether it is fulfilled tells what is there."""
    await registry.fill(HERE)
    for name in (HERE, ABSENT):
        for condition in ("If-Match", "If-None-Match"):
            headers = {**basic("mounter"), condition: "*"}
            answer = await registry.put(name, "latest", image(), headers)
            assert (answer.status, answer.reads) == (403, 0)
            assert name in answer.json["errors"][0]["message"]
    headers = {**basic("pusher"), "If-None-Match": "*"}
    assert (await registry.put(HERE, "latest", image(), headers)).status == 412
    assert (await registry.put(HERE, "new", image(), headers)).status == 201


# Deleting


async def test_deleting_needs_its_own_right(registry: Guarded) -> None:
    body = await registry.fill(HERE)
    for target in ("latest", digest_of(body)):
        answer = await registry("DELETE", f"/v2/{HERE}/manifests/{target}", headers=basic("mover"))
        assert (answer.status, answer.code) == (403, "DENIED")
    blob = f"/v2/{HERE}/blobs/{digest_of(b'{}')}"
    assert (await registry("DELETE", blob, headers=basic("mover"))).status == 403
    assert (await registry.root("DELETE", f"/v2/{HERE}/manifests/{digest_of(body)}")).status == 202
    assert (await registry.root("GET", f"/v2/{HERE}/manifests/latest")).status == 404


# Mounting


async def _mount(registry: Guarded, query: str) -> Answer:
    target = f"/v2/acme/new/blobs/uploads/?mount={digest_of(b'{}')}{query}"
    return await registry("POST", target, headers=basic("mounter"))


async def test_a_blob_is_mounted_from_what_one_may_pull(registry: Guarded) -> None:
    await registry.fill("lib/base")
    assert (await _mount(registry, "&from=lib/base")).status == 201


@pytest.mark.parametrize("source", ["&from=secret/x", "&from=acme/x", "&from=A", "&from=", ""])
async def test_else_there_is_a_session_and_nothing_tells_why(
    registry: Guarded, source: str
) -> None:
    """Whether it is there, and whether its name can be one: the same answer."""
    await registry.fill("secret/x")
    await registry.fill("acme/x")
    there = await _mount(registry, source)
    absent = await _mount(registry, "&from=lib/absent")

    def shape(answer: Answer) -> object:
        session = (answer.header("location") or "").rpartition("/")[2]
        return answer.status, [(n, v.replace(session, "ID")) for n, v in answer.headers]

    assert there.status == 202
    assert shape(there) == shape(absent)


# Upload sessions


async def _session(registry: Guarded, headers: dict[str, str]) -> str:
    answer = await registry("POST", f"/v2/{HERE}/blobs/uploads/", headers=headers)
    assert answer.status == 202
    return answer.header("location") or ""


async def test_a_session_is_only_there_for_who_began_it(registry: Guarded) -> None:
    location = await _session(registry, basic("pusher"))
    for headers in (basic("mover"), basic("root"), bearer("robot")):
        for method, query in [
            *(("GET", ""), ("HEAD", ""), ("PATCH", ""), ("DELETE", "")),
            ("PUT", f"?digest={digest_of(b'x')}"),
        ]:
            body = b"x" if method in ("PATCH", "PUT") else None
            answer = await registry(method, location + query, body=body, headers=headers)
            assert answer.status == 404
            assert answer.reads == 0
    sent = await registry("PATCH", location, body=b"x", headers=basic("pusher"))
    assert sent.status == 202
    target = f"{location}?digest={digest_of(b'x')}"
    assert (await registry("PUT", target, headers=basic("pusher"))).status == 201


async def test_a_session_is_its_owners_with_any_of_his_credentials(registry: Guarded) -> None:
    registry.gate.tokens = {"wide": bounded(ADA, Grant.parse("acme/**", ["pull", "push"]))}
    location = await _session(registry, basic("pusher"))
    assert (await registry("GET", location, headers=bearer("wide"))).status == 204


async def test_who_may_push_unnamed_shares_one_owner(registry: Guarded) -> None:
    registry.gate.grants = {**GRANTS, "anonymous": [Grant.parse("acme/**", ["push"])]}
    location = await _session(registry, {})
    assert (await registry("GET", location)).status == 204
    assert (await registry("GET", location, headers=basic("pusher"))).status == 404


async def test_the_sessions_of_an_open_registry_are_whoevers_knows_them(tmp_path: Path) -> None:
    """As before there was any signing in, so that an upgrade breaks no push."""
    async with open_store(tmp_path) as store:
        location = await Registry(store).start_upload(HERE)
        repository = store.repository(RepositoryName.parse(HERE))
        assert (await repository.upload(location.rpartition("/")[2], principal="")).size == 0


# The catalogue


async def _names(registry: Guarded, query: str, headers: dict[str, str]) -> tuple[list[str], bool]:
    """What is listed, and whether more follows."""
    answer = await registry("GET", f"/v2/_catalog{query}", headers=headers)
    assert answer.status == 200, answer.body
    return answer.json["repositories"], answer.header("link") is not None


async def test_the_catalogue_has_what_its_reader_may_pull(registry: Guarded) -> None:
    for name in ("acme/a", "lib/base", "other/x", "public/p", "acme/b", "acme/c"):
        await registry.fill(name)
    assert await _names(registry, "", basic("reader")) == (["acme/a", "acme/b", "acme/c"], False)
    assert await _names(registry, "", basic("mounter")) == (["lib/base"], False)
    assert await _names(registry, "", {}) == (["public/p"], False)
    assert len((await _names(registry, "", basic("root")))[0]) == 6
    assert await _names(registry, "", bearer("narrow")) == ([], False)


@pytest.mark.parametrize("size", range(1, 6))
async def test_its_pages_are_whole_however_much_is_hidden_between(
    registry: Guarded, size: int
) -> None:
    seen = [f"acme/r{n:02}" for n in range(0, 20, 5)]
    for n in range(20):
        await registry.fill(f"{'acme' if n % 5 == 0 else 'between'}/r{n:02}")
    await registry.fill("acme/z/last")
    listed: list[str] = []
    more, last = True, ""
    while more:
        names, more = await _names(registry, f"?n={size}&last={last}", basic("reader"))
        assert len(names) == size or not more
        listed += names
        last = names[-1]
    assert listed == [*seen, "acme/z/last"]


async def test_a_page_of_nothing_is_one(registry: Guarded) -> None:
    await registry.fill("acme/a")
    assert await _names(registry, "?n=0", basic("reader")) == ([], False)
    assert await _names(registry, "?last=z", basic("reader")) == ([], False)


async def test_who_sees_nothing_of_it_and_could_sign_in_is_told_to(registry: Guarded) -> None:
    await registry.fill("acme/a")
    for query in ("", "?n=1", "?last=zzz"):
        answer = await registry("GET", f"/v2/_catalog{query}")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert 'scope="registry:catalog:*"' in (answer.header("www-authenticate") or "")
    # Who did sign in sees that it is empty.
    assert await _names(registry, "", basic("other")) == ([], False)
    # A token for nothing was not asked for with this in mind.
    answer = await registry("GET", "/v2/_catalog", headers=bearer("for-nothing"))
    assert answer.status == 401
    assert 'error="insufficient_scope"' in (answer.header("www-authenticate") or "")
    await registry.fill("public/p")
    assert await _names(registry, "?last=zzz", {}) == ([], False)


async def test_few_among_many_are_found_a_page_at_a_time(registry: Guarded) -> None:
    """None of them on the event loop: whoever else asks goes on being answered."""
    names = [f"r/{n:05}" for n in range(5000)] + ["acme/a", "zoo/z"]

    def fill(c: Connection) -> None:
        for name in names:
            c.execute("INSERT INTO repositories (name) VALUES (?)", name)
        c.execute(
            "INSERT INTO links (repository, digest, size, created)"
            " SELECT id, ?, 2, 0 FROM repositories",
            digest_of(b"{}"),
        )

    await registry.store.database.write(fill)
    registry.gate.grants = {"user:few": [Grant.parse("zoo/*", ["pull"])]}
    assert await _names(registry, "?n=5", basic("few")) == (["zoo/z"], False)
    # Each was asked about once.
    assert len(registry.gate.asked) == len(names)
