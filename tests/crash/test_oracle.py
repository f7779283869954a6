"""The rule by which a sweep judges: which states a journal allows."""

from __future__ import annotations

import json

import pytest

from tests.crash import journal
from tests.crash.journal import Event, Kind, Request
from tests.crash.oracle import Thing, possible

BLOB = Thing("blob", "r", "a")
MANIFEST = Thing("manifest", "r", "a")
TAG = Thing("tag", "r", "latest")


def event(request: Request, began: int, ended: int | None, *, done: bool = True) -> Event:
    return Event(request, began, ended, done and ended is not None)


def blob(began: int, ended: int | None, *, done: bool = True) -> Event:
    return event(Request(Kind.BLOB, "r", "a"), began, ended, done=done)


def deleted(began: int, ended: int | None) -> Event:
    return event(Request(Kind.DELETE_BLOB, "r", "a"), began, ended)


def collected(began: int, ended: int | None) -> Event:
    return event(Request(Kind.COLLECT, "r", may=("a",)), began, ended)


def tagged(digest: str, began: int, ended: int | None) -> Event:
    return event(Request(Kind.MANIFEST, "r", digest, tags=("latest",)), began, ended)


def untagged(began: int, ended: int | None) -> Event:
    return event(Request(Kind.DELETE_TAG, "r", tags=("latest",)), began, ended)


def removed(digest: str, began: int, ended: int | None) -> Event:
    return event(Request(Kind.DELETE_MANIFEST, "r", digest), began, ended)


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ([blob(1, 2)], {"a"}),
        ([blob(1, None)], {"a", None}),
        ([blob(1, 2), deleted(3, 4)], {None}),
        ([blob(1, 2), deleted(3, None)], {"a", None}),
        ([blob(1, 2), deleted(3, 4), blob(5, None)], {"a", None}),
        ([blob(1, 4), deleted(2, 3)], {"a", None}),
        ([blob(1, 2), deleted(3, 4), blob(5, 6)], {"a"}),
        ([blob(1, 2), collected(3, 4)], {"a", None}),
        ([blob(1, 4), collected(2, 3)], {"a"}),
        ([blob(1, 2), collected(3, 6), blob(4, 5)], {"a"}),
        ([blob(1, 2), collected(3, 5), blob(4, None)], {"a", None}),
    ],
    ids=[
        *("acknowledged", "not answered", "deleted", "a delete not answered"),
        *("deleted, and a push not answered", "at the same time", "pushed again"),
        *("collected", "collected while it came", "collected while it came again"),
        "collected, and a push not answered",
    ],
)
def test_a_blob(events: list[Event], states: set[str | None]) -> None:
    assert possible(events)[BLOB] == states


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ([tagged("a", 1, 2), tagged("b", 3, 4)], {"b"}),
        ([tagged("a", 1, 2), tagged("b", 3, None)], {"a", "b"}),
        ([tagged("a", 1, 4), tagged("b", 2, 3)], {"a", "b"}),
        ([tagged("a", 1, 2), untagged(3, 4)], {None}),
        ([tagged("a", 1, 2), removed("a", 3, 4)], {None}),
        ([tagged("a", 1, 2), tagged("b", 3, 4), removed("a", 5, 6)], {"b"}),
        ([tagged("a", 1, 2), tagged("b", 3, 6), removed("a", 4, 5)], {"b", None}),
        ([tagged("a", 1, 2), tagged("b", 3, 4), removed("a", 5, None)], {"b"}),
    ],
    ids=[
        *("moved", "a move not answered", "moved by two at once", "deleted"),
        *("deleted with its manifest", "moved away before the manifest was deleted"),
        *("moved while the manifest was deleted", "moved before a delete not answered"),
    ],
)
def test_a_tag(events: list[Event], states: set[str | None]) -> None:
    assert possible(events)[TAG] == states


def test_what_was_refused_was_not_done() -> None:
    assert BLOB not in possible([blob(1, 2, done=False)])


def test_a_journal_that_ends_anywhere_is_read() -> None:
    lines = [
        json.dumps({"begin": 1, "request": {"kind": "push a blob", "tags": [], "may": []}}),
        json.dumps({"session": "/v2/x", "kept": 3, "number": 1}),
        json.dumps({"begin": 2, "request": {"kind": "collect", "tags": [], "may": ["a"]}}),
        json.dumps({"end": 2, "done": True}),
        json.dumps({"dies": "before step 4, rename"}),
    ]
    for count in range(len(lines) + 1):
        assert len(journal.read(lines[:count]).events) == min(count, 1) + (count > 2)
    upload, cycle = journal.read(lines).events
    assert (upload.open, upload.session, upload.kept) == (True, "/v2/x", 3)
    assert (cycle.open, cycle.done, cycle.request.may) == (False, True, ("a",))
