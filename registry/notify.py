"""What systemd is told of a service of `Type=notify` or `notify-reload`: see sd_notify(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Notify:
    """Says nothing where nobody asked to be told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self._every = _watchdog(environment)
        self._last = 0.0

    def ready(self) -> None:
        """Whoever connects is answered; also after `reloading`."""
        self._say("READY=1")

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def alive(self, now: float) -> None:
        """To be called more often than the watchdog barks; `now` is in seconds."""
        if self._every is not None and now - self._last >= self._every:
            self._last = now
            self._say("WATCHDOG=1")

    def _say(self, state: str) -> None:
        if self._path:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.sendto(state.encode(), self._path)


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds from one sign of life to the next, if this process is asked for them."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(
        os.getpid()
    ):
        return None
    return int(microseconds) / 2e6
