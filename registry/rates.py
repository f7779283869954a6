"""How often somebody may ask, and how much he may send: token buckets, per process.

Who signed in is counted by who he is, all others by their address. Memory is bounded: of those that
were seen last, 10,000 are known; who was forgotten begins anew.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from registry.auth.identity import Principal
from registry.errors import TooManyRequests
from registry.exchange import Exchange
from registry.settings import RateSettings

KNOWN: Final = 10_000
DAY: Final = 24 * 3600.0  # seconds


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """One for each key. Pure but for the clock, which is in seconds and never goes back."""

    def __init__(
        self, rate: float, burst: float, *, clock: Callable[[], float], known: int = KNOWN
    ) -> None:
        """`rate` tokens come in a second, up to `burst`, with which each begins."""
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._known = known
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, amount: float = 1.0) -> float:
        """Take that many, all or none; 0, or the seconds until they would be there.

        Infinite when they never will be.
        """
        bucket = self._bucket(key)
        if amount <= bucket.level:
            bucket.level -= amount
            return 0.0
        return self._until(bucket, amount)

    def wait(self, key: str, amount: float) -> float:
        """What `take` would say, but nothing is taken."""
        bucket = self._bucket(key)
        return 0.0 if amount <= bucket.level else self._until(bucket, amount)

    def charge(self, key: str, amount: float) -> None:
        """Take more than there is, if need be: it has to come before anything else is given."""
        self._bucket(key).level -= amount

    def _until(self, bucket: _Bucket, amount: float) -> float:
        return float("inf") if amount > self._burst else (amount - bucket.level) / self._rate

    def _bucket(self, key: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._known:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.level = min(self._burst, bucket.level + self._rate * (now - bucket.at))
            bucket.at = now
        return bucket


def place(address: str) -> str:
    """Who has the address, as far as it tells: a /64 of IPv6 is one customer's."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # of a Unix socket, or what a proxy says: as it is
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def key(principal: Principal, address: str) -> str:
    """By what somebody is counted."""
    return principal.text if principal.signed_in else place(address)


class Rates:
    """Asked for every request: at first about the address, and then about the principal."""

    def __init__(self, settings: RateSettings, *, clock: Callable[[], float]) -> None:
        def buckets(rate: float) -> Buckets | None:
            return Buckets(rate, max(1.0, rate * settings.burst), clock=clock) if rate else None

        self._address = buckets(settings.address)
        self._principal = buckets(settings.principal)
        self._pushes = buckets(settings.pushes)
        daily = settings.bytes
        self._bytes = Buckets(daily / DAY, daily, clock=clock) if daily else None
        self._daily = daily

    def check_address(self, address: str) -> None:
        """Before anything costly is done. Raises TooManyRequests."""
        if self._address is not None:
            _check(self._address.take(place(address)), "requests from your address")

    def check(self, exchange: Exchange, *, uploads: bool, manifest: bool) -> None:
        """Before the body is read, when it is known who asks. Raises TooManyRequests.

        `uploads`: the body is something to keep. Its bytes are counted as they come; what was
        begun may end. `manifest`: that is what it is, so a push ends.
        """
        principal = exchange.principal
        if self._principal is not None and principal.signed_in:
            _check(self._principal.take(principal.text), f"requests of {principal.text}")
        if not uploads:
            return
        who = key(principal, exchange.address)
        if self._bytes is not None:
            self._meter(self._bytes, who, exchange)
        if self._pushes is not None and manifest:
            _check(self._pushes.take(who), "manifests pushed")

    def _meter(self, buckets: Buckets, who: str, exchange: Exchange) -> None:
        seconds = buckets.wait(who, max(exchange.length or 0, 1))
        if seconds == float("inf"):
            raise TooManyRequests(
                f"this is more than the {self._daily:d} bytes that may be uploaded in a day",
                after=DAY,
            )
        _check(seconds, f"bytes: {self._daily:d} may be uploaded in a day")
        exchange.meter(lambda size: buckets.charge(who, size))


def _check(seconds: float, what: str) -> None:
    if seconds:
        raise TooManyRequests(f"too many {what}: try again in {seconds:.0f} s", after=seconds)
