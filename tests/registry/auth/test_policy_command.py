"""`spindle policy …`: the real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from registry.auth import policyfile
from registry.auth.policy import Policy, PolicyInvalid
from registry.auth.watch import FileRefused
from registry.config import load
from storage.filesystem.layout import Layout
from tests.servers import SPINDLE

MAIN = "workload:github:repo:zeta/x:ref:refs/heads/main"


def policy(*words: str, data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")}
    return subprocess.run(
        (SPINDLE, "policy", *words),
        env={**environment, "SPINDLE_DATA": str(data), **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the example in it, where no server ever was."""
    root = tmp_path_factory.mktemp("data")
    ended = policy("example", data=root)
    assert ended.returncode == 0
    (root / "policy.toml").write_text(ended.stdout)
    return root


def line(data: Path, text: str) -> int:
    """Of the first [[allow]] above a text of the example."""
    rows = (data / "policy.toml").read_text().splitlines()
    at = next(at for at, row in enumerate(rows) if text in row)
    return max(number for number, row in enumerate(rows[:at], 1) if row == "[[allow]]")


def test_the_example_is_accepted_by_check(data: Path) -> None:
    for words in (["check"], ["check", str(data / "policy.toml")]):
        ended = policy(*words, data=data)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.startswith(f"{data}/policy.toml is good")


def test_allowed_is_status_0_and_the_line(data: Path) -> None:
    ended = policy("explain", "anonymous", "pull", "public/x", data=data)
    number = line(data, 'anonymous"]')
    assert ended.stdout == f"allowed: {data}/policy.toml, line {number}\n"
    assert ended.returncode == 0


def test_denied_is_status_1(data: Path) -> None:
    ended = policy("explain", "user:ada", "push", "zeta/x", data=data)
    assert ended.returncode == 1
    assert ended.stdout == (
        f'denied: nothing in {data}/policy.toml allows "push" on zeta/x to user:ada\n'
        "user:ada is in shop\n"
    )


def test_what_belongs_to_no_repository(data: Path) -> None:
    assert policy("explain", "user:admin", "admin", data=data).returncode == 0
    ended = policy("explain", "anonymous", "pull", data=data)
    assert ended.returncode == 1
    assert "what belongs to no repository" in ended.stdout


def test_claims_of_a_workload(data: Path) -> None:
    claims = ["--claim", "repository=acme/shop", "--claim", "ref=refs/heads/main"]
    ended = policy("explain", MAIN, "deploy", "acme/shop", *claims, data=data)
    assert ended.stdout == f"allowed: {data}/policy.toml, line {line(data, 'claims =')}\n"
    assert policy("explain", MAIN, "deploy", "acme/shop", *claims[:2], data=data).returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody", "pull", "x"], "'nobody' is nobody; write user:NAME"),
        (["group:shop", "pull", "x"], "'group:shop' is nobody"),
        (["workload:github:*", "pull", "x"], "ask for somebody, without *"),
        (["user:ada", "pul", "x"], "'pul' is no action; there are pull"),
        (["user:ada", "pull", "../x"], "'../x' is not a repository name"),
        (["user:ada", "pull", "x", "--claim", "a=b"], "only workloads have claims"),
        (["workload:github:x", "pull", "x", "--claim", "a"], "--claim takes NAME=VALUE"),
    ],
)
def test_a_question_that_makes_no_sense_is_status_2(
    data: Path, words: list[str], said: str
) -> None:
    ended = policy("explain", *words, data=data)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_a_bad_policy_is_said_and_nothing_is_explained_by_it(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[grups]\n")
    said = f"spindle: {tmp_path}/policy.toml, line 1: there is no table 'grups'; did you mean"
    ended = policy("check", data=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(said)
    ended = policy("explain", "anonymous", "pull", "x", data=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(said)


def test_without_a_file_the_default_is_explained(tmp_path: Path) -> None:
    ended = policy("explain", "user:admin", "push", "x", data=tmp_path / "none")
    assert ended.returncode == 0
    assert "without one user:admin may do everything" in ended.stdout
    assert policy("explain", "user:ada", "pull", "x", data=tmp_path / "none").returncode == 1
    assert not (tmp_path / "none").exists()
    assert "cannot be read" in policy("check", data=tmp_path / "none").stderr


def test_a_file_that_the_settings_name_has_to_be_there(data: Path, tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    question = ("explain", "anonymous", "pull", "public/x")
    assert policy(*question, data=data, SPINDLE_AUTH_POLICY=str(named)).returncode == 2
    named.write_bytes((data / "policy.toml").read_bytes())
    ended = policy(*question, data=tmp_path, SPINDLE_AUTH_POLICY=str(named))
    assert ended.stdout.startswith(f"allowed: {named}, line ")


# As the server reads it

RULE = '[[allow]]\nwho = ["everyone"]\nrepository = ["**"]\nactions = ["pull"]\n'


def test_the_file_of_a_data_directory_is_where_the_layout_says(tmp_path: Path) -> None:
    config = load(flags={"data": str(tmp_path)})
    assert policyfile.path(config) == Layout(tmp_path).policy
    assert policyfile.load(config) is Policy.DEFAULT
    assert policyfile.watch(config).current() is Policy.DEFAULT
    Layout(tmp_path).policy.write_text(RULE)
    assert len(policyfile.load(config).lines) == 1
    assert policyfile.watch(config).current() == policyfile.load(config)


def test_a_server_does_not_start_with_a_bad_policy(tmp_path: Path) -> None:
    config = load(flags={"data": str(tmp_path)})
    file = policyfile.path(config)
    file.write_bytes(RULE.encode() + b"# gr\xfcn\n")
    with pytest.raises(PolicyInvalid, match=r"policy\.toml, line 5: this is not UTF-8"):
        policyfile.watch(config)
    file.unlink()
    file.symlink_to("nowhere")
    with pytest.raises(FileRefused, match="cannot be read"):
        policyfile.load(config)
    with pytest.raises(FileRefused, match="cannot be read"):
        policyfile.watch(config)


def test_a_named_file_that_is_missing_is_no_default(tmp_path: Path) -> None:
    config = load(flags={"data": str(tmp_path), "auth.policy": str(tmp_path / "none")})
    with capture_logs() as logs, pytest.raises(FileRefused, match="cannot be read"):
        policyfile.watch(config)
    assert logs == []
