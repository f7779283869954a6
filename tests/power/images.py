"""Which images of a disk a power cut may leave: decided from its log, without looking at a disk.

What was written before the last flush is there, whatever happens. Of what was written after it,
anything may be: all, nothing, or some of it in any selection, and of a write some sectors.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.power.log import Write

SECTOR: Final = 512  # bytes that a disk writes wholly or not at all
_SUPERBLOCK: Final = 4096  # bytes; file systems take for granted that theirs is not torn


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one record that the disk kept, counted within it."""

    record: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Image:
    """Positions are numbers of records."""

    flushed: int
    """All before it is there."""
    cut: int
    """How far the log was when the power went: what was acknowledged until then must be there."""
    kept: tuple[Part, ...] = ()
    """What else is there, of the records from `flushed` to `cut`."""


def plan(
    records: Sequence[Write | None],
    acknowledged: Iterable[int],
    count: int,
    chance: random.Random,
) -> list[Image]:
    """About `count` images in the order of the log: half of them of the first two kinds.

    One at every flush, with nothing of what followed but all that was acknowledged meanwhile; one
    right after each acknowledgement, with all that was written; the rest by lot.
    """
    flushes = [0, *(at for at, record in enumerate(records, 1) if record is None)]
    certain = [
        Image(flushed, following - 1)
        for flushed, following in zip(flushes, [*flushes[1:], len(records) + 1], strict=True)
    ]
    certain += [prefix(records, cut) for cut in sorted(set(acknowledged))]
    certain = list(dict.fromkeys(certain))
    if len(certain) > count // 2:
        certain = chance.sample(certain, count // 2)
    by_lot = _by_lot(records, chance)
    found = dict.fromkeys(certain)
    for _ in range(4 * count):  # some come twice
        if len(found) >= count:
            break
        found[next(by_lot)] = None
    return sorted(found, key=lambda image: (image.flushed, image.cut))


def prefix(records: Sequence[Write | None], cut: int) -> Image:
    """All that was written until then."""
    flushed = _last_flush(records, cut)
    return Image(flushed, cut, tuple(_whole(records, at) for at in range(flushed, cut)))


def _by_lot(records: Sequence[Write | None], chance: random.Random) -> Iterator[Image]:
    writes = [at for at, record in enumerate(records, 1) if record is not None]
    while True:
        cut = chance.choice(writes)  # so that much is tried where much is under way
        flushed = _last_flush(records, cut)
        share = chance.choice((0.1, 0.5, 0.9, 1.0))
        kept = [
            _whole(records, at)
            for at in range(flushed, cut)
            if chance.random() < share or cut == at
        ]
        if kept and chance.random() < 0.5:
            at = chance.randrange(len(kept))
            kept[at : at + 1] = _torn(records, kept[at], chance)
        yield Image(flushed, cut, tuple(kept))


def _last_flush(records: Sequence[Write | None], cut: int) -> int:
    while cut > 0 and records[cut - 1] is not None:
        cut -= 1
    return cut


def _whole(records: Sequence[Write | None], at: int) -> Part:
    write = records[at]
    assert write is not None
    return Part(at, 0, len(write.data))


def _torn(records: Sequence[Write | None], part: Part, chance: random.Random) -> list[Part]:
    """Some of its sectors."""
    write = records[part.record]
    assert write is not None
    if write.offset < _SUPERBLOCK:
        return [part]
    starts = range(0, part.end, SECTOR)
    return [
        Part(part.record, start, min(start + SECTOR, part.end))
        for start in starts
        if chance.random() < 0.5
    ]
