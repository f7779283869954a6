"""What clients ask the token service when somebody signs in, pulls, pushes and copies.

In front of the registry is no more than the challenges of the specification of tokens, so what is
found here is what clients make of those, and of our answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.auth.scope import Grant
from tests.clients.test_engines import ENGINES, Engine, started
from tests.layouts import Layout
from tests.registry.auth.front import Asked
from tests.registry.auth.house import Site, site
from tests.tools import require, run

Words = list[str | Path]
USER, PASSWORD = "ada", "correct horse"

SHOP, COPY = "acme/shop", "acme/copy"


@dataclass(frozen=True)
class Client:
    program: str
    commands: Callable[[str, Path], list[Words]]
    """Given HOST and a directory: sign in, pull acme/shop:v1, push or copy it to acme/copy:v1."""
    asked: list[str]
    """Requests for tokens, among others: how they are asked for, and their scopes."""


CLIENTS = [
    Client(
        "oras",
        lambda host, home: [
            ["oras", "login", "--plain-http", "-u", USER, "-p", PASSWORD, host],
            ["oras", "manifest", "fetch", "--plain-http", f"{host}/{SHOP}:v1"],
            [
                *("oras", "cp", "--from-plain-http", "--to-plain-http"),
                *(f"{host}/{SHOP}:v1", f"{host}/{COPY}:v1"),
            ],
        ],
        [
            "GET Basic",
            "GET Basic repository:acme/shop:pull",
            "GET Basic repository:acme/copy:pull,push repository:acme/shop:pull",
        ],
    ),
    Client(
        "crane",
        lambda host, home: [
            ["crane", "auth", "login", "--insecure", host, "-u", USER, "-p", PASSWORD],
            ["crane", "manifest", "--insecure", f"{host}/{SHOP}:v1"],
            ["crane", "copy", "--insecure", f"{host}/{SHOP}:v1", f"{host}/{COPY}:v1"],
        ],
        [
            "GET Basic repository:acme/shop:pull",
            "GET Basic repository:acme/copy:push,pull",
            "GET Basic repository:acme/copy:push,pull repository:acme/shop:pull",
        ],
    ),
    Client(
        "regctl",
        lambda host, home: [
            ["regctl", "registry", "set", "--tls", "disabled", "--skip-check", host],
            ["regctl", "registry", "login", host, "-u", USER, "-p", PASSWORD],
            ["regctl", "image", "copy", f"{host}/{SHOP}:v1", f"{host}/{COPY}:v1"],
        ],
        [
            "GET Basic",
            "GET Basic repository:acme/copy:pull",
            "GET Basic repository:acme/copy:pull,push repository:acme/shop:pull",
        ],
    ),
    Client(
        "helm",
        lambda host, home: [
            [
                *("helm", "registry", "login", "--plain-http", host),
                *("--username", USER, "--password", PASSWORD),
            ],
        ],
        ["POST password"],
    ),
    Client(
        "skopeo",
        lambda host, home: [
            [
                *("skopeo", "login", "--tls-verify=false", "-u", USER, "-p", PASSWORD),
                *("--authfile", home / "auth.json", host),
            ],
            [
                *("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"),
                *("--authfile", home / "auth.json"),
                *(f"docker://{host}/{SHOP}:v1", f"docker://{host}/{COPY}:v1"),
            ],
            [
                *("skopeo", "delete", "--tls-verify=false", "--authfile", home / "auth.json"),
                f"docker://{host}/{COPY}:v1",
            ],
        ],
        [
            "GET Basic",
            "GET Basic repository:acme/shop:pull",
            "GET Basic repository:acme/copy:pull,push",
            "GET Basic repository:acme/copy:*",
        ],
    ),
]


def shown(asked: Asked) -> str:
    fields = dict(asked.fields)
    scopes = [value for name, value in asked.fields if name == "scope"]
    how = fields["grant_type"] if asked.method == "POST" else asked.authorization
    assert fields["service"] == "spindle"
    offline = "offline" if "true" in fields.get("offline_token", "") else ""
    return " ".join(filter(None, [asked.method, how, offline, *scopes]))


def host(here: Site) -> str:
    return here.url.removeprefix("http://")


@pytest.fixture(params=[False])
async def here(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """With an image in acme/shop, and a home in which nobody has signed in yet."""
    require("skopeo")
    layout = Layout(tmp_path / "in")
    layout.tag(layout.filesystem(seed=3), "v1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "home" / "docker"))
    (tmp_path / "home").mkdir()
    async with site(tmp_path, front=True, refreshes=request.param) as made:
        made.clock.now = time.time()  # some clients compare with theirs
        await asyncio.to_thread(
            run,
            *("skopeo", "copy", "--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}"),
            *(f"oci:{layout.directory}:v1", f"docker://{host(made)}/{SHOP}:v1"),
        )
        made.asked.clear()
        yield made


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
async def test_a_client_signs_in_pulls_and_pushes(
    client: Client, here: Site, tmp_path: Path
) -> None:
    require(client.program)
    for command in client.commands(host(here), tmp_path):
        await asyncio.to_thread(run, *command)
    assert set(client.asked) <= set(map(shown, here.asked))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
async def test_a_client_is_told_that_a_password_is_wrong(
    client: Client, here: Site, tmp_path: Path
) -> None:
    require(client.program)
    here.house.passwords[USER] = "another"
    told = ""
    for command in client.commands(host(here), tmp_path):
        try:
            await asyncio.to_thread(run, *command)
        except pytest.fail.Exception as failure:
            told = str(failure)
            break
    words = ("the user name or the password is wrong", "nauthorized", "invalid username/password")
    assert any(word in told for word in words), told


def engine(program: str) -> Engine:
    [found] = [one for one in ENGINES if one.program == program]
    for name in found.needs:
        require(name)
    return found


@pytest.mark.parametrize(
    ("here", "by"), [(True, "POST refresh_token"), (False, "GET Basic")], indirect=["here"]
)
async def test_docker_signs_in_and_pulls(here: Site, by: str) -> None:
    """It asks for a token to keep in the place of the password, and takes no for an answer."""
    with started(engine("docker")) as command:
        login: Words = ["login", "-u", USER, "-p", PASSWORD, host(here)]
        assert "Login Succeeded" in await asyncio.to_thread(command, login)
        await asyncio.to_thread(command, ["pull", f"{host(here)}/{SHOP}:v1"])
    told = list(dict.fromkeys(map(shown, here.asked)))
    assert told == ["GET Basic offline", f"{by} repository:acme/shop:pull"]


async def test_containerd_posts_the_password(here: Site) -> None:
    with started(engine("ctr-2")) as command:
        await asyncio.to_thread(
            command,
            [
                *("images", "pull", "--plain-http", "--snapshotter", "native", "--local"),
                *("--user", f"{USER}:{PASSWORD}", f"{host(here)}/{SHOP}:v1"),
            ],
        )
    assert shown(here.asked[0]) == "POST password repository:acme/shop:pull"


async def test_the_crate_of_spin_asks_without_a_name_where_nobody_signed_in(here: Site) -> None:
    require("oci-client")
    here.house.rights["anonymous"] = [Grant.parse("acme/*", ["pull"])]
    told = await asyncio.to_thread(run, "oci-client", "tags", f"{host(here)}/{SHOP}")
    assert told.split() == ["v1"]
    assert set(map(shown, here.asked)) == {"GET repository:acme/shop:pull"}
