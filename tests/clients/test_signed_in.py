"""Clients where one has to sign in: who may, with everything; who may not, with nothing.

Each client is driven by its own commands, in a home of its own (see hands). What a client says of
a refusal is its own affair, but a person must be able to tell from it what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.clients.hands import (
    HANDS,
    IMAGE,
    MANIFEST,
    SIGNERS,
    Ctr,
    Ctr2,
    Curl,
    Docker,
    Engines,
    Hand,
)
from tests.clients.proxy import Exchange, Proxy
from tests.layouts import OCI_IMAGE
from tests.servers import SPINDLE, get, wait_for
from tests.signed_in import OWNER, STRANGER, SignedIn, basic

Arrive: TypeAlias = Callable[..., Hand]

WRONG: Final = re.compile("password is wrong|invalid username/password|unauthorized|401", re.I)
UNSIGNED: Final = re.compile(
    "sign in first|unauthorized|401|no basic auth credentials|basic credential not found", re.I
)
DENIED: Final = re.compile("may not|denied|forbidden|403", re.I)
REVOKED: Final = re.compile("token is not valid|unauthorized|401|requires a token", re.I)


def serving(data: Path, challenge: str) -> SignedIn:
    return SignedIn(data, "--set", "log.format=json", challenge=challenge)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    """One for all. Each client has a user of its own besides, that has the owner's password.

    Wrong passwords are counted by user, and who is wrong too often has to wait.
    """
    with serving(tmp_path_factory.mktemp("bearer") / "data", "bearer") as running:
        users = running.data / "htpasswd"
        hashed = re.findall(rf"^{OWNER[0]}:(.+)$", users.read_text(), re.MULTILINE)[0]
        with users.open("a") as file:
            file.writelines(f"{hand.program}:{hashed}\n" for hand in (*HANDS, *SIGNERS))
        yield running


@pytest.fixture(scope="module")
def asking_for_basic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    with serving(tmp_path_factory.mktemp("basic") / "data", "basic") as running:
        yield running


@pytest.fixture(scope="module")
def engines() -> Iterator[Engines]:
    with ExitStack() as stack:
        yield Engines(stack)


@pytest.fixture(params=HANDS, ids=lambda hand: hand.program)
def client(request: pytest.FixtureRequest) -> type[Hand]:
    found: type[Hand] = request.param
    return found


@pytest.fixture
def arrive(server: SignedIn, engines: Engines, tmp_path: Path) -> Arrive:
    """Somebody with that client, in a new home, who may have signed in."""

    def arrived(
        client: type[Hand], user: tuple[str, str] | None = None, registry: str = ""
    ) -> Hand:
        home = tmp_path / f"home-{len(list(tmp_path.iterdir()))}"
        hand = client.of(home, registry or server.registry, engines)
        if user is not None:
            hand.login(user)
        return hand

    return arrived


def pushed(server: SignedIn, repository: str) -> bool:
    """Whether there is anything at all in it."""
    status, _ = server.get(f"/v2/{repository}/tags/list")
    assert status in (200, 404)
    return status == 200


def test_the_owner_signs_in_and_pushes_pulls_lists_copies_and_deletes(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    mine, copy = f"shop/{client.program}", f"acme/copy-{client.program}"
    hand = arrive(client, OWNER)
    hand.push(mine)
    assert pushed(server, mine)
    hand.pull(mine)
    if client.lists:
        assert "v1" in hand.tags(mine)
    if client.copies:
        hand.copy(mine, copy)
        hand.pull(copy)
    if client.deletes:
        hand.delete(mine)
        hand.pull(mine, ok=False)
        assert server.get(f"/v2/{mine}/manifests/v1")[0] == 404


def test_a_wrong_password_is_refused_and_nothing_is_pushed_with_it(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    """Those that ask at their login say so then, the others at the first request."""
    arrive(client, (client.program, OWNER[1]))
    mine = f"shop/wrong-{client.program}"
    hand = arrive(client)
    said = hand.login((client.program, "not the password"), ok=not client.asks)
    if not client.asks:
        said = hand.push(mine, ok=False)
    assert WRONG.search(said), said
    hand.push(mine, ok=False)
    assert not pushed(server, mine)


def test_who_did_not_sign_in_pulls_what_is_public_and_nothing_else(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    public, mine = f"public/{client.program}", f"shop/hidden-{client.program}"
    owner = arrive(client, OWNER)
    owner.push(public)
    owner.push(mine)
    anybody = arrive(client)
    anybody.pull(public)
    said = anybody.pull(mine, ok=False)
    assert UNSIGNED.search(said), said
    said = anybody.push(f"{public}-new", ok=False)
    assert UNSIGNED.search(said), said
    assert not pushed(server, f"{public}-new")


def test_a_stranger_is_told_that_what_is_somebody_elses_is_not_for_him(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    public, mine = f"public/s-{client.program}", f"shop/s-{client.program}"
    owner = arrive(client, OWNER)
    owner.push(public)
    owner.push(mine)
    stranger = arrive(client, STRANGER)
    stranger.pull(public)
    for said in (
        stranger.pull(mine, ok=False),
        stranger.push(f"{mine}-new", ok=False),
        stranger.push(f"{public}-new", ok=False),
    ):
        assert DENIED.search(said), said
    assert not pushed(server, f"{mine}-new")
    assert not pushed(server, f"{public}-new")


def spindle(server: SignedIn, *words: str) -> str:
    command = [SPINDLE, *words, "--data", server.data]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_robot_pushes_and_pulls_where_it_may_until_it_is_revoked(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    """Its secret is a password, whatever the user is called beside it."""
    name, mine = f"{client.program}-ci", f"acme/{client.program}"
    words = ("token", "create", name, "--repository", "acme/*", "--allow", "pull,push")
    [secret] = re.findall(r"spt_[\w-]+", spindle(server, *words))
    robot = arrive(client, (f"of-{client.program}", secret))
    robot.push(mine)
    robot.pull(mine)
    if client.lists:
        assert "v1" in robot.tags(mine)
    said = robot.push(f"shop/robot-{client.program}", ok=False)
    assert DENIED.search(said), said
    assert not pushed(server, f"shop/robot-{client.program}")
    if client.deletes:
        robot.delete(mine, ok=False)
        assert server.get(f"/v2/{mine}/manifests/v1")[0] == 200

    spindle(server, "token", "revoke", name)

    said = robot.pull(mine, ok=False)
    assert REVOKED.search(said), said
    robot.push(f"{mine}-new", ok=False)
    assert not pushed(server, f"{mine}-new")


def token(server: SignedIn, *scopes: str) -> str:
    asked = "&".join(["service=spindle", *(f"scope={scope}" for scope in scopes)])
    status, body = server.get(f"/auth/token?{asked}")
    assert status == 200, body
    return str(json.loads(body)["token"])


def forget(server: SignedIn) -> None:
    """All tokens; every process of the server looks for that once a second."""
    mine = {"Authorization": f"Bearer {token(server)}"}
    url = f"http://{server.registry}/v2/"
    assert get(url, headers=mine)[0] == 200
    spindle(server, "key", "rotate", "--now")
    wait_for(lambda: get(url, headers=mine)[0] == 401, "the token to be forgotten")


class Forgetting(Proxy):
    """At the third request with a token, the server forgets the keys of all tokens."""

    def __init__(self, server: SignedIn) -> None:
        super().__init__(server.registry)
        self.server = server
        self.forgot = False
        self._once = threading.Lock()

    def _due(self, side: int, said: int) -> bool:
        with self._once:
            if not self.forgot and len(self._shown()) >= 3:
                forget(self.server)
                self.forgot = True
        return False

    def _shown(self) -> list[Exchange]:
        return [
            asked
            for asked in self.exchanges
            if asked.headers.get("authorization", "").lower().startswith("bearer ")
        ]

    def refused(self) -> list[Exchange]:
        """Requests with a token that was not valid any more."""
        return [asked for asked in self._shown() if asked.status == 401]


RENEWING: Final = {"oras", "crane", "regctl", "ctr", "ctr-2", "helm"}
"""The others give up at a token that was refused, and say so."""


@pytest.mark.parametrize(
    "client",
    [hand for hand in HANDS if hand.program not in ("oras-py", "curl")],
    ids=lambda hand: hand.program,
)
def test_a_push_whose_token_becomes_invalid_midway_goes_on_or_succeeds_at_the_next_run(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    """oras-py pushes without tokens; of curl there is a test below."""
    mine = f"shop/forgotten-{client.program}"
    with Forgetting(server) as proxy:
        hand = arrive(client, OWNER, proxy.registry)
        said = hand.push(mine, ok=client.program in RENEWING)
        assert proxy.refused() != []
        if client.program not in RENEWING:
            assert UNSIGNED.search(said), said
            assert not pushed(server, mine)
            hand.push(mine)
    assert pushed(server, mine)


@pytest.mark.parametrize(
    "client",
    [hand for hand in HANDS if hand.program != "oras-py"],
    ids=lambda hand: hand.program,
)
def test_where_basic_is_asked_for_the_same_is_allowed_and_refused(
    client: type[Hand], asking_for_basic: SignedIn, arrive: Arrive
) -> None:
    """oras-py has to be told beforehand what it will be asked for."""
    server = asking_for_basic
    mine, public = f"shop/{client.program}", f"public/{client.program}"
    owner = arrive(client, OWNER, server.registry)
    owner.push(mine)
    owner.push(public)
    owner.pull(mine)
    anybody = arrive(client, None, server.registry)
    # Docker asks for /v2/ first, and gives up at a Basic challenge if it knows no password.
    anybody.pull(public, ok=client is not Docker)
    said = anybody.pull(mine, ok=False)
    assert UNSIGNED.search(said), said
    stranger = arrive(client, STRANGER, server.registry)
    said = stranger.pull(mine, ok=False)
    assert DENIED.search(said), said
    said = anybody.push(f"{public}-new", ok=False)
    assert UNSIGNED.search(said), said
    assert not pushed(server, f"{public}-new")


@pytest.fixture(params=SIGNERS, ids=lambda hand: hand.program)
def signer(request: pytest.FixtureRequest) -> type[Hand]:
    found: type[Hand] = request.param
    return found


def put_image(server: SignedIn, repository: str) -> None:
    """Something to sign."""
    url = f"http://{server.registry}/v2/{repository}"
    empty = f"{url}/blobs/uploads/?digest=sha256:{hashlib.sha256(b'{}').hexdigest()}"
    headers = {**server.headers, "Content-Type": "application/octet-stream"}
    assert get(empty, method="POST", data=b"{}", headers=headers)[0] == 201
    headers["Content-Type"] = OCI_IMAGE
    assert get(f"{url}/manifests/v1", method="PUT", data=MANIFEST, headers=headers)[0] == 201


def signed(server: SignedIn, repository: str) -> bool:
    """Whether there is a signature of any kind, by a tag or a referrer."""
    tags = json.loads(server.get(f"/v2/{repository}/tags/list")[1])["tags"]
    referrers = json.loads(server.get(f"/v2/{repository}/referrers/{IMAGE}")[1])["manifests"]
    return tags != ["v1"] or referrers != []


def test_a_signature_is_made_by_the_owner_and_verified_by_who_may_pull(
    signer: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    mine, public = f"shop/{signer.program}", f"public/{signer.program}"
    for repository in (mine, public):
        put_image(server, repository)
    anybody, stranger = arrive(signer), arrive(signer, STRANGER)
    for hand, refusal in ((anybody, UNSIGNED), (stranger, DENIED)):
        for repository in (mine, public):
            said = hand.push(repository, ok=False)
            assert refusal.search(said), said
            assert not signed(server, repository)

    owner = arrive(signer, OWNER)
    for repository in (mine, public):
        owner.push(repository)
        assert signed(server, repository)

    owner.pull(mine)
    for hand, refusal in ((anybody, UNSIGNED), (stranger, DENIED)):
        hand.pull(public)
        said = hand.pull(mine, ok=False)
        assert refusal.search(said), said


def test_a_signer_is_told_that_its_password_is_wrong(
    signer: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    mine = f"shop/wrong-{signer.program}"
    put_image(server, mine)
    hand = arrive(signer)
    said = hand.login((signer.program, "not the password"), ok=not signer.asks)
    if not signer.asks:
        said = hand.push(mine, ok=False)
    assert "the user name or the password is wrong" in said
    assert not signed(server, mine)


def test_a_robot_signs_where_it_may_until_it_is_revoked(
    signer: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    name, mine, other = f"{signer.program}-ci", f"acme/{signer.program}", f"shop/{signer.program}-r"
    for repository in (mine, other):
        put_image(server, repository)
    words = ("token", "create", name, "--repository", "acme/*", "--allow", "pull,push")
    [secret] = re.findall(r"spt_[\w-]+", spindle(server, *words))
    robot = arrive(signer, ("anything", secret))
    robot.push(mine)
    robot.pull(mine)
    said = robot.push(other, ok=False)
    assert DENIED.search(said), said
    assert not signed(server, other)

    spindle(server, "token", "revoke", name)

    said = robot.pull(mine, ok=False)
    assert REVOKED.search(said), said


@pytest.mark.parametrize("client", [Ctr, Ctr2], ids=lambda hand: hand.program)
def test_containerd_gets_its_tokens_by_a_post(
    client: type[Hand], server: SignedIn, arrive: Arrive
) -> None:
    """And by a GET only without a password (OAuth2 form of distribution's token specification)."""
    with Proxy(server.registry) as proxy:
        hand = arrive(client, OWNER, proxy.registry)
        hand.push(f"shop/post-{client.program}")
        assert {asked.status for asked in proxy.said("POST", "^/auth/token")} == {200}
        assert proxy.said("GET", "^/auth/token") == []
        # A name of its own: another test was wrong as `client.program`, and waits get longer.
        hand = arrive(client, (f"{client.program}-post", "not the password"), proxy.registry)
        hand.push(f"shop/post-{client.program}", ok=False)
        # Refused as RFC 6749 wants it, it tries the other form: one password, two attempts.
        assert proxy.said("POST", "^/auth/token")[-1].status == 400
        assert {asked.status for asked in proxy.said("GET", "^/auth/token")} == {401}


def test_docker_mounts_what_it_pulled_from_another_repository_of_the_same_owner(
    server: SignedIn, arrive: Arrive
) -> None:
    with Proxy(server.registry) as proxy:
        hand = arrive(Docker, OWNER, proxy.registry)
        hand.push("shop/mount-from")
        hand.copy("shop/mount-from", "acme/mount-to")
        mounts = proxy.said("POST", "/acme/mount-to/.*[?&]mount=")
        uploads = proxy.said("PATCH", "/acme/mount-to/")
    assert [asked.status for asked in mounts if "from=" in asked.target][-2:] == [201, 201]
    assert len(uploads) == 1  # the config, which it always uploads


def test_a_token_is_refused_once_the_keys_are_forgotten_and_the_next_one_is_taken(
    server: SignedIn, arrive: Arrive
) -> None:
    curl = arrive(Curl, OWNER)
    assert isinstance(curl, Curl)
    curl.push("shop/bearer")

    def pulls(with_token: str, ok: bool = True) -> str:
        header = curl.home.directory / "header"
        header.write_text(f"Authorization: Bearer {with_token}\n")
        path = "/v2/shop/bearer/manifests/v1"
        return curl.ask(path, "--header", f"@{header}", "--include", ok=ok)

    old = token(server, "repository:shop/bearer:pull")
    pulls(old)
    forget(server)
    said = pulls(old, ok=False)
    assert "the token is not valid, or not any more; sign in again" in said
    assert 'scope="repository:shop/bearer:pull",error="invalid_token"' in said
    pulls(token(server, "repository:shop/bearer:pull"))


def test_what_spin_asks_at_its_login_is_answered(server: SignedIn) -> None:
    """`spin registry login` itself always uses HTTPS.

    It reads the challenge of GET /v2/, asks for a token with an empty scope, and takes nothing but
    the member `token`.
    """
    url = f"http://{server.registry}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/v2/")
    with refused.value as answer:
        assert answer.code == 401
        challenge = answer.headers["WWW-Authenticate"]
    parameters = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    assert challenge.startswith("Bearer ")
    address = f"{parameters['realm']}?service={parameters['service']}&scope="

    status, body = get(address, headers={"Authorization": basic(OWNER)})
    assert status == 200
    given = json.loads(body)["token"]
    assert given not in ("", "unauthenticated")
    assert get(f"{url}/v2/", headers={"Authorization": f"Bearer {given}"})[0] == 200

    status, body = get(address, headers={"Authorization": basic(("spin", "wrong"))})
    assert status == 401
    assert b"the user name or the password is wrong" in body
