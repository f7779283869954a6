"""The short form of `scripts/broken`; and that a break which goes unnoticed would be told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.broken import trial
from tests.broken.breaks import BREAKS, Break


def test_what_is_not_broken_is_green() -> None:
    """The control. That the copy is what was imported is checked for every run."""
    outcome = trial.unbroken()
    assert outcome.is_green, outcome


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_a_test_goes_red_when(broken: Break) -> None:
    outcome = trial.tried(broken)
    assert outcome.is_red, outcome


_BREAK = Break("odd", "storage/names.py", "re.compile", "", "tests/storage/test_names.py")


@pytest.mark.parametrize(
    ("old", "count"), [("no such text", 0), ("re.compile", 2)], ids=["gone", "twice"]
)
def test_a_break_that_does_not_apply_is_an_error(tmp_path: Path, old: str, count: int) -> None:
    (tmp_path / "storage").mkdir()
    names = tmp_path / "storage" / "names.py"
    names.write_bytes((trial.ROOT / "storage" / "names.py").read_bytes())
    with pytest.raises(ValueError, match=f"is {count} times"):
        replace(_BREAK, old=old).apply(tmp_path)


@pytest.mark.parametrize(
    "new",
    ["NAME_LENGTH = 255", "NAME_LENGTH =", "LENGTH = 255"],
    ids=["changes nothing", "is no Python", "raises in the tests"],
)
def test_a_break_that_no_assertion_fails_for_is_not_noticed(new: str) -> None:
    assert not trial.tried(replace(_BREAK, old="NAME_LENGTH = 255", new=new)).is_red


def test_a_run_of_another_tree_is_an_error() -> None:
    """Where the copy has nothing to import, what is installed would be tested instead."""
    with trial.copied() as tree:
        shutil.rmtree(tree / "registry")
        with pytest.raises(RuntimeError, match="and not the copy"):
            trial.run(tree, _BREAK.caught_by)
