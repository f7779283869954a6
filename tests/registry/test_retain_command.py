"""`spindle retain`, and the rules in a running server."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.asgi import CONFIG, IMAGE, LAYER, digest_of, image
from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import run

OF_IMAGES = {"Content-Type": IMAGE}
RULES = """
[[retention]]
repositories = ["acme/*"]
keep_last = 1
keep_tags = ["v*"]
{more}

[[immutable]]
repositories = ["acme/*"]
tags = ["v1"]
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES.format(more=""))
    return file


def push(server: Spindle, reference: str, note: str) -> str:
    """An image with one layer; returns its digest."""
    repository, tag = reference.split(":")
    layer = f"layer {note}".encode()
    for data in (b"{}", layer):
        url = f"http://{server.registry}/v2/{repository}/blobs/uploads/?digest={digest_of(data)}"
        assert get(url, method="POST", data=data)[0] == 201
    body = image(
        config={"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2},
        layers=[{"mediaType": LAYER, "digest": digest_of(layer), "size": len(layer)}],
    )
    url = f"http://{server.registry}/v2/{repository}/manifests/{tag}"
    assert get(url, method="PUT", data=body, headers=OF_IMAGES)[0] == 201
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def tags(server: Spindle, repository: str) -> list[str]:
    status, body = get(f"http://{server.registry}/v2/{repository}/tags/list")
    assert status == 200
    found: list[str] = json.loads(body)["tags"]
    return found


def test_it_tells_what_would_go_and_why_and_then_lets_it_go_beside_the_server(
    tmp_path: Path, rules: Path
) -> None:
    data = tmp_path / "data"
    command = [SPINDLE, "retain", "--config", rules, "--data", data]
    with Spindle(data) as server:
        old = push(server, "acme/shop:old", "old")
        v2 = push(server, "acme/shop:v2", "v2")
        push(server, "acme/shop:new", "new")
        push(server, "other/shop:old", "old")
        push(server, "other/shop:new", "new")

        told = run(*command, "--dry-run")
        assert f"goes   acme/shop:old  {old}  moved " in told
        assert " ago, not one of the 1 moved last, not named v*\n" in told
        assert "1 of 3 tags would go" in told
        assert "acme/shop: nothing becomes free, for untagged manifests stay for ever" in told
        assert "acme/shop:v2" not in told
        assert tags(server, "acme/shop") == ["new", "old", "v2"]

        everything = run(*command, "--dry-run", "--all")
        assert f"stays  acme/shop:v2  {v2}  kept by v*" in everything
        assert "other/shop" not in everything
        of_it = run(*command, "--dry-run", "--all", "--repository", "other/shop")
        assert "stays  other/shop:old" in of_it
        assert "no rule looks at it" in of_it

        went = run(*command)
        assert f"went   acme/shop:old  {old}" in went
        assert went.endswith("1 tag went\n")
        assert tags(server, "acme/shop") == ["new", "v2"]
        assert tags(server, "other/shop") == ["new", "old"]
        assert run(*command) == "0 tags went\n"


def test_it_tells_how_much_becomes_garbage_where_the_untagged_go(
    tmp_path: Path, rules: Path
) -> None:
    rules.write_text(RULES.format(more='untagged = "7d"'))
    data = tmp_path / "data"
    with Spindle(data) as server:
        for note in ("old", "new"):
            push(server, f"acme/shop:{note}", note)
        told = run(SPINDLE, "retain", "--config", rules, "--data", data, "--dry-run")
    # The layer; the config is that of the other one too.
    assert "acme/shop: at least 1 manifests and 9 bytes of blobs become garbage" in told


def test_a_server_keeps_to_the_rules_and_says_so(tmp_path: Path, rules: Path) -> None:
    with Spindle(
        tmp_path / "data", "--config", str(rules), "--set", "collect.interval=0.05"
    ) as server:
        digest = push(server, "acme/shop:v1", "v1")
        push(server, "acme/shop:a", "a")
        push(server, "acme/shop:b", "b")
        wait_for(lambda: tags(server, "acme/shop") == ["b", "v1"], "the tag to go")
        wait_for(lambda: "tag removed by retention" in server.log.read_text(), "it to be said")
        # What is immutable is so in all of its processes.
        url = f"http://{server.registry}/v2/acme/shop/manifests/v1"
        other = image(annotations={"an": "other"})
        assert get(url, method="PUT", data=other, headers=OF_IMAGES)[0] == 409
        assert get(url, method="DELETE")[0] == 409
        assert get(f"http://{server.registry}/v2/acme/shop/manifests/{digest}")[0] == 200


def test_the_tag_that_an_application_runs_from_stays_and_it_is_told_why(
    tmp_path: Path, rules: Path
) -> None:
    data = tmp_path / "data"
    with Spindle(data, "--config", str(rules), "--set", "collect.interval=0.05") as server:
        run(SPINDLE, "demo", "--server", f"http://{server.registry}", timeout=180)
        [running] = tags(server, "acme/hello")
        push(server, "acme/hello:a", "a")
        push(server, "acme/hello:b", "b")
        wait_for(lambda: tags(server, "acme/hello") == ["b", running], "the other tag to go")
        told = run(SPINDLE, "retain", "--config", rules, "--data", data, "--dry-run", "--all")
        assert f"stays  acme/hello:{running}" in told
        assert "app acme/hello needs it: revision 1 is live" in told
        assert server.ask("hello.acme.localhost") == (200, b"Hello from Spindle\n")


def test_of_two_that_push_to_two_processes_at_once_one_wins(tmp_path: Path, rules: Path) -> None:
    rules.write_text('[[immutable]]\nrepositories = ["**"]\ntags = ["*"]\n')
    with (
        Spindle(tmp_path / "data", "--config", str(rules), "--workers", "2") as server,
        ThreadPoolExecutor(2) as pushers,
    ):
        bodies = [image(annotations={"by": who}) for who in ("alice", "bob")]
        push(server, "acme/shop:first", "the blobs")
        for number in range(20):
            url = f"http://{server.registry}/v2/acme/shop/manifests/v{number}"

            def put(body: bytes, url: str = url) -> int:
                return get(url, method="PUT", data=body, headers=OF_IMAGES)[0]

            statuses = list(pushers.map(put, bodies))
            assert sorted(statuses) == [201, 409]
            assert get(url)[1] == bodies[statuses.index(201)]


def test_the_untagged_go_as_their_rule_says(tmp_path: Path, rules: Path) -> None:
    rules.write_text(RULES.format(more="untagged = 0.1"))
    at_once = ("--set", "collect.interval=0.05", "--set", "collect.grace=0.1")
    with Spindle(tmp_path / "data", "--config", str(rules), *at_once) as server:
        push(server, "other/shop:a", "a")
        url = f"http://{server.registry}/v2/other/shop/manifests"
        assert get(f"{url}/a", method="DELETE")[0] == 202
        kept = push(server, "other/shop:b", "a")
        push(server, "acme/shop:a", "a")
        push(server, "acme/shop:b", "b")
        log = server.log
        wait_for(lambda: '"manifests": 1' in log.read_text(), log.read_text)
        assert get(f"{url}/{kept}")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dry-run"], "there are no rules"),
        (["--config", "RULES", "--repository", "NO"], "is not a repository name"),
        (["--config", "RULES", "--repository", "nobody"], "nothing was ever pushed to nobody"),
    ],
)
def test_what_it_cannot_do_it_says_in_a_sentence(
    tmp_path: Path, rules: Path, arguments: list[str], reason: str
) -> None:
    words = [str(rules) if word == "RULES" else word for word in arguments]
    assert reason in run(SPINDLE, "retain", "--data", tmp_path / "data", *words, ok=False)
