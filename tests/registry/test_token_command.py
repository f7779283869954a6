"""`spindle token`, beside whatever works on the same data directory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from registry.app import open_records
from registry.auth.scope import Action
from registry.config import load
from tests.servers import SPINDLE


def token(data: Path, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [SPINDLE, "token", *arguments, "--data", data, "--set", "limits.reserve=64KiB"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) is ok, done
    return done


async def test_a_token_is_made_used_and_revoked_beside_a_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    config = load(flags={"data": str(data), "limits.reserve": "64KiB"})
    async with open_records(config) as records:
        made = token(
            data,
            *("create", "ci", "--repository", "acme/*", "--repository", "shop/**"),
            *("--allow", "pull,push", "--expires", "90d"),
        )
        secret = made.stdout.strip()
        robot = await records.robots.of_secret(secret)
        assert robot
        assert robot.name == "ci"
        assert [str(grant.pattern) for grant in robot.grants] == ["acme/*", "shop/**"]
        assert {action for grant in robot.grants for action in grant.actions} == {
            Action.PULL,
            Action.PUSH,
        }
        assert robot.expires
        assert round((robot.expires - robot.created) / 86_400) == 90

        listed = token(data, "list").stdout
        assert robot.id in listed
        assert "pull, push acme/*; pull, push shop/**" in listed
        assert secret not in listed + made.stderr
        assert secret[17:] not in listed + made.stderr

        assert "ci" in token(data, "revoke", "ci").stdout
        assert await records.robots.of_secret(secret) is None
        assert "revoked" in token(data, "list").stdout


async def test_without_patterns_the_policy_decides(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token(data, "create", "ci", "--expires", "never")
    config = load(flags={"data": str(data), "limits.reserve": "64KiB"})
    async with open_records(config) as records:
        robot = (await records.robots.all())[0]
        assert robot.grants == ()
        assert robot.expires is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "a b"), "no name of a robot"),
        (("create", "ci", "--allow", "push"), "--allow needs a --repository"),
        (("create", "ci", "--repository", "Acme", "--allow", "push"), "no pattern"),
        (("create", "ci", "--repository", "acme/*", "--allow", "write"), "is no action"),
        (("create", "ci", "--repository", "acme/*", "--allow", ""), "is no action"),
        (("create", "ci", "--expires", "soon"), "is no time"),
        (("create", "ci", "--expires", "0d"), "is no time"),
        (("revoke", "ci"), "no valid token"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = token(tmp_path / "data", *arguments, ok=False)
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_nothing_to_list_says_how_to_make_one(tmp_path: Path) -> None:
    assert "spindle token create" in token(tmp_path / "data", "list").stdout
