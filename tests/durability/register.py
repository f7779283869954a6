"""Is a history of one register linearizable? The search of Wing and Gong, with memory.

Every call takes effect at one moment between its start and its end, or the history is wrong. The
search puts one call after another in an order that the register allows, where next may come only
what began before every call that is still to come has ended. Two states of the search with the same
calls done and the same value in the register have the same future, so each is entered once (Lowe).
Pure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

NEVER: Final = math.inf


class Kind(enum.Enum):
    WRITE = "write"
    DELETE = "delete"
    READ = "read"
    SWAP = "swap"
    """Write if the register has the value `expected`; None: if it has none."""


class Result(enum.Enum):
    DONE = "done"
    REFUSED = "refused"
    """Of a delete: there is nothing. Of a swap: it is something else."""
    UNKNOWN = "unknown"
    """It may have taken effect, or may later, or never."""


@dataclass(frozen=True, slots=True)
class Call:
    kind: Kind
    start: float
    end: float
    """On one clock for all, in any unit; NEVER where the result is unknown."""
    value: str | None = None
    """What is written, or was read; None: nothing is there."""
    expected: str | None = None
    result: Result = Result.DONE

    def after(self, value: str | None) -> Sequence[str | None]:
        """What the register may hold after this call where it held `value`; empty: impossible."""
        changed = None if self.kind is Kind.DELETE else self.value
        match self.kind:
            case Kind.READ:
                possible = self.result is Result.UNKNOWN or self.value == value
                return [value] if possible else []
            case Kind.WRITE:
                works = True
            case Kind.DELETE:
                works = value is not None
            case Kind.SWAP:
                works = value == self.expected
        match self.result:
            case Result.DONE:
                return [changed] if works else []
            case Result.REFUSED:
                return [] if works else [value]
            case Result.UNKNOWN:
                return [changed] if works else [value]


@dataclass(frozen=True, slots=True)
class Verdict:
    linearizable: bool
    stuck: Sequence[Call] = field(default=())
    """Where it is not: what may come next where the search came farthest, and cannot."""
    value: str | None = None
    """What the register holds there."""


def check(history: Sequence[Call], first: str | None = None) -> Verdict:
    """Whether the calls, in any order, are those of a register that held `first`."""
    calls = sorted(history, key=lambda call: call.start)
    required = sum(1 << at for at, call in enumerate(calls) if call.result is not Result.UNKNOWN)
    seen: set[tuple[int, str | None]] = set()
    left = [(0, first)]
    farthest = (-1, 0, first)
    while left:
        state = left.pop()
        if state in seen:
            continue
        seen.add(state)
        done, value = state
        if done & required == required:
            return Verdict(True)
        farthest = max(farthest, (done.bit_count(), *state), key=lambda found: found[0])
        following: list[tuple[int, str | None]] = []
        for at in _next(calls, done):
            after = calls[at].after(value)
            following += [(done | 1 << at, held) for held in after]
            if after and calls[at].kind is Kind.READ:  # changes nothing, so it may as well be now
                following = following[-1:]
                break
        left += following
    _, done, value = farthest
    return Verdict(False, [calls[at] for at in _next(calls, done)], value)


def _next(calls: Sequence[Call], done: int) -> list[int]:
    """The calls that may be next: none of the others had ended when they began."""
    found = []
    end = NEVER
    at = (~done & (done + 1)).bit_length() - 1  # the first that is not done
    for number in range(at, len(calls)):
        call = calls[number]
        if call.start > end:
            break
        if not done >> number & 1:
            found.append(number)
            end = min(end, call.end)
    return found
