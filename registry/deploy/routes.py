"""Which host leads to which running instance: a table in memory, read for every request.

The deployer writes it, on the same event loop. Between `resolve` and `begin` nothing may be
awaited: then a request is either counted on the instance it goes to, or goes to its successor.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from registry.deploy.runtimes import Address
from storage.digest import Digest

# RFC 3986 section 3.2.2: a name or a bracketed IPv6 address, then maybe a port.
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::[0-9]*)?", re.ASCII)


class HostUnknown(Exception):
    """No app lives at this host."""


class Target:
    """An instance as traffic sees it. Compared by identity: two starts are two targets."""

    __slots__ = (
        "_over",
        "_waiting",
        "address",
        "app",
        "digest",
        "in_flight",
        "pointers",
        "revision",
    )

    def __init__(self, address: Address, app: str, revision: int, digest: Digest) -> None:
        self.address = address
        self.app = app
        self.revision = revision
        self.digest = digest
        self.in_flight = 0
        """Requests begun and not ended."""
        self.pointers = 0
        """Hosts that lead here."""
        self._waiting: list[asyncio.Event] = []
        self._over: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Target {self.app} revision {self.revision}, {self.in_flight} in flight>"

    def begin(self) -> None:
        self.in_flight += 1

    def end(self) -> None:
        """Once for every `begin`, however the request ended."""
        self.in_flight -= 1
        if self.in_flight == 0:
            for waiter in self._waiting:
                waiter.set()
            self._settle()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call once no host leads here any more and the last request has ended."""
        self._over.append(call)
        self._settle()

    def _point(self, change: int) -> None:
        self.pointers += change
        self._settle()

    def _settle(self) -> None:
        if self.pointers == 0 and self.in_flight == 0:
            calls, self._over = self._over, []
            for call in calls:
                call()


class Routes:
    """Hosts, and the instance each leads to at this moment."""

    def __init__(self) -> None:
        self._targets: dict[str, Target | None] = {}

    def know(self, host: str) -> None:
        """An app lives at this host, whether or not it runs."""
        self._targets.setdefault(normal_host(host), None)

    def forget(self, host: str) -> None:
        """The app is gone. Requests that began go on."""
        old = self._targets.pop(normal_host(host), None)
        if old is not None:
            old._point(-1)

    def point(self, host: str, target: Target | None) -> Target | None:
        """Lead the next requests to `target`, and return where they led before.

        The old target still has its requests in flight: wait for `drained` before it is stopped.
        """
        key = normal_host(host)
        old = self._targets.get(key)
        self._targets[key] = target
        if target is not None:
            target._point(+1)
        if old is not None:
            old._point(-1)
        return old

    def resolve(self, host: str) -> Target | None:
        """None: the app is known, and nothing of it runs. Raises HostUnknown."""
        try:
            return self._targets[normal_host(host)]
        except KeyError:
            raise HostUnknown from None

    async def drained(
        self,
        target: Target,
        timeout: float,  # noqa: ASYNC109 - running out of time is an answer here, not an error
    ) -> bool:
        """Wait until no request is in flight, at most `timeout` seconds; say whether that came."""
        waiter = asyncio.Event()
        target._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                while target.in_flight:
                    waiter.clear()
                    await waiter.wait()
        except TimeoutError:
            return target.in_flight == 0
        finally:
            target._waiting.remove(waiter)
        return True


def normal_host(text: str) -> str:
    """A Host header or host name as the table spells it: no port, no root dot, lower case."""
    match = _HOST.fullmatch(text)
    return (match[1] if match else text).lower().removesuffix(".")
