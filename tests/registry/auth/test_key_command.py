"""`spindle key`, as it is called."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from registry.settings import SETTINGS
from storage.filesystem.layout import Layout
from tests.servers import SPINDLE


def key(data: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [SPINDLE, "key", *arguments, "--data", data], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


def rows(printed: str) -> list[list[str]]:
    """Each key, and the last word of what is said of it."""
    words = [line.split() for line in printed.splitlines()]
    return [[line[0], line[-1]] for line in words if len(line[0]) == 43]


def test_keys_are_listed_rotated_and_forgotten(tmp_path: Path) -> None:
    data = tmp_path / "data"
    Layout.open(data)
    [[first, use]] = rows(key(data, "list"))
    assert use == "signs"
    assert rows(key(data, "list")) == [[first, "signs"]]

    [[second, use], [old, _]] = rows(key(data, "rotate"))
    assert use == "moment"
    assert old == first != second

    printed = key(data, "rotate", "--now")
    [[third, use]] = rows(printed)
    assert use == "signs"
    assert third not in (first, second)
    assert "is invalid" in printed


def test_there_has_to_be_a_data_directory(tmp_path: Path) -> None:
    assert "no data directory" in key(tmp_path / "none", "list", status=2)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("auth.token_life", "299"), ("auth.token_life", "25h"), ("auth.key_life", "59min")],
)
def test_lives_of_tokens_and_keys_have_bounds(name: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not from"):
        SETTINGS[name].parse(wrong)


def test_five_minutes_are_enough_for_a_token() -> None:
    assert SETTINGS["auth.token_life"].parse("5min") == 300
