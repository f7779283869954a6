from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import ranges
from registry.errors import ContentRangeInvalid, RangesTooMany, RangeUnsatisfiable
from registry.ranges import MOST, WHOLE, Range

REFUSED = "refused"
HUGE = "9" * 5000  # more than int() would take

TABLE = [
    # header, size, what is sent, why
    (None, 100, WHOLE, "nothing is asked for"),
    ("", 100, WHOLE, "nothing is asked for"),
    ("bytes=0-9", 100, [(0, 10)], "both ends count"),
    ("bytes=90-", 100, [(90, 100)], "to the end"),
    ("bytes=-10", 100, [(90, 100)], "the last ten"),
    ("bytes=0-99", 100, [(0, 100)], "all of it is still a range"),
    ("bytes=99-99", 100, [(99, 100)], "the last byte"),
    ("bytes=90-200", 100, [(90, 100)], "the end is clamped"),
    ("bytes=-200", 100, [(0, 100)], "a suffix longer than the blob is the blob"),
    ("bytes=100-", 100, REFUSED, "begins at the end"),
    ("bytes=100-200", 100, REFUSED, "beyond the end"),
    ("bytes=-0", 100, REFUSED, "the last none"),
    ("bytes=50-40", 100, REFUSED, "backwards: the conformance program wants it refused"),
    ("bytes=0-9", 0, WHOLE, "no byte of an empty blob can be asked for"),
    ("bytes=-1", 0, WHOLE, "no byte of an empty blob can be asked for"),
    ("BYTES=0-9", 100, [(0, 10)], "units are case-insensitive"),
    ("bytes = 0-9 ", 100, [(0, 10)], "blanks do no harm"),
    ("bytes=0-1, 5-6,,-2", 100, [(0, 2), (5, 7), (98, 100)], "a list, with an empty element"),
    ("bytes=5-6,0-1", 100, [(5, 7), (0, 2)], "in the order asked"),
    ("bytes=0-1,200-300,9-8", 100, [(0, 2)], "one that can be sent is enough"),
    ("bytes=200-300,-0", 100, REFUSED, "none can be sent"),
    ("bytes=0-59,40-99", 100, WHOLE, "together more than the blob"),
    ("bytes=0-49,0-49", 100, [(0, 50), (0, 50)], "together as much as the blob"),
    (f"bytes=0-{HUGE}", 100, [(0, 100)], "no number is too large to be read"),
    (f"bytes={HUGE}-", 100, REFUSED, "no number is too large to be read"),
    (f"bytes=-{HUGE}", 100, [(0, 100)], "no number is too large to be read"),
    ("bytes=" + "0" * 4000 + "7-7", 100, [(7, 8)], "nor has too many zeros"),
    ("bytes=", 100, WHOLE, "broken"),
    ("bytes=,", 100, WHOLE, "broken"),
    ("bytes=-", 100, WHOLE, "broken"),
    ("bytes=0", 100, WHOLE, "broken"),
    ("bytes=0-9,x", 100, WHOLE, "broken in one element"),
    ("bytes=0-9;1-2", 100, WHOLE, "broken"),
    ("bytes=+1-2", 100, WHOLE, "broken"),
    ("bytes=1-2-3", 100, WHOLE, "broken"),
    ("bytes=\u0663-\u0664", 100, WHOLE, "digits of another alphabet"),
    ("bytes 0-9", 100, WHOLE, "broken"),
    ("lines=0-9", 100, WHOLE, "another unit"),
    ("none", 100, WHOLE, "another unit"),
]


@pytest.mark.parametrize(("header", "size", "expected", "why"), TABLE)
def test_what_is_sent(header: str | None, size: int, expected: object, why: str) -> None:
    if expected == REFUSED:
        with pytest.raises(RangeUnsatisfiable) as refusal:
            ranges.parse(header, size)
        assert refusal.value.size == size
        return
    found = ranges.parse(header, size)
    assert (found and [(span.start, span.end) for span in found]) == expected, why


def test_the_most_ranges_are_answered() -> None:
    found = ranges.parse("bytes=" + ",".join(f"{n}-{n}" for n in range(MOST)), 10_000)
    assert found is not None
    assert len(found) == MOST


def test_one_more_is_refused() -> None:
    with pytest.raises(RangesTooMany):
        ranges.parse("bytes=" + ",".join(f"{n}-{n}" for n in range(MOST + 1)), 10_000)


@given(st.text(alphabet="bytes=0123456789-, ", max_size=60), st.integers(0, 1 << 40))
def test_no_header_reaches_beyond_the_blob(header: str, size: int) -> None:
    try:
        found = ranges.parse(header, size)
    except (RangeUnsatisfiable, RangesTooMany):
        return
    for span in found or ():
        assert 0 <= span.start < span.end <= size
    assert sum(span.length for span in found or ()) <= size


def test_a_range_counts_as_http_does() -> None:
    assert Range(0, 10).content_range(100) == "bytes 0-9/100"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-0", (0, 1)),
        ("0-1023", (0, 1024)),
        ("1024-2047", (1024, 2048)),
        ("007-008", (7, 9)),
        (f"0-{'9' * 19}", (0, 10**19)),
    ],
)
def test_the_range_of_a_chunk(header: str, expected: tuple[int, int]) -> None:
    span = ranges.parse_chunk(header)
    assert (span.start, span.end) == expected


@pytest.mark.parametrize(
    "header",
    ["", "0", "0-", "-1", "1-0", "bytes 0-1/2", "bytes=0-1", "0-1/2", " 0-1", "0-1\n", "\u0663-9"],
)
def test_what_is_no_range_of_a_chunk(header: str) -> None:
    with pytest.raises(ContentRangeInvalid):
        ranges.parse_chunk(header)
