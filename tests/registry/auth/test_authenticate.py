"""Who a request is from: every sort of credential, and everything that is none."""

from __future__ import annotations

import base64
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from registry.auth.authenticate import Authentication
from registry.auth.gate import Access
from registry.auth.identity import ANONYMOUS, Credentials, Kind, Principal
from registry.auth.jws import TokenInvalid
from registry.auth.passwords import Passwords, hash_of
from registry.auth.policy import Policy, decide
from registry.auth.robots import Robots
from registry.auth.scope import Action, Grant
from registry.auth.users import Users
from registry.errors import TooManyRequests, Unauthorized
from storage.filesystem.layout import Layout
from storage.records.sqlite import SQLite

ACCESS = (Grant.parse("acme/shop", ["pull"]),)
PASSWORD = "correct horse: battery"  # with a colon, which is the password's


class Defaults:
    """Policies where there is no file."""

    def current(self) -> Policy:
        return Policy.DEFAULT


@dataclass(frozen=True)
class Said:
    subject: str
    issued: float = 2_000_000_000.0
    access: tuple[Grant, ...] = ACCESS
    claims: Mapping[str, str] = field(default_factory=dict)


class Signed:
    """Tokens: those in here were signed by us."""

    def __init__(self) -> None:
        self.known: dict[str, Said] = {}

    async def verify(self, text: str) -> Said:
        try:
            return self.known[text]
        except KeyError:
            raise TokenInvalid("not one of ours") from None


class Platform:
    """Federation with one workload."""

    trusted = True

    def recognises(self, password: str) -> bool:
        return password.count(".") == 2

    async def sign_in(self, password: str) -> Principal:
        if password != "a.b.c":
            raise Unauthorized("the identity token was not accepted")
        return Principal(Kind.WORKLOAD, "github:repo:acme/shop", claims={"ref": "main"})

    def trusts(self, principal: Principal) -> bool:
        return self.trusted and principal.claims == {"ref": "main"}


class File:
    def __init__(self) -> None:
        self.users = Users().with_new("ada", hash_of(PASSWORD, cost=10))

    def current(self) -> Users:
        return self.users


class Scene:
    def __init__(self, database: SQLite) -> None:
        self.file = File()
        self.robots = Robots(database)
        self.tokens = Signed()
        self.platform = Platform()
        self.passwords = Passwords(self.file)
        self.gate = Authentication(
            *(Defaults(), decide, self.file, self.passwords, self.robots),
            tokens=self.tokens,
            federation=self.platform,
        )

    async def who(self, authorization: str | None) -> Principal:
        return await self.gate.identify(Credentials(authorization, "192.0.2.7"))

    async def refused(self, authorization: str) -> str:
        with pytest.raises(Unauthorized) as refused:
            await self.who(authorization)
        return str(refused.value)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = await SQLite.open(Layout.open(tmp_path / "data"))
    one = Scene(database)
    await one.robots.open()
    yield one
    await one.gate.close()
    await database.close()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def test_without_a_header_it_is_nobody(scene: Scene) -> None:
    assert await scene.who(None) is ANONYMOUS


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic  "])
async def test_a_user_with_the_right_password(scene: Scene, scheme: str) -> None:
    header = basic("ada", PASSWORD).replace("Basic", scheme)
    assert await scene.who(header) == Principal(Kind.USER, "ada")
    assert await scene.who(header) == Principal(Kind.USER, "ada")  # as it is remembered


GOOD = base64.b64encode(b"ada:" + PASSWORD.encode()).decode()
OTHER = GOOD[:-2] + chr(ord(GOOD[-2]) + 1) + "="
"""Another spelling of the same bytes."""
assert base64.b64decode(OTHER) == base64.b64decode(GOOD)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("Basic", id="no credentials"),
        pytest.param("Basic ", id="empty credentials"),
        pytest.param(GOOD, id="no scheme"),
        pytest.param(f"Basic{GOOD}", id="no space"),
        pytest.param(f"Basic\t{GOOD}", id="a tab"),
        pytest.param(f"Digest {GOOD}", id="another scheme"),
        pytest.param(f"Bearer {GOOD}", id="a password as a token"),
        pytest.param("Basic ada:" + PASSWORD, id="not Base64"),
        pytest.param(f"Basic {GOOD.rstrip('=')}", id="no padding"),
        pytest.param(f"Basic {GOOD}=", id="too much padding"),
        pytest.param(f"Basic {GOOD} ,", id="a comma behind"),
        pytest.param(f"Basic {GOOD}, Basic {GOOD}", id="sent twice"),
        pytest.param(f"Basic {GOOD[:8]} {GOOD[8:]}", id="a space within"),
        pytest.param(f"Basic {GOOD[:8]}\n{GOOD[8:]}", id="a line break within"),
        pytest.param(f"Basic {GOOD}é", id="not ASCII"),
        pytest.param(f"Basic {OTHER}", id="bits behind the end"),
        pytest.param("Basic YW-_", id="the alphabet of URLs"),
        pytest.param("Basic " + base64.b64encode(b"ada").decode(), id="no colon"),
        pytest.param("Basic " + base64.b64encode(b"ada:\xff").decode(), id="not UTF-8"),
        pytest.param(basic("ada", ""), id="no password"),
        pytest.param(basic("ada", PASSWORD + "x"), id="a wrong password"),
        pytest.param(basic("ada", PASSWORD[:-1]), id="a beginning"),
        pytest.param(basic("ada", PASSWORD + "\0"), id="a NUL behind"),
        pytest.param(basic("ada", "x" * 73), id="more than bcrypt takes"),
        pytest.param(basic("ADA", PASSWORD), id="another case"),
        pytest.param(basic("ada ", PASSWORD), id="a space behind the name"),
        pytest.param(basic("", PASSWORD), id="no name"),
        pytest.param(basic("bob", PASSWORD), id="nobody's name"),
        pytest.param(basic("ada", "x" * 20_000), id="too long"),
        pytest.param(basic("ada", "spt_"), id="the beginning of a robot's secret"),
        pytest.param(basic("ada", f"spt_{'a' * 12}_{'b' * 43}"), id="a robot's that is none"),
        pytest.param(basic("ada", "x.y.z"), id="a workload's token that is none"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer ", id="an empty token"),
        pytest.param("Bearer a.b.c", id="a workload's own token"),
        pytest.param(f"Bearer spt_{'a' * 12}_{'b' * 43}", id="no robot"),
        pytest.param("Bearer ours ours", id="two tokens"),
    ],
)
async def test_what_is_wrong_is_refused_and_never_anonymous(scene: Scene, header: str) -> None:
    said = await scene.refused(header)
    assert PASSWORD not in said
    assert GOOD not in said


async def test_whatever_is_sent_is_somebody_or_refused_and_no_failure_of_ours(
    scene: Scene,
) -> None:
    chance = random.Random(7)
    asked = 0

    def compare(password: bytes, hash: str) -> bool:
        nonlocal asked
        asked += 1
        return False

    gate = Authentication(
        *(Defaults(), decide, scene.file, Passwords(scene.file, compare=compare), scene.robots),
        tokens=scene.tokens,
        federation=scene.platform,
    )
    _, secret = await scene.robots.create("ci", ACCESS, life=None)
    good = [f"Basic {GOOD}", basic("x", secret), f"Bearer {secret}", basic("x", "a.b.c")]
    for one in range(3000):
        header = list(chance.choice(good))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(header) + 1)
            header[at : at + chance.randrange(3)] = chr(chance.randrange(256))
        pair = bytes(chance.randrange(132) for _ in range(chance.randrange(12))) + b":\xc3\xa9"
        pair += b"\0" * chance.randrange(2)
        sent = "".join(header) if one % 2 else "Basic " + base64.b64encode(pair).decode()
        with suppress(Unauthorized, TooManyRequests):
            # Each from an address of its own, so that all are looked at.
            await gate.identify(Credentials(sent, f"10.0.{one >> 8}.{one & 255}"))
    assert asked > 100
    await gate.close()


async def test_no_user_and_a_wrong_password_are_told_in_the_same_words(scene: Scene) -> None:
    wrong = await scene.refused(basic("ada", "wrong"))
    assert wrong == await scene.refused(basic("nobody", "wrong"))


async def test_a_robot_is_known_by_its_secret_whatever_name_is_beside_it(scene: Scene) -> None:
    _, secret = await scene.robots.create("ci", ACCESS, life=None)
    for header in (basic("ci", secret), basic("ada", secret), basic("", secret)):
        found = await scene.who(header)
        assert (found.text, found.grants) == ("robot:ci", ACCESS)
    assert (await scene.who(f"Bearer {secret}")).text == "robot:ci"
    await scene.robots.revoke("ci")
    await scene.refused(basic("ci", secret))
    await scene.refused(f"Bearer {secret}")


async def test_the_use_of_a_robot_is_noted(scene: Scene) -> None:
    _, secret = await scene.robots.create("ci", ACCESS, life=None)
    await scene.who(f"Bearer {secret}")
    await scene.gate.close()
    assert (await scene.robots.all())[0].last_used is not None


async def test_a_workload_signs_in_with_the_token_of_its_platform(scene: Scene) -> None:
    found = await scene.who(basic("whoever", "a.b.c"))
    assert found.text == "workload:github:repo:acme/shop"


async def test_a_token_of_ours_is_its_owner_within_bounds(scene: Scene) -> None:
    await scene.robots.create("ci", ACCESS, life=None)
    scene.tokens.known = {
        "u": Said("user:ada"),
        "r": Said("robot:ci"),
        "w": Said("workload:github:repo:acme/shop", claims={"ref": "main"}),
        "n": Said("anonymous"),
    }
    for text, said in scene.tokens.known.items():
        found = await scene.who(f"Bearer {text}")
        assert found.text == said.subject
        assert found.bounds == ACCESS
    assert (await scene.who("Bearer r")).grants == ACCESS
    assert (await scene.who("Bearer w")).claims == {"ref": "main"}


@pytest.mark.parametrize(
    "subject",
    ["", "ada", "user:", "user:bob", "robot:ci", "anybody", "anonymous:x", "admin:ada", "user"],
)
async def test_a_token_of_whom_is_nobody_here_is_refused(scene: Scene, subject: str) -> None:
    scene.tokens.known = {"t": Said(subject)}
    await scene.refused("Bearer t")


async def test_a_token_ends_with_its_owner(scene: Scene) -> None:
    await scene.robots.create("ci", ACCESS, life=None)
    scene.tokens.known = {
        "u": Said("user:ada"),
        "r": Said("robot:ci"),
        "w": Said("workload:github:repo:acme/shop", claims={"ref": "main"}),
    }
    for text in "urw":
        await scene.who(f"Bearer {text}")
    scene.file.users = scene.file.users.without("ada")
    await scene.robots.revoke("ci")
    scene.platform.trusted = False
    for text in "urw":
        await scene.refused(f"Bearer {text}")


async def test_a_token_of_a_revoked_robot_does_not_rise_again_with_the_name(scene: Scene) -> None:
    """Whoever stole a secret may have got a token for it; the new secret is not his."""
    first, _ = await scene.robots.create("ci", ACCESS, life=None)
    scene.tokens.known = {"t": Said("robot:ci", issued=int(first.created))}
    await scene.who("Bearer t")
    await scene.robots.revoke("ci")
    later = Robots(scene.robots._database, clock=lambda: first.created + 2)
    await later.create("ci", ACCESS, life=None)
    await scene.refused("Bearer t")


async def test_what_is_remembered_needs_no_thread(scene: Scene) -> None:
    """The event loop is not left: the coroutine is done at its first step."""
    _, secret = await scene.robots.create("ci", ACCESS, life=None)
    await scene.who(basic("ada", PASSWORD))
    await scene.who(f"Bearer {secret}")
    scene.tokens.known = {"t": Said("user:ada")}
    for header in (basic("ada", PASSWORD), f"Bearer {secret}", "Bearer t"):
        with pytest.raises(StopIteration):
            scene.gate.identify(Credentials(header, "192.0.2.7")).send(None)


PULL = Access("acme/shop", ("pull", "push"))
FROM = Access("acme/other", ("pull",))


@pytest.mark.parametrize(
    ("access", "error", "header"),
    [
        ((), None, 'Bearer realm="http://localhost:5000/auth/token",service="spindle"'),
        (
            (PULL,),
            None,
            'Bearer realm="http://localhost:5000/auth/token",service="spindle",'
            'scope="repository:acme/shop:pull,push"',
        ),
        (
            (PULL, FROM),
            "insufficient_scope",
            'Bearer realm="http://localhost:5000/auth/token",service="spindle",'
            'scope="repository:acme/shop:pull,push repository:acme/other:pull",'
            'error="insufficient_scope"',
        ),
        (
            (Access(None, ("*",)),),
            None,
            'Bearer realm="http://localhost:5000/auth/token",service="spindle",'
            'scope="registry:catalog:*"',
        ),
    ],
)
async def test_a_challenge_says_where_a_token_is_to_be_had(
    scene: Scene, access: tuple[Access, ...], error: str | None, header: str
) -> None:
    assert scene.gate.challenges("http://localhost:5000", access, error) == [
        (b"www-authenticate", header.encode())
    ]


@pytest.mark.parametrize(("challenge", "tokens"), [("basic", True), ("bearer", False)])
async def test_a_challenge_to_send_the_password(scene: Scene, challenge: str, tokens: bool) -> None:
    gate = Authentication(
        *(Defaults(), decide, scene.file, scene.passwords, scene.robots),
        tokens=scene.tokens if tokens else None,
        challenge=challenge,
        service='our "own"',
    )
    assert gate.challenges("http://localhost:5000", (PULL,)) == [
        (b"www-authenticate", b'Basic realm="our \\"own\\"", charset="UTF-8"')
    ]


async def test_somebody_has_to_sign_in_always(scene: Scene) -> None:
    assert scene.gate.closed


async def test_without_a_policy_only_admin_and_the_tokens_of_robots_may(scene: Scene) -> None:
    admin, ada = Principal(Kind.USER, "admin"), Principal(Kind.USER, "ada")
    robot = Principal(Kind.ROBOT, "admin", grants=ACCESS)
    bound = Principal(Kind.USER, "admin", bounds=ACCESS)
    assert scene.gate.decide(admin, Action.ADMIN, None).allowed
    assert not scene.gate.decide(ada, Action.PULL, "acme/shop").allowed
    assert not scene.gate.decide(ANONYMOUS, Action.PULL, "acme/shop").allowed
    assert scene.gate.decide(robot, Action.PULL, "acme/shop").allowed
    assert not scene.gate.decide(robot, Action.PUSH, "acme/shop").allowed
    assert scene.gate.decide(bound, Action.PULL, "acme/shop").allowed
    assert not scene.gate.decide(bound, Action.PULL, "acme/other").allowed


async def test_no_secret_gets_into_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    _, secret = await scene.robots.create("ci", ACCESS, life=None)
    with structlog.testing.capture_logs() as told:
        await scene.who(basic("ada", PASSWORD))
        await scene.refused(basic("ada", f"{PASSWORD} wrong"))
        await scene.who(f"Bearer {secret}")
        await scene.refused(f"Bearer {secret}x")
    said = f"{told}{caplog.text}{capsys.readouterr()}"
    for canary in (PASSWORD, secret, secret[17:], GOOD):
        assert canary not in said
