"""When the clock of the machine is set forward, everything seems old at once.

A lease that began a minute ago would be over, and an upload that goes on abandoned. So whoever
removes what is old compares the clock with one that cannot be set, and after a leap removes nothing
until what was young before it has truly become old. A clock set back only keeps things longer.
"""

from __future__ import annotations

from typing import Final

LEAP: Final = 60.0  # seconds; less is what time services put right


class Leaps:
    """`grace` is the longest time, in seconds, that anything young is promised."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._last: tuple[float, float] | None = None
        self._until = float("-inf")

    def rest(self, now: float, ticks: float) -> float:
        """How many seconds nothing may be removed for its age; 0 when it may.

        `now` is the clock and `ticks` one that cannot be set, both in seconds.
        """
        if self._last is not None:
            last_now, last_ticks = self._last
            if (now - last_now) - (ticks - last_ticks) > LEAP:
                self._until = ticks + self._grace
        self._last = now, ticks
        return max(self._until - ticks, 0.0)
