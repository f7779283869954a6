"""Lines each of which names the one before by its hash, so that none can be changed alone. Pure.

A line is a JSON object in ASCII: `seq`, `time`, `previous`, and whatever is told. `previous` is the
SHA-256 of the bytes of the line before, without its newline; the first one names 64 zeros. Who can
write the file can write all of it anew: then only a head that was noted elsewhere tells.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

LONGEST: Final = 512  # characters of a text in a line
_OWN: Final = ("seq", "time", "previous")
_HEAD: Final = re.compile(r"(0|[1-9][0-9]{0,18}):([0-9a-f]{64})", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

REMOVED: Final = "audit.remove"
"""The action of a line that says which file was removed: `digest` is its last line's."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: all before it is what it was when this was noted."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @staticmethod
    def parse(text: str) -> Head:
        """Raises ValueError."""
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text[:100]!r} is not SEQ:HASH, as `spindle audit head` prints it")
        return Head(int(found[1]), found[2])


START: Final = Head(0, "0" * 64)
"""Before the first line."""

Entry = Mapping[str, str | int]


def write(head: Head, at: float, entry: Entry) -> tuple[bytes, Head]:
    """The line that follows `head`, with its newline, and the head it makes.

    `at` is in seconds since 1970. Texts are cut to LONGEST characters.
    """
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    content: dict[str, str | int] = {
        "seq": head.seq + 1,
        "time": time.replace("+00:00", "Z"),
        "previous": head.hash,
    }
    for name, value in entry.items():
        if name not in _OWN:
            content[name] = value[:LONGEST] if isinstance(value, str) else value
    # JSON leaves this one control character as it is.
    raw = json.dumps(content, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii")
    return raw + b"\n", Head(head.seq + 1, hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True, slots=True)
class Line:
    seq: int
    previous: str
    content: Mapping[str, Any]
    hash: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)


def read(raw: bytes) -> Line | None:
    """A line without its newline; None if no writer of ours wrote it like this."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not raw.isascii():
        return None
    seq, previous = content.get("seq"), content.get("previous")
    if type(seq) is not int or seq < 1:
        return None
    if not isinstance(previous, str) or not _HASH.fullmatch(previous):
        return None
    return Line(seq, previous, content, hashlib.sha256(raw).hexdigest())


def last(raw: bytes) -> tuple[Line | None, int]:
    """The last whole line of some bytes, and where it ends: what follows, a crash left."""
    end = len(raw)
    while (newline := raw.rfind(b"\n", 0, end)) >= 0:
        line = read(raw[raw.rfind(b"\n", 0, newline) + 1 : newline])
        if line is not None:
            return line, newline + 1
        end = newline
    return None, 0


class Wrong(StrEnum):
    EDITED = "edited"
    MISSING = "missing"
    REORDERED = "reordered"
    INSERTED = "inserted"
    TORN = "torn"
    """Its end is missing, as a crash leaves it: the next writer closes that."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The first line that is not as it was written."""

    file: str
    number: int
    """Of the line in the file, from 1."""
    seq: int
    """Which line of the whole chain should be here."""
    wrong: Wrong
    why: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.number} (seq {self.seq}): {self.wrong}: {self.why}"


@dataclass(frozen=True, slots=True)
class Checked:
    head: Head
    """The last line up to which all is well."""
    lines: int
    broken: Broken | None


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    number: int


def verify(files: Iterable[tuple[str, Iterable[bytes]]], noted: Head | None = None) -> Checked:
    """Read a chain from its beginning, up to the first line that is not as it was written.

    `files` are names and lines, these with their newlines, in order. `noted` is a head that was
    kept somewhere else. Without it nobody can tell that lines at the end are gone, that the last
    one was changed, or that everything was written anew.
    """
    rest = _places(files)
    earlier = head = START
    lines, at, first = 0, _Place("", 0), ""
    before: Head | None = None  # what was removed with old files
    covered = True
    noted_fits = noted is None or noted == START
    for at, raw in rest:
        line = read(raw[:-1]) if raw.endswith(b"\n") else None
        if line is None:
            return Checked(head, lines, _unreadable(at, head, raw, rest))
        if not lines:
            first = at.file
            if line.seq > 1:
                head = before = Head(line.seq - 1, line.previous)
                covered = False
        broken = _misplaced(at, head, line, rest)
        if broken is not None:
            # Seen by the one after it, a line that was changed is not one of those that are well.
            late = broken.seq <= head.seq
            return Checked(earlier if late else head, lines - late, broken)
        earlier, head, lines = head, line.head, lines + 1
        covered = covered or _covers(line, before)
        if noted is not None and noted.seq == head.seq:
            if noted != head:
                why = "it is not the line whose hash was noted: it, or all before it, was changed"
                return Checked(earlier, lines - 1, _broken(at, head.seq, Wrong.EDITED, why))
            noted_fits = True
    if not covered and before is not None:
        why = f"the lines up to {before.seq} are gone, and no line says that they were removed"
        return Checked(head, lines, Broken(first, 1, 1, Wrong.MISSING, why))
    if not noted_fits and noted is not None:
        below = before is not None and noted.seq <= before.seq
        if noted.seq > head.seq or (below and noted != before):
            why = (
                f"the head that was noted is line {noted.seq}, which was removed since"
                if below
                else f"the lines up to {noted.seq} were there when the head was noted"
            )
            return Checked(head, lines, _broken(at, head.seq + 1, Wrong.MISSING, why))
    return Checked(head, lines, None)


def _places(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[tuple[_Place, bytes]]:
    for name, lines in files:
        for number, raw in enumerate(lines, 1):
            yield _Place(name, number), raw


def _broken(at: _Place, seq: int, wrong: Wrong, why: str) -> Broken:
    return Broken(at.file, at.number, seq, wrong, why)


def _unreadable(at: _Place, head: Head, raw: bytes, rest: Iterator[tuple[_Place, bytes]]) -> Broken:
    if next(rest, None) is None and not raw.endswith(b"\n"):
        why = f"{len(raw)} bytes without an end, as a crash leaves them; the next writer says so"
        return _broken(at, head.seq + 1, Wrong.TORN, why)
    return _broken(at, head.seq + 1, Wrong.EDITED, "it is no line of an audit")


def _misplaced(
    at: _Place, head: Head, line: Line, rest: Iterator[tuple[_Place, bytes]]
) -> Broken | None:
    """What is wrong with a line after `head`, if anything is; may read on to tell it."""
    expected = head.seq + 1
    if line.seq <= head.seq:
        why = f"it says that it is line {line.seq}, which was here before"
        return _broken(at, expected, Wrong.INSERTED, why)
    if line.seq > expected:
        for _, raw in rest:
            later = read(raw.rstrip(b"\n"))
            if later is not None and later.seq == expected:
                why = f"line {line.seq} is here, and line {expected} further down"
                return _broken(at, expected, Wrong.REORDERED, why)
        gone = f"line {expected} is" if line.seq == expected + 1 else f"{expected} and on are"
        why = f"{gone} gone: line {line.seq} is in that place"
        return _broken(at, expected, Wrong.MISSING, why)
    if line.previous == head.hash:
        return None
    following = next(rest, None)
    after = read(following[1].rstrip(b"\n")) if following else None
    if after is not None and after.seq == line.seq + 1 and after.previous == line.hash:
        why = f"it is not the line that line {line.seq} was written after"
        return Broken(at.file, max(at.number - 1, 1), head.seq, Wrong.EDITED, why)
    why = f"it was not written after line {head.seq} as that is now: one of the two was changed"
    return _broken(at, line.seq, Wrong.EDITED, why)


def _covers(line: Line, before: Head | None) -> bool:
    """Whether a line tells that everything up to `before` was removed."""
    if before is None or line.content.get("action") != REMOVED:
        return False
    return bool(line.content.get("digest") == str(before))
