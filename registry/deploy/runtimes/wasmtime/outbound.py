"""Where a component may send requests: the grammar of `allowed_outbound_hosts`. Pure.

    scheme://host[:port]     scheme   a name, or `*`
                             host     a name, an address, a network `10.0.0.0/8`, `*.example.com`,
                                      `*`, or `self` (the application itself)
                             port     a number, `8000..9000`, `{80,443,8000..9000}`, or `*`

Without a port it is the scheme's own. Spin 1's `allowed_http_hosts` has only `host[:port]`, `self`
and `insecure:allow-all`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

DEFAULT_PORTS = {"http": 80, "https": 443}

_ENTRY = re.compile(
    r"(?P<scheme>\*|[a-z][a-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/{}@?#\s]+)(?P<mask>/[0-9]{1,3})?"
    r"(?::(?P<port>\*|[0-9]+|[0-9]+\.\.[0-9]+|\{[0-9.,\s]+\}))?/?"
)
_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")


class HostPatternInvalid(ValueError):
    """The text is no pattern; the message is for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class HostPattern:
    scheme: str
    host: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    ports: tuple[tuple[int, int], ...] | None
    """Ranges with both ends; None is the scheme's own port."""

    @classmethod
    def parse(cls, text: str) -> HostPattern:
        found = _ENTRY.fullmatch(text.strip())
        if found is None:
            raise HostPatternInvalid(f"{text!r} is not an allowed host: write scheme://host:port")
        host = found["host"].lower()
        network = _network(host.strip("[]"), found["mask"])
        if network is None and host != "*" and not _NAME.fullmatch(host):
            raise HostPatternInvalid(f"{text!r} names no host that requests can be sent to")
        ports = _ports(found["port"])
        if ports is None and found["scheme"] not in (*DEFAULT_PORTS, "*"):
            raise HostPatternInvalid(f"{text!r} needs a port, since its scheme has no usual one")
        return cls(found["scheme"], host.rstrip("."), network, ports)

    @classmethod
    def legacy(cls, text: str) -> HostPattern:
        """An entry of Spin 1's `allowed_http_hosts`."""
        if text == "insecure:allow-all":
            return cls("*", "*", None, ((0, 65535),))
        return cls.parse(text if "://" in text else f"*://{text}")

    def allows(self, scheme: str, host: str, port: int) -> bool:
        if self.scheme not in ("*", scheme):
            return False
        if self.ports is None:
            if DEFAULT_PORTS.get(scheme) != port:
                return False
        elif not any(low <= port <= high for low, high in self.ports):
            return False
        host = host.lower().rstrip(".")
        if self.network is not None:
            address = _address(host.strip("[]"))
            return address is not None and address in self.network
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        return host == self.host


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(host: str, mask: str | None) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if mask is None and _address(host) is None:
        return None
    try:
        return ipaddress.ip_network(host + (mask or ""), strict=False)
    except ValueError as error:
        raise HostPatternInvalid(f"{host}{mask} is not a network: {error}") from None


def _ports(text: str | None) -> tuple[tuple[int, int], ...] | None:
    if text is None:
        return None
    if text == "*":
        return ((0, 65535),)
    ranges = []
    for part in text.strip("{}").split(","):
        low, dots, high = part.strip().partition("..")
        if not low.isdigit() or (dots and not high.isdigit()):
            raise HostPatternInvalid(f"{text!r} is not a port, a range a..b or a list {{a,b}}")
        first, last = int(low), int(high or low)
        if not first <= last <= 65535:
            raise HostPatternInvalid(f"{part.strip()!r} is not a range of ports")
        ranges.append((first, last))
    return tuple(ranges)


@dataclass(frozen=True, slots=True)
class Outbound:
    """What one component may reach. Empty: nothing."""

    patterns: tuple[HostPattern, ...] = ()

    @classmethod
    def parse(cls, hosts: Iterable[str], legacy: Iterable[str] = ()) -> Outbound:
        return cls(
            tuple(HostPattern.parse(text) for text in hosts)
            + tuple(HostPattern.legacy(text) for text in legacy)
        )

    def allows(self, scheme: str, host: str, port: int) -> bool:
        """`self` is spelled as such in a pattern; use `allows_self` for it."""
        return host.lower().rstrip(".") != "self" and any(
            pattern.allows(scheme, host, port) for pattern in self.patterns
        )

    @property
    def allows_self(self) -> bool:
        return any(pattern.host == "self" for pattern in self.patterns)
