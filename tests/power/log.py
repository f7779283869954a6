"""What a disk was asked to do, in order: writes and flushes, one record each, in a file."""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct("<QI")  # offset on the disk and number of bytes; of a flush, both are nothing


def written(data: bytes, offset: int) -> bytes:
    return _HEAD.pack(offset, len(data)) + data


FLUSHED = _HEAD.pack(0, 0)


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """The records; None is a flush."""

    records: list[Write | None]
    ends: list[int]
    """How long the file was after each, in bytes."""

    @staticmethod
    def read(path: Path, size: int) -> Log:
        """What whole records there are in the first `size` bytes."""
        text = path.read_bytes()[:size]
        records: list[Write | None] = []
        ends: list[int] = []
        at = 0
        while at + _HEAD.size <= len(text):
            offset, count = _HEAD.unpack_from(text, at)
            at += _HEAD.size + count
            if at > len(text):
                break
            records.append(Write(offset, text[at - count : at]) if count else None)
            ends.append(at)
        return Log(records, ends)

    def count(self, size: int) -> int:
        """How many records there were when the file was this long. One half written is none."""
        return bisect.bisect_right(self.ends, size)
