"""Which addresses are no place to send a request to that somebody else may have aimed. Pure.

The one list for both who send such requests: the registry, to the issuers that it was told to
trust, and the applications, to what they ask for. It is our own rather than `is_global`, which
differs between versions of Python and lets NAT64 and 6to4 through: ways to say a private IPv4
address in IPv6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where servers live that are nobody else's business. Who runs the registry can let it go there.
PRIVATE: Final[dict[Network, str]] = {
    ipaddress.ip_network(text): what
    for text, what in (
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address inside a provider's network"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "a link-local address, such as a cloud's metadata"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for measurements"),
        ("::1/128", "this machine"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
    )
}

# Where no server lives at all, or under another name: no setting lets anybody go there.
_NOWHERE: Final[dict[Network, str]] = {
    ipaddress.ip_network(text): what
    for text, what in (
        ("0.0.0.0/8", "no address but this machine"),
        ("168.63.129.16/32", "the address of a cloud's own services"),  # Azure, in all networks
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a reserved address"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved or broadcast address"),
        ("::/128", "no address but this machine"),
        ("::ffff:0:0/96", "an IPv4 address in the clothes of an IPv6 one"),
        ("::/96", "an IPv4 address in the clothes of an IPv6 one"),
        ("64:ff9b::/96", "an IPv4 address behind NAT64"),
        ("2001:db8::/32", "an address for documentation"),
        ("2001::/23", "a reserved address"),  # Teredo, which also carries an IPv4 address
        ("2002::/16", "an IPv4 address behind 6to4"),
        ("3fff::/20", "an address for documentation"),
        ("ff00::/8", "a multicast address"),
    )
}
_GLOBAL: Final = ipaddress.ip_network("2000::/3")  # RFC 4291, section 2.4: all that is given out


def denied(text: str, networks: Iterable[Network] = ()) -> str | None:
    """What is wrong with an address, such as "a private address"; None if nothing is.

    `networks` are those that may be gone to although they are private; see `too_wide`.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # of IPv6, without the interface
    except ValueError:
        return "no address"
    for network, what in PRIVATE.items():
        if address in network:
            return None if any(address in one for one in networks) else what
    for network, what in _NOWHERE.items():
        if address in network:
            return what
    if address.version == 6 and address not in _GLOBAL:
        return "an address of a reserved range"
    return None


def too_wide(network: Network) -> bool:
    """Whether a network is more than one of the private ones, or part of none.

    0.0.0.0/0 would open all of them, also where its writer did not think of a cloud's metadata.
    """
    return not any(
        network.version == one.version and network.subnet_of(one)  # type: ignore[arg-type]
        for one in PRIVATE
    )
