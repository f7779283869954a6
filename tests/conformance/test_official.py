"""The conformance program that the specification comes with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance import official, older
from tests.conformance.official import EDITIONS, SERVERS, STRICT, Counts
from tests.servers import Spindle
from tests.tools import require


@pytest.fixture(scope="module")
def program() -> Path:
    return Path(require("conformance"))


@pytest.fixture(scope="module")
def server(
    program: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Spindle]:
    data = tmp_path_factory.mktemp("official") / "data"
    with SERVERS[request.param](data) as running:
        yield running


# Signed in, the other editions are for scripts/conformance.
RUNS = [
    (server, edition, attempt)
    for server in SERVERS
    for edition in EDITIONS
    for attempt in ("first", "again")
    if server in ("one process", "two workers") or (edition, attempt) == ("strict", "first")
]


@pytest.mark.parametrize(("server", "edition", "attempt"), RUNS, indirect=["server"])
def test_everything_passes_and_nothing_is_skipped(
    program: Path, server: Spindle, tmp_path: Path, edition: str, attempt: str
) -> None:
    """Also over what an earlier run left behind, be it of another version."""
    counts = official.run(program, server, tmp_path, EDITIONS[edition])
    assert EDITIONS[edition].met_by(counts), f"{counts}\n{counts.odd}"


def test_the_strict_run_has_all_the_tests_there_are() -> None:
    assert (STRICT.total, STRICT.disabled) == (1032, 0)


_PERFECT = Counts(1032, 1032, 0, 0, 0, 0, ())


@pytest.mark.parametrize(
    "counts",
    [
        replace(_PERFECT, total=1031, passed=1031),
        replace(_PERFECT, passed=1031, skipped=1),
        replace(_PERFECT, passed=1031, disabled=1, odd=("a",)),
        replace(_PERFECT, passed=1031, failed=1),
        replace(_PERFECT, passed=1031, errors=1),
        replace(_PERFECT, odd=("a",)),
    ],
    ids=["too few", "skipped", "disabled", "failed", "error", "counted as passed"],
)
def test_a_run_with_one_test_amiss_does_not_do(counts: Counts) -> None:
    assert STRICT.met_by(_PERFECT)
    assert not STRICT.met_by(counts)


_OLDER = older.Outcome(80, older.ALTERNATIVES, frozenset())


@pytest.mark.parametrize(
    "outcome",
    [
        replace(_OLDER, total=79),
        replace(_OLDER, skipped=older.ALTERNATIVES | {"another"}),
        replace(_OLDER, skipped=frozenset()),
        replace(_OLDER, failed=frozenset({"one"})),
    ],
    ids=["too few", "skipped", "other alternatives", "failed"],
)
def test_a_run_of_the_older_suite_with_one_test_amiss_does_not_do(outcome: older.Outcome) -> None:
    assert _OLDER.met
    assert not outcome.met
