"""The short form of `scripts/fuzz`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import fuzz
from tests.fuzz import Kind, Outcome, strays
from tests.fuzzing.corpus import Mutator


def test_whatever_is_sent_is_taken_or_refused_in_our_own_words(tmp_path: Path) -> None:
    outcomes = list(fuzz.run(20_000, 1, tmp_path))
    assert [failure for outcome in outcomes for failure in outcome.failures] == []
    assert sum(outcome.taken + outcome.refused for outcome in outcomes) == 20_000
    for outcome in outcomes:  # else it would have tried one side only
        assert outcome.taken > 50, outcome
        assert outcome.refused > 50, outcome


def test_a_seed_gives_the_same_inputs_again() -> None:
    first, again = (Mutator(random.Random("7")) for _ in range(2))
    for kind in fuzz.KINDS:
        assert [kind.make(first) for _ in range(50)] == [kind.make(again) for _ in range(50)]


def _tried(check: object) -> Outcome:
    assert callable(check)
    return fuzz.fuzz(Kind("odd", 100, lambda _: "x", check), 1, 0)


def test_an_exception_that_was_not_declared_is_a_failure() -> None:
    assert _tried(lambda text: text[5]).failures


def test_an_error_that_blames_ourselves_is_a_failure() -> None:
    assert _tried(lambda _: fuzz.refused(OSError())).failures


def test_what_takes_too_long_twice_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "LIMIT", -1.0)
    assert _tried(lambda _: True).failures


def test_a_file_that_is_not_where_the_data_has_its_own_is_found(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b" / "data"
    expected = data / "blobs" / "sha256" / "ab" / ("ab" * 32)
    odd = [tmp_path / "x", data.parent / "x", data / "x", expected.with_name("x")]
    for path in [expected, *odd]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(strays(tmp_path)) == sorted(odd)
