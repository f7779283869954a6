"""How often who may be wrong. Pure but for the clock it is given.

Two counts are kept: of a name from an address, and of an address. Neither is of a name alone, so
that nobody can lock somebody out from elsewhere. Whoever was wrong too often waits, twice as long
each time, up to half a minute; what was right is forgiven, and time forgives the rest.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

REMEMBERED: Final = 10_000  # addresses, and as many pairs of address and name: some MiB
FREE_OF_NAME: Final = 5  # failures of one name from one address before it waits
FREE_OF_ADDRESS: Final = 10  # of all names from one address: an office may have only one
LONGEST: Final = 30.0  # seconds
FORGIVEN: Final = 60.0  # seconds without an attempt that pay for one failure

Key: TypeAlias = tuple[str, str]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class _Count:
    failures: int
    since: float
    """When that was so."""
    free: int

    def at(self, now: float) -> int:
        """Whole minutes only, so that who goes on after each wait gains nothing by waiting."""
        return max(self.failures - int((now - self.since) / FORGIVEN), 0)

    def wait(self, now: float) -> float:
        """Seconds from now."""
        beyond = self.failures - self.free
        if beyond < 0:
            return 0.0
        return max(self.since + min(2.0**beyond, LONGEST) - now, 0.0)


class Attempts:
    def __init__(
        self,
        clock: Callable[[], float],
        *,
        shared: Iterable[Network] = (),
        most: int = REMEMBERED,
    ) -> None:
        """`clock` in seconds; `shared`: addresses of many, of which only each name counts."""
        self._clock = clock
        self._shared = tuple(shared)
        self._most = most
        self._names: OrderedDict[Key, _Count] = OrderedDict()
        self._addresses: OrderedDict[Key, _Count] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """Count an attempt as a failure until `succeed` says otherwise; return 0.

        Or count nothing and return how many seconds it has to wait. Counted first, since else a
        thousand attempts at once were all begun before the first of them was wrong.
        """
        now = self._clock()
        counts = self._of(name[:64], address)
        for where, key, _ in counts:
            count = where.get(key)
            if count is not None and (wait := count.wait(now)) > 0:
                return wait
        for where, key, free in counts:
            count = where.pop(key, None)
            failures = min(count.at(now) if count else 0, free + 5) + 1
            where[key] = _Count(failures, now, free)
            if len(where) > self._most:
                where.popitem(last=False)  # the one that was longest without an attempt
        return 0.0

    def succeed(self, name: str, address: str) -> None:
        """What `begin` counted was right."""
        for where, key, free in self._of(name[:64], address):
            count = where.get(key)
            if count is None:
                continue
            if free == FREE_OF_NAME:
                del where[key]
            else:  # the failures of other names are not forgiven by one's own password
                count.failures = max(count.failures - 1, 0)

    def _of(self, name: str, address: str) -> list[tuple[OrderedDict[Key, _Count], Key, int]]:
        place, own = self._place(address)
        counts = [(self._names, (place, name), FREE_OF_NAME)]
        if own:
            counts.append((self._addresses, (place, ""), FREE_OF_ADDRESS))
        return counts

    def _place(self, address: str) -> tuple[str, bool]:
        """How it is counted, and whether that is one client's; false: it may be a proxy's."""
        ip = parse(address)
        if ip is None or ip.is_loopback:
            return "", False
        if any(ip.version == one.version and ip in one for one in self._shared):
            return str(ip), False
        return place_of(ip), True


def parse(address: str) -> Address | None:
    """None for what is none, such as a Unix socket's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def place_of(ip: Address) -> str:
    """The address, or its /64 in IPv6, where one client has them all."""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(ip) >> 64 << 64))
    return str(ip)
