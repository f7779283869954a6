"""wasi:clocks 0.2."""

from __future__ import annotations

import time

from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host import Interface

monotonic = Interface("wasi:clocks/monotonic-clock")
wall = Interface("wasi:clocks/wall-clock")
INTERFACES = (monotonic, wall)


class Timer:
    def __init__(self, due: float) -> None:
        self._due = due

    def ready(self, call: Call) -> bool:
        return time.monotonic() >= self._due

    def interest(self, call: Call) -> tuple[int, int] | None:
        return None

    def due(self) -> float | None:
        return self._due


@monotonic("now")
def now(call: Call) -> int:
    return time.monotonic_ns()


@monotonic("resolution")
def resolution(call: Call) -> int:
    return 1


@monotonic("subscribe-instant")
def subscribe_instant(call: Call, when: int) -> Timer:
    return Timer(when / 1e9)


@monotonic("subscribe-duration")
def subscribe_duration(call: Call, nanoseconds: int) -> Timer:
    return Timer(time.monotonic() + nanoseconds / 1e9)


def datetime(nanoseconds: int) -> dict[str, int]:
    """The record `datetime`."""
    seconds, rest = divmod(max(0, nanoseconds), 1_000_000_000)
    return {"seconds": seconds, "nanoseconds": rest}


@wall("now")
def wall_now(call: Call) -> dict[str, int]:
    return datetime(time.time_ns())


@wall("resolution")
def wall_resolution(call: Call) -> dict[str, int]:
    return datetime(1)
