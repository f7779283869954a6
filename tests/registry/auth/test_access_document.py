"""docs/access.md: its policy is one, and its answers are those that are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from registry.cli import command

DOCUMENT = (Path(__file__).parents[3] / "docs" / "access.md").read_text("utf-8")
POLICY, CONSOLE = re.findall(r"```(?:toml|console)\n(.*?)```", DOCUMENT, re.DOTALL)
ANSWERS = re.findall(r"^\$ (.*)\n(.*)$", CONSOLE, re.MULTILINE)


def test_there_are_answers_of_both_kinds() -> None:
    assert {answer.partition(":")[0] for _, answer in ANSWERS} == {"allowed", "denied"}
    assert len(ANSWERS) == CONSOLE.count("$ ")


@pytest.mark.parametrize(("question", "answer"), ANSWERS)
def test_the_answer_is_the_one_that_is_shown(
    question: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_text(POLICY)
    ended = CliRunner(env={"SPINDLE_AUTH_POLICY": "policy.toml"}).invoke(
        command, shlex.split(question)[1:]
    )
    assert ended.stdout.splitlines()[0] == answer
    assert ended.exit_code == (0 if answer.startswith("allowed") else 1)
