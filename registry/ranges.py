"""Byte ranges: what a pull asks for, and what a chunk says of itself. Pure.

RFC 9110 section 14, and distribution spec, "Pushing a blob in chunks".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from registry.errors import ContentRangeInvalid, RangesTooMany, RangeUnsatisfiable

MOST = 1024  # podman asks for up to 1024 in its first try, halves them after a 400, ends below 64

_SET = re.compile(r"\s*bytes\s*=(.*)", re.ASCII | re.IGNORECASE)
_ONE = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)
_CHUNK = re.compile(r"([0-9]+)-([0-9]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """The value of Content-Range for a blob of this size; inclusive, as HTTP counts."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


WHOLE: Final = None


def parse(header: str | None, size: int) -> tuple[Range, ...] | None:
    """The ranges to send of a blob of `size` bytes, as many and in the order as asked, or WHOLE.

    A header that is broken, of another unit, or about an empty blob is ignored, as RFC 9110 allows
    and Go's clients know it. Raises RangeUnsatisfiable and RangesTooMany.
    """
    match = _SET.fullmatch(header) if header else None
    if match is None or size == 0:
        return WHOLE
    asked = [text for text in map(str.strip, match[1].split(",")) if text]
    if len(asked) > MOST:
        raise RangesTooMany(f"{len(asked)} ranges at once; ask for at most {MOST}")
    pairs = [_ONE.fullmatch(text) for text in asked]
    if not pairs or any(pair is None or pair[0] == "-" for pair in pairs):
        return WHOLE
    found = tuple(span for pair in pairs if pair and (span := _resolve(pair[1], pair[2], size)))
    if not found:
        raise RangeUnsatisfiable(f"no byte of {match[1][:80]!r} is within {size} bytes", size=size)
    # Overlapping ranges could multiply the blob; one copy of it answers them all.
    return found if sum(span.length for span in found) <= size else WHOLE


def _resolve(first: str, last: str, size: int) -> Range | None:
    """None when no byte is meant. `500-0` is one of these: RFC 9110 would have it ignored, the
    conformance program wants 416."""
    if not first:
        start, end = max(size - _number(last), 0), size
    else:
        start, end = _number(first), min(_number(last) + 1, size) if last else size
    return Range(start, end) if start < end else None


def _number(digits: str) -> int:
    """As large as twenty digits can say: more are beyond every size, and cost time to convert."""
    return int(digits.lstrip("0")[:20] or "0")


def parse_chunk(header: str) -> Range:
    """A chunk's Content-Range: "It MUST match the following regular expression: ^[0-9]+-[0-9]+$".

    Raises ContentRangeInvalid.
    """
    match = _CHUNK.fullmatch(header)
    if match is None:
        raise ContentRangeInvalid(
            f"Content-Range {header[:80]!r} is not of the form <start>-<end>, such as 0-1023"
        )
    start, end = _number(match[1]), _number(match[2]) + 1
    if start >= end:
        raise ContentRangeInvalid(f"Content-Range {header[:80]!r} ends before it starts")
    return Range(start, end)
