"""What an application printed, read back from the end of its log. Blocks: for a thread.

The log is a file of JSON lines that only grows, until it is renamed to `….1` and begun anew. A
cursor names a place in it (which file, how many bytes in), and stays good across one renaming.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

MOST = 4 << 20  # bytes of one answer
LONGEST = 64 << 10  # bytes of a line, escapes and all

Line: TypeAlias = dict[str, Any]

_CURSOR = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)


class CursorInvalid(Exception):
    """Not one of ours."""


@dataclass(frozen=True, slots=True)
class Cursor:
    file: int
    """The inode; 0 before there is a file."""
    offset: int

    @staticmethod
    def parse(text: str) -> Cursor:
        """Raises CursorInvalid."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise CursorInvalid("take the cursor from the answer before, as it is")
        return Cursor(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.file}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Printed:
    lines: list[Line]
    """Oldest first."""
    cursor: Cursor
    """Where to go on."""


def tail(log: Path, count: int) -> Printed:
    """The last `count` lines."""
    found: list[bytes] = []
    room = MOST
    end: Cursor | None = None
    with _opened(log) as files:
        for file in reversed(files):
            start = max(0, file.size - room)
            data = file.whole_lines(start, room)
            end = end or Cursor(file.id, start + len(data))
            lines = data.splitlines()
            # A start in the middle of the file is in the middle of a line.
            found = (lines[1:] if start > 0 else lines) + found
            room -= len(data)
            if len(found) >= count or room <= 0:
                break
    return Printed([_parse(line) for line in found[max(0, len(found) - count) :]], end or _NOWHERE)


def since(log: Path, cursor: Cursor) -> Printed:
    """What came after a cursor, as much as one answer takes; all there is if the place is gone."""
    found: list[bytes] = []
    room = MOST
    with _opened(log) as files:
        ids = [file.id for file in files]
        if cursor.file in ids:
            files = files[ids.index(cursor.file) :]
        for file in files:
            start = cursor.offset if file.id == cursor.file else 0
            data = file.whole_lines(start, room)
            found += data.splitlines()
            room -= len(data)
            cursor = Cursor(file.id, start + len(data))
            if room < LONGEST:
                break
    return Printed([_parse(line) for line in found], cursor)


_NOWHERE = Cursor(0, 0)


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    id: int
    size: int

    @staticmethod
    def open(path: str) -> _File | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        status = os.fstat(descriptor)
        return _File(descriptor, status.st_ino, status.st_size)

    def whole_lines(self, start: int, most: int) -> bytes:
        """A line without its end is still being written."""
        data = os.pread(self.descriptor, most, start)
        return data[: data.rfind(b"\n") + 1]


@contextmanager
def _opened(log: Path) -> Iterator[list[_File]]:
    """The renamed file and the current one, as far as they are there, oldest first."""
    # The current one is opened first: a renaming in between then shows the same file twice, which
    # can be seen. The other way round a file would be missed.
    current, renamed = _File.open(str(log)), _File.open(f"{log}.1")
    opened = [file for file in (renamed, current) if file is not None]
    try:
        yield list({file.id: file for file in opened}.values())
    finally:
        for file in opened:
            os.close(file.descriptor)


def _parse(line: bytes) -> Line:
    """A line that is not a JSON object is shown as it is."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"line": line.decode("utf-8", "replace")}
