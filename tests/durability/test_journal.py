"""The journal knows kept promises from broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.durability.journal import ABSENT, DONE, UNKNOWN, Entry, Journal, broken


def push(digest: str, *tags: str, outcome: str = DONE) -> Entry:
    return Entry("push", "r", digest, tags, outcome)


def delete(digest: str, outcome: str = DONE) -> Entry:
    return Entry("delete", "r", digest, (), outcome)


def untag(tag: str, outcome: str = DONE) -> Entry:
    return Entry("untag", "r", None, (tag,), outcome)


def tag_is(tag: str, found: str | None) -> Entry:
    return Entry("read tag", "r", None, (tag,), DONE if found else ABSENT, found)


def digest_is(digest: str, found: str | None, *, promised: bool = True) -> Entry:
    return Entry("read", "r", digest, (), DONE if found else ABSENT, found, promised)


@pytest.mark.parametrize(
    "entries",
    [
        [push("A", "t"), tag_is("t", "A"), digest_is("A", "A")],
        [push("A", "t"), push("B", "t", outcome=UNKNOWN), tag_is("t", "A")],
        [push("A", "t"), push("B", "t", outcome=UNKNOWN), tag_is("t", "B")],
        [push("A", outcome=UNKNOWN), digest_is("A", None)],
        [push("A", "t", "u"), untag("t"), tag_is("t", None), tag_is("u", "A")],
        [push("A", "t", "u"), delete("A"), tag_is("t", None), tag_is("u", None)],
        [push("A", "t"), delete("A", UNKNOWN), tag_is("t", None)],
        [push("A", "t"), delete("A", UNKNOWN), tag_is("t", "A")],
        [push("A", outcome=UNKNOWN), delete("A", ABSENT), digest_is("A", None)],
        [push("A"), digest_is("A", None, promised=False)],
    ],
)
def test_these_promises_were_kept(entries: Sequence[Entry]) -> None:
    assert broken(entries) == []


@pytest.mark.parametrize(
    ("entries", "promise"),
    [
        ([push("A"), digest_is("A", None)], "D1"),
        ([push("A", "t"), tag_is("t", None)], "D1"),
        ([push("A"), delete("A", ABSENT)], "D1"),
        ([push("A", "t"), push("B", "t"), tag_is("t", "A")], "D2"),
        ([push("A", "t"), push("B", "t", outcome=UNKNOWN), tag_is("t", "C")], "D2"),
        ([push("A"), delete("A"), digest_is("A", "A")], "D4"),
        ([push("A", "t"), untag("t"), tag_is("t", "A")], "D4"),
        ([push("A", "t"), delete("A"), tag_is("t", "A")], "D4"),
        ([push("A"), delete("A"), delete("A")], "D4"),
        ([push("A"), digest_is("A", "B")], "D6"),
    ],
)
def test_these_were_not(entries: Sequence[Entry], promise: str) -> None:
    (sentence,) = broken(entries)
    assert sentence.startswith(promise)


def test_what_was_written_down_is_read_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    first = journal.begin(Entry("push", "r", "A", ("t",)))
    second = journal.begin(Entry("read tag", "r", None, ("t",)))
    journal.end(second, DONE, "A")
    assert journal.entries() == [push("A", "t", outcome=UNKNOWN), tag_is("t", "A")]
    journal.end(first, DONE, None)
    assert journal.entries() == [push("A", "t"), tag_is("t", "A")]
    journal.close()
