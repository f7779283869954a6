"""Which addresses are gone to, and which are not: one list for the registry and applications."""

from __future__ import annotations

import ipaddress

import pytest

from registry.addresses import denied, too_wide

PUBLIC = [
    "93.184.216.34",
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2606:2800:220:1:248:1893:25c8:1946",
    "2a00:1450:4001:82a::200e",
]

DENIED = [
    ("127.0.0.1", "this machine"),
    ("127.255.255.254", "this machine"),
    ("::1", "this machine"),
    ("0.0.0.0", "this machine"),
    ("0.1.2.3", "this machine"),
    ("::", "this machine"),
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("fd00::1", "private"),
    ("fd00:ec2::254", "private"),
    ("fec0::1", "private"),
    ("100.64.0.1", "provider"),
    ("100.100.100.200", "provider"),
    ("169.254.169.254", "link-local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("168.63.129.16", "cloud"),
    ("192.0.0.192", "reserved"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "reserved"),
    ("198.18.0.1", "measurements"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::ffff:127.0.0.1", "clothes"),
    ("::ffff:93.184.216.34", "clothes"),
    ("::127.0.0.1", "clothes"),
    ("64:ff9b::7f00:1", "NAT64"),
    ("64:ff9b:1::7f00:1", "reserved"),
    ("2001::1", "reserved"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("3fff::1", "documentation"),
    ("100::1", "reserved range"),
    ("5f00::1", "reserved range"),
    ("ff02::1", "multicast"),
    ("127.1", "no address"),
    ("0x7f.0.0.1", "no address"),
    ("example.com", "no address"),
    ("", "no address"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_gone_to(address: str) -> None:
    assert denied(address) is None


@pytest.mark.parametrize(("address", "what"), DENIED)
def test_of_others_it_is_said_what_they_are(address: str, what: str) -> None:
    assert what in (denied(address) or "")


def test_a_private_network_that_is_named_is_gone_to_and_no_other() -> None:
    named = [ipaddress.ip_network("10.96.0.0/12"), ipaddress.ip_network("fd12::/16")]
    assert denied("10.96.0.1", named) is None
    assert denied("fd12::1", named) is None
    assert denied("10.1.0.1", named)
    assert denied("fd13::1", named)
    assert denied("::ffff:10.96.0.1", named)


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "::ffff:10.0.0.1", "192.0.2.1"])
def test_where_no_server_lives_nothing_leads(address: str) -> None:
    everything = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    assert denied(address, everything)


@pytest.mark.parametrize(
    ("network", "wide"),
    [
        ("10.0.0.0/8", False),
        ("10.1.2.3/32", False),
        ("127.0.0.0/8", False),
        ("fd00::/8", False),
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("10.0.0.0/7", True),
        ("8.8.8.0/24", True),
        ("2000::/3", True),
    ],
)
def test_a_network_is_within_one_private_one(network: str, wide: bool) -> None:
    assert too_wide(ipaddress.ip_network(network)) is wide
