"""Who is behind a proxy, and who only says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from registry.config import load
from registry.crowd import Crowd
from registry.proxies import Client, Proxied, Unreadable, seen
from registry.server import without_proxies
from registry.settings import Networks
from registry.tls import certified
from tests.servers import Spindle, get

TRUSTED = Networks.parse("10.0.0.0/8,192.0.2.1,2001:db8:1::/48,fe80::/10")
PROXY = ("10.0.0.1", 4711)

FORWARDED_FOR = [
    # what the peer says | who it is
    ("203.0.113.7", "203.0.113.7", "one proxy"),
    ("203.0.113.7, 10.9.9.9", "203.0.113.7", "two proxies"),
    ("203.0.113.7,10.9.9.9,192.0.2.1", "203.0.113.7", "three"),
    ("127.0.0.1, 203.0.113.7", "203.0.113.7", "who sent the field is at the end of what was sent"),
    ("10.0.0.5, 203.0.113.7", "203.0.113.7", "a trusted address does not help who makes it up"),
    ("10.0.0.5, 203.0.113.7, 10.0.0.2", "203.0.113.7", "nor does it in front of two"),
    ("rubbish, \x00, 203.0.113.7", "203.0.113.7", "what stands before is not read"),
    ("10.0.0.5, 10.0.0.6", "10.0.0.5", "a client in the proxies' network"),
    ("203.0.113.7:9999", "203.0.113.7", "with a port, as some write it"),
    ("2001:db8:2::7", "2001:db8:2::7", "IPv6"),
    ("[2001:db8:2::7]", "2001:db8:2::7", "IPv6 in brackets"),
    ("[2001:db8:2::7]:443", "2001:db8:2::7", "and with a port"),
    ("2001:DB8:2:0:0:0:0:7", "2001:db8:2::7", "IPv6 written otherwise"),
    ("203.0.113.7, 2001:db8:1::1", "203.0.113.7", "a proxy with IPv6"),
    ("::ffff:203.0.113.7", "203.0.113.7", "IPv4 in IPv6 is IPv4"),
    ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7", "for proxies, too"),
    (" ,203.0.113.7 ,, ", "203.0.113.7", "empty elements are none"),
    ("unknown", "10.0.0.1", "the proxy does not know"),
    ("203.0.113.7, unknown", "10.0.0.1", "so what stands before was not checked"),
    ("_hidden", "10.0.0.1", "the proxy does not tell"),
    ("203.0.113.7, unknown, 10.0.0.2", "10.0.0.2", "the second proxy does not know"),
    (", ".join(["203.0.113.7", *["10.1.2.3"] * 200]), "203.0.113.7", "200 hops"),
    (", ".join(["10.1.2.3"] * 200), "10.1.2.3", "200 hops, and all of them proxies"),
]


def said(*fields: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in fields]


def client(
    *fields: tuple[str, str], peer: tuple[str, int] = PROXY, words: str = "x-forwarded"
) -> Client | None:
    return seen(peer, said(*fields), TRUSTED, words)


@pytest.mark.parametrize(
    ("value", "address"), [row[:2] for row in FORWARDED_FOR], ids=[row[2] for row in FORWARDED_FOR]
)
def test_the_rightmost_address_that_is_no_proxy_asks(value: str, address: str) -> None:
    found = client(("x-forwarded-for", value))
    assert found is not None
    assert found.address == address


@pytest.mark.parametrize("peer", ["203.0.113.9", "192.0.2.2", "2001:db8:2::1", "11.0.0.1", "", "x"])
@pytest.mark.parametrize("words", ["x-forwarded", "forwarded"])
def test_nobody_else_is_believed(peer: str, words: str) -> None:
    fields = (
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
    )
    assert client(*fields, peer=(peer, 1), words=words) is None


@pytest.mark.parametrize("peer", ["10.255.255.255", "::ffff:10.0.0.1", "2001:db8:1:ffff::1"])
def test_a_proxy_is_known_however_its_address_is_written(peer: str) -> None:
    assert client(("x-forwarded-for", "203.0.113.7"), peer=(peer, 1)) is not None
    assert client(("x-forwarded-for", "203.0.113.7"), peer=("fe80::1%eth0", 1)) is not None


def test_a_proxy_that_says_nothing_asks_for_itself() -> None:
    assert client() is None
    assert client(("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")) is None


def test_several_fields_are_one_list() -> None:
    found = client(("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.7, 10.0.0.2"))
    assert found is not None
    assert found.address == "203.0.113.7"


@pytest.mark.parametrize(
    "value",
    [
        *("rubbish", "203.0.113.7, rubbish", "203.0.113.256", "1.2.3", "[203.0.113.7", "::1]"),
        *("203.0.113.7:port", "203.0.113.7:", "http://203.0.113.7", "203.0.113.7\x00", "0x7f.1"),
        *("[203.0.113.7]x", "fe80::1%eth0", "_", "unknown!", "rubbish, 10.0.0.2", "\xff"),
    ],
)
def test_a_proxy_that_makes_no_sense_is_not_guessed_at(value: str) -> None:
    with pytest.raises(Unreadable):
        client(("x-forwarded-for", value))


FOR = ("x-forwarded-for", "203.0.113.7, 10.0.0.2")


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        ("https, http", "https"),  # of as many proxies as there are addresses
        ("https, http, http", None),  # somebody wrote one too many
        ("ftp", None),
        ("https://evil", None),
        ("", None),
    ],
)
def test_by_which_scheme(value: str, scheme: str | None) -> None:
    found = client(FOR, ("x-forwarded-proto", value))
    assert found is not None
    assert found.scheme == scheme


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("registry.example.org", "registry.example.org"),
        ("registry.example.org:8443", "registry.example.org:8443"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("one, two", "one"),
        ("one, two, three", None),
        ("a@evil", None),
        ("evil/path", None),
        ('evil"', None),
        ("evil evil", None),
        ("\xe9vil", None),
    ],
)
def test_under_which_name(value: str, host: str | None) -> None:
    found = client(FOR, ("x-forwarded-host", value))
    assert found is not None
    assert found.host == host


# RFC 7239


FORWARDED = [
    ("for=203.0.113.7", Client("203.0.113.7", 0, None, None), "one proxy"),
    ('for="203.0.113.7:80"', Client("203.0.113.7", 80, None, None), "and a port"),
    ('For="[2001:db8:2::17]:4711"', Client("2001:db8:2::17", 4711, None, None), "section 4"),
    (
        "for=203.0.113.7;proto=https;by=10.0.0.1;host=reg.example.org",
        Client("203.0.113.7", 0, "https", "reg.example.org"),
        "all four",
    ),
    (
        "for=203.0.113.7;proto=https, for=10.0.0.2;proto=http",
        Client("203.0.113.7", 0, "https", None),
        "each proxy says how it was asked",
    ),
    ("for=10.0.0.9;host=evil, for=203.0.113.7", Client("203.0.113.7", 0, None, None), "made up"),
    ("for=203.0.113.7;host=evil, for=_x", Client("10.0.0.1", 4711, None, None), "hidden"),
    ("for=203.0.113.7, proto=https", Client("10.0.0.1", 4711, "https", None), "not told"),
    ("for=unknown", Client("10.0.0.1", 4711, None, None), "not known"),
    ('for="_hidden:_port"', Client("10.0.0.1", 4711, None, None), "hidden with its port"),
    ('for="203.0.113.7:_p"', Client("203.0.113.7", 0, None, None), "a hidden port"),
    ('for=203.0.113.7;host="a, b"', Client("203.0.113.7", 0, None, None), "a comma in quotes"),
    ('for="203.0.113\\.7"', Client("203.0.113.7", 0, None, None), "a quoted pair"),
    ("for=203.0.113.7 ; proto=http , ,", Client("203.0.113.7", 0, "http", None), "spaces"),
    (
        ", ".join(["for=203.0.113.7", *["for=10.1.2.3"] * 200]),
        Client("203.0.113.7", 0, None, None),
        "200 hops",
    ),
]


@pytest.mark.parametrize(
    ("value", "found"), [row[:2] for row in FORWARDED], ids=[row[2] for row in FORWARDED]
)
def test_forwarded(value: str, found: Client) -> None:
    assert client(("forwarded", value), words="forwarded") == found


@pytest.mark.parametrize(
    "value",
    [
        'for="203.0.113.9, for=203.0.113.7',  # a quote left open would hide what the proxy adds
        'for="203.0.113.9, for="[2001:db8:2::7]"',
        *("for", "for=", "=203.0.113.7", "for=203.0.113.7;for=10.0.0.2", "for==x", 'for="a"b'),
        *("for=2001:db8::1", "for=[2001:db8::1]", 'for="rubbish"', "for=rubbish", "for =x"),
        *("\x00", "\xff", 'for="\\'),
    ],
)
def test_forwarded_that_makes_no_sense(value: str) -> None:
    with pytest.raises(Unreadable):
        client(("forwarded", value), words="forwarded")


def test_the_kind_of_fields_that_the_proxies_do_not_write_is_the_clients() -> None:
    both = ("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "203.0.113.7")
    written, other = client(*both), client(*both, words="forwarded")
    assert written is not None
    assert other is not None
    assert (written.address, other.address) == ("203.0.113.7", "198.51.100.1")


# As a layer


async def asked(*fields: tuple[str, str], rename: bool = True, peer: str = "10.0.0.1") -> Scope:
    """What the application is given; or an answer in its place."""
    got: Scope = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.update(scope)

    async def send(message: Message) -> None:
        got.update(message)

    async def receive() -> Message:
        raise AssertionError

    scope: Scope = {
        "type": "http",
        "client": (peer, 1),
        "scheme": "http",
        "headers": said(("host", "inside"), *fields),
        "state": {"client_certificate": "proxy"},
    }
    layer = Proxied(app, TRUSTED, "x-forwarded", code="UNSUPPORTED", rename=rename)
    await layer(scope, receive, send)
    return got


ALL = (
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "reg.example.org"),
)


async def test_a_trusted_proxy_is_looked_through() -> None:
    scope = await asked(*ALL)
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["scheme"] == "https"
    assert [value for name, value in scope["headers"] if name == b"host"] == [b"reg.example.org"]


async def test_the_certificate_of_a_proxy_is_not_its_clients() -> None:
    assert certified(await asked(*ALL)) is None
    assert certified(await asked()) is None
    assert certified(await asked(peer="203.0.113.9")) == "proxy"


async def test_others_are_passed_on_untouched() -> None:
    scope = await asked(*ALL, peer="203.0.113.9")
    assert scope["client"] == ("203.0.113.9", 1)
    assert scope["scheme"] == "http"
    assert scope["headers"][0] == (b"host", b"inside")


async def test_the_host_of_an_application_is_the_one_that_was_asked_for() -> None:
    scope = await asked(*ALL, rename=False)
    assert scope["client"] == ("203.0.113.7", 0)
    assert scope["headers"][0] == (b"host", b"inside")


async def test_a_proxy_without_sense_is_refused_before_anything_is_read() -> None:
    assert (await asked(("x-forwarded-for", "rubbish")))["status"] == 400


def test_a_trusted_proxy_has_as_many_connections_as_it_needs() -> None:
    config = load(
        flags={"registry.trusted_proxies": "192.0.2.1", "connections.exempt": "192.0.2.2"}
    )
    crowd = Crowd(without_proxies(config), "test", limit=10, clock=lambda: 0.0)
    assert crowd._place("192.0.2.1") is None
    assert crowd._place("192.0.2.2") is None
    assert crowd._place("192.0.2.3") == "192.0.2.3"


def test_the_log_tells_the_client_of_a_trusted_proxy_only(tmp_path: Path) -> None:
    trusting = ("--set", "registry.trusted_proxies=127.0.0.0/8")
    for arguments, told in (trusting, "203.0.113.7"), ((), "127.0.0.1"):
        (tmp_path / told).mkdir()
        with Spindle(tmp_path / told / "data", *arguments) as server:
            headers = {"X-Forwarded-For": "203.0.113.7", "User-Agent": "told"}
            get(f"http://{server.registry}/v2/", headers=headers)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert {line["client"] for line in lines if line.get("agent") == "told"} == {told}
