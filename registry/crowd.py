"""All the connections of one listener: how many there may be, who has to go, and when.

Nobody has a timer of his own. Once in a while every connection is asked whether its client was
given time enough; that is a comparison each, where a timer each would be set and unset with every
request.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from registry.settings import ConnectionSettings

_USUAL = ("idle", "linger")  # counted, but nothing to tell anybody of
_SWEEP = 1.0  # seconds at most from one look at all connections to the next
_AT_ONCE = 64  # looked at before others have their turn; to throw one out takes some 30 µs


class Member(Protocol):
    """A connection, as the crowd sees it."""

    address: str | None
    """Of the client; None on a unix socket."""

    def look(self, now: float) -> None:
        """Go, if the client was given time enough."""

    def leave(self) -> None:
        """Go now; nothing was being answered."""

    def abort(self) -> None:
        """Go now, whatever is being answered."""


class Crowd:
    """Use on one event loop, between `open` and `close`."""

    def __init__(
        self,
        settings: ConnectionSettings,
        service: str,
        *,
        limit: int,
        clock: Callable[[], float],
    ) -> None:
        """`limit` is what the descriptors allow, which may be less than the settings do.

        `clock` is the loop's, in seconds.
        """
        self.clock = clock
        self.settings = settings
        self.service = service
        self.limit = min(settings.limit, limit)
        self.counts: Counter[str] = Counter()
        """How many connections ended without an answer, by what for."""
        self.refused: Counter[int] = Counter()
        """How many ended with an answer that no application gave, by its status."""
        self._told: Counter[str] = Counter()
        self._all: set[Member] = set()
        self._by_place: Counter[str] = Counter()
        self._places: dict[Member, str] = {}
        # Both in the order in which they came in, which is all that a dict is here for.
        self._unproven: dict[Member, None] = {}
        self._idle: dict[Member, None] = {}
        self._log = structlog.get_logger().bind(service=service)
        self._next: asyncio.Handle | None = None
        self.parting = False
        """Every answer is the last one of its connection."""
        self.kindly = False
        """Who waits with the next request is not left at once."""
        self.idle: float = settings.idle
        """Seconds that a connection is kept between two requests."""

    def part(self, idle: float, *, kindly: bool) -> None:
        """From now on."""
        self.parting, self.kindly = True, kindly
        self.idle = min(idle, self.idle)

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        s = self.settings
        shortest = min(
            *(s.first_byte, s.header, s.body_grace, s.body_window, s.stall, s.idle, s.handshake)
        )
        self._every = min(_SWEEP, shortest / 4, s.drain_time / 2)
        self._next = self._loop.call_later(self._every, self._sweep)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._tell()

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, member: Member) -> bool:
        """Take in a new connection, or say that it cannot stay."""
        place = self._place(member.address)
        if place is not None and self._by_place[place] >= self.settings.per_address:
            self.counts["address_limit"] += 1
            return False
        if len(self._all) >= self.limit and not self._make_room():
            self.counts["limit"] += 1
            return False
        if place is not None:
            self._places[member] = place
            self._by_place[place] += 1
        self._all.add(member)
        self._unproven[member] = None
        return True

    def works(self, member: Member) -> None:
        """It has sent the head of a request."""
        self._unproven.pop(member, None)
        self._idle.pop(member, None)

    def rests(self, member: Member) -> None:
        """It has its answer, and asks for nothing else."""
        if member in self._all:
            self._idle[member] = None

    def gone(self, member: Member) -> None:
        """May be called again."""
        self._all.discard(member)
        self._unproven.pop(member, None)
        self._idle.pop(member, None)
        place = self._places.pop(member, None)
        if place is not None:
            self._by_place[place] -= 1
            if not self._by_place[place]:
                del self._by_place[place]

    def abort(self) -> None:
        """End every connection. An upload sees its client leave, and keeps what it has."""
        for member in list(self._all):
            member.abort()

    def _make_room(self) -> bool:
        """Whoever waits longest, of those who never asked for anything or of those who rest.

        Of whichever there are more: an attacker's are many, and a healthy client is seldom among
        the oldest of them. A client with an answer, or a body, on its way is never ended for
        another.
        """
        more = self._idle if len(self._idle) > len(self._unproven) else self._unproven
        victim = next(iter(more), None)
        if victim is None:
            return False
        self.counts["evicted"] += 1
        self.gone(victim)
        victim.leave()
        return True

    def _place(self, address: str | None) -> str | None:
        """What is counted as one client; None if it is not."""
        if address is None:
            return None
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address):
            if parsed.ipv4_mapped is None:
                if parsed.is_loopback or self._exempt(parsed):
                    return None
                return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
            parsed = parsed.ipv4_mapped
        return None if parsed.is_loopback or self._exempt(parsed) else str(parsed)

    def _exempt(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self.settings.exempt)

    def look(self) -> None:
        """At every connection: whether it is time for it to go."""
        now = self.clock()
        for member in list(self._all):
            member.look(now)
        self._tell()

    def _sweep(self) -> None:
        self._look_at(list(self._all), self.clock())

    def _look_at(self, left: list[Member], now: float) -> None:
        """A few at a time, and between them whoever else has something to do."""
        for member in left[-_AT_ONCE:]:
            if member in self._all:
                member.look(now)
        del left[-_AT_ONCE:]
        if left:
            self._next = self._loop.call_soon(self._look_at, left, now)
        else:
            self._tell()
            self._next = self._loop.call_later(self._every, self._sweep)

    def _tell(self) -> None:
        """One line for all that ended without an answer since the last."""
        new = self.counts - self._told
        for usual in _USUAL:
            del new[usual]
        if new:
            self._told = self.counts.copy()
            self._log.info("connections ended early", open=len(self._all), **new)
