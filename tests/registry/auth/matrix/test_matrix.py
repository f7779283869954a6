"""Who may use which route, and who learns what from being refused."""

from __future__ import annotations

import asyncio
import difflib

import pytest

from registry import v2
from registry.permissions import Need
from tests.registry.auth.matrix.table import (
    ABSENT,
    BLIND,
    CALLERS,
    GOLDEN,
    HERE,
    METHODS,
    Answered,
    Cell,
    answers,
    rows,
    written,
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return asyncio.run(answers(tmp_path_factory.mktemp("matrix")))


def test_every_answer_is_the_one_that_was_agreed_on(cells: list[Cell]) -> None:
    assert len(cells) == len(rows()) * len(METHODS) * len(CALLERS) > 2000
    found, agreed = written(cells).splitlines(), GOLDEN.read_text().splitlines()
    changes = list(difflib.unified_diff(agreed, found, "agreed", "found", lineterm="", n=30))
    assert not changes, (
        "if these are meant, write them down by python -m tests.registry.auth.matrix:\n"
        + "\n".join(changes)
    )


def test_a_route_of_which_nothing_is_said_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    added = {"GET": v2.Route(Need.NOTHING, v2.BASE["GET"].handler)}
    monkeypatch.setattr(v2, "ADDED", added, raising=False)
    with pytest.raises(LookupError, match="ADDED"):
        rows()


@pytest.mark.parametrize("caller", BLIND)
def test_who_may_not_look_is_answered_alike_whatever_there_is(
    cells: list[Cell], caller: str
) -> None:
    """Status, headers and body, but for the name in the request."""
    by_route: dict[tuple[str, str, bool], list[str]] = {}
    for cell in cells:
        if cell.caller == caller and cell.row.state not in ("", "invalid", "no path"):
            # A body that was not read ends the connection, which an answer says.
            key = (cell.row.route, cell.method, cell.row.body != b"")
            by_route.setdefault(key, []).append(repr(_shape(cell.answer)))
    compared = 0
    for request, found in by_route.items():
        assert len(set(found)) == 1, request
        compared += len(found) - 1
    assert compared > 50


def _shape(answer: Answered) -> object:
    here, absent = HERE.encode(), ABSENT.encode()
    headers = [(name, value.replace(absent, here)) for name, value in answer.headers]
    return answer.status, headers, answer.body.replace(absent, here)


def test_who_may_not_look_gets_nothing_done(cells: list[Cell]) -> None:
    for cell in cells:
        if cell.caller in BLIND and "acme" in cell.row.target:
            assert cell.answer.status >= 400, (cell.method, cell.row.target, cell.caller)


def test_head_has_the_status_and_the_headers_of_get(cells: list[Cell]) -> None:
    by_place = {(cell.row, cell.caller, cell.method): cell.answer for cell in cells}
    for (row, caller, method), answer in by_place.items():
        if method == "HEAD":
            get = by_place[row, caller, "GET"]
            assert (answer.status, answer.headers) == (get.status, get.headers), (row, caller)


def test_nothing_is_read_of_what_is_refused(cells: list[Cell]) -> None:
    for cell in cells:
        if cell.answer.status == 401 or (
            cell.answer.status == 403 and b"overwrite in" not in cell.answer.body
        ):
            assert cell.answer.reads == 0, (cell.method, cell.row.target, cell.caller)
