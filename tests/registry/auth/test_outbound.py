"""Requests of the registry's own: where they go, and that nothing leads them elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path

import pytest
import uvloop

from registry.auth.outbound import Allowance, Astray, NotFetched, Outbound, resolve
from tests.registry.auth.certificates import Certificate
from tests.registry.auth.lines import Line, Names, Server, response

PUBLIC = "93.184.216.34"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

NAMES: dict[str, Sequence[str]] = {
    "issuer.test": [PUBLIC],
    "elsewhere.test": [PUBLIC],
    "loopback.test": ["127.0.0.1"],
    "loopback6.test": ["::1"],
    "private.test": ["10.0.0.7"],
    "metadata.test": ["169.254.169.254"],
    "unspecified.test": ["0.0.0.0"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "compatible.test": ["::127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "6to4.test": ["2002:7f00:1::1"],
    "provider.test": ["100.64.0.1"],
    "unique-local.test": ["fd00::1"],
    "link-local.test": ["fe80::1%lo"],
    "multicast.test": ["224.0.0.1"],
    "broadcast.test": ["255.255.255.255"],
    "documentation.test": ["192.0.2.1"],
    "good-then-bad.test": [PUBLIC, "127.0.0.1"],
    "bad-then-good.test": ["127.0.0.1", PUBLIC],
    "good-then-bad6.test": [PUBLIC, "::1"],
    "garbage.test": ["127.1"],
    "many.test": [f"93.184.216.{last}" for last in range(1, 40)],
}

# {} is the port of a server that listens on 127.0.0.1 and ::1. Each with a word of the refusal.
ASTRAY = [
    # Addresses, as they are written
    ("https://127.0.0.1:{}/", "this machine"),
    ("https://127.255.255.254:{}/", "this machine"),
    ("https://[::1]:{}/", "this machine"),
    ("https://0.0.0.0:{}/", "no address but this machine"),
    ("https://[::]:{}/", "no address but this machine"),
    ("https://10.0.0.1/", "private"),
    ("https://172.31.255.255/", "private"),
    ("https://192.168.0.1/", "private"),
    ("https://169.254.169.254/latest/meta-data/", "link-local"),
    ("https://100.64.0.1/", "provider"),
    ("https://[fd00:ec2::254]/", "private"),
    ("https://[fe80::1]/", "link-local"),
    ("https://224.0.0.1/", "multicast"),
    ("https://255.255.255.255/", "broadcast"),
    ("https://192.0.2.1/", "documentation"),
    ("https://[2001:db8::1]/", "documentation"),
    ("https://168.63.129.16/", "cloud"),
    # IPv4 within IPv6
    ("https://[::ffff:7f00:1]:{}/", "address"),
    ("https://[::ffff:127.0.0.1]:{}/", "address"),
    ("https://[::127.0.0.1]:{}/", "address"),
    ("https://[64:ff9b::7f00:1]:{}/", "NAT64"),
    ("https://[2002:7f00:1::]:{}/", "6to4"),
    ("https://[2001:0:7f00:1::]:{}/", "reserved"),
    ("https://[0:0:0:0:0:0:0:1]:{}/", "written otherwise"),
    ("https://[::1%25lo]:{}/", "no URL"),
    ("https://[fe80::1%lo]/", "no URL"),
    ("https://[::1:{}/", "no URL"),
    ("https://::1:{}/", "no URL"),
    # Numbers that some readers take for addresses
    ("https://127.1:{}/", "ends in a number"),
    ("https://127.0.1:{}/", "ends in a number"),
    ("https://2130706433:{}/", "ends in a number"),
    ("https://017700000001:{}/", "ends in a number"),
    ("https://0x7f000001:{}/", "ends in a number"),
    ("https://0x7f.0.0.1:{}/", "ends in a number"),
    ("https://0x7f.1:{}/", "ends in a number"),
    ("https://0177.0.0.1:{}/", "ends in a number"),
    ("https://127.0.0.0x1:{}/", "ends in a number"),
    ("https://127.0.0.01:{}/", "ends in a number"),
    ("https://127.000.000.001:{}/", "ends in a number"),
    ("https://127.0.0.256:{}/", "ends in a number"),
    ("https://issuer.test.1:{}/", "ends in a number"),
    ("https://0:{}/", "ends in a number"),
    ("https://127.0.0.1.:{}/", "no domain name"),
    # Names
    ("https://localhost:{}/", "this machine"),
    ("https://issuer.localhost:{}/", "this machine"),
    ("https://localhost.:{}/", "no domain name"),
    ("https://LOCALHOST:{}/", "lower case"),
    ("https://loopback.test:{}/", "this machine"),
    ("https://loopback6.test:{}/", "this machine"),
    ("https://private.test/", "private"),
    ("https://metadata.test/", "link-local"),
    ("https://unspecified.test:{}/", "this machine"),
    ("https://mapped.test:{}/", "clothes"),
    ("https://compatible.test:{}/", "clothes"),
    ("https://nat64.test:{}/", "NAT64"),
    ("https://6to4.test:{}/", "6to4"),
    ("https://provider.test/", "provider"),
    ("https://unique-local.test/", "private"),
    ("https://link-local.test/", "link-local"),
    ("https://multicast.test/", "multicast"),
    ("https://broadcast.test/", "broadcast"),
    ("https://documentation.test/", "documentation"),
    ("https://good-then-bad.test:{}/", "this machine"),
    ("https://bad-then-good.test:{}/", "this machine"),
    ("https://good-then-bad6.test:{}/", "this machine"),
    ("https://garbage.test:{}/", "no address"),
    ("https://many.test/", "more than 16"),
    ("https://loopback.test.:{}/", "no domain name"),
    ("https://loopback..test:{}/", "no domain name"),
    ("https://-loopback.test:{}/", "no domain name"),
    ("https://lo_opback.test:{}/", "no URL"),
    ("https://l\u1d52calhost:{}/", "non-ASCII"),
    ("https://\uff11\uff12\uff17.0.0.1:{}/", "non-ASCII"),
    ("https://127\u30020\u30020\u30021:{}/", "non-ASCII"),
    ("https://127%2e0%2e0%2e1:{}/", "no URL"),
    ("https://%31%32%37.0.0.1:{}/", "no URL"),
    # Who is the host?
    ("https://issuer.test@127.0.0.1:{}/", "user name"),
    ("https://issuer.test:443@127.0.0.1:{}/", "user name"),
    ("https://127.0.0.1:{}@issuer.test/", "user name"),
    ("https://user:secret@issuer.test/", "user name"),
    ("https://@127.0.0.1:{}/", "user name"),
    ("https://issuer.test\\@127.0.0.1:{}/", "backslash"),
    ("https://127.0.0.1:{}\\@issuer.test/", "backslash"),
    ("https:\\\\127.0.0.1:{}\\", "backslash"),
    ("https://issuer.test#@127.0.0.1:{}/", "fragment"),
    ("https://127.0.0.1:{}#.issuer.test/", "fragment"),
    ("https://127.0.0.1:{}?.issuer.test/", "no URL"),
    ("https:///127.0.0.1:{}/", "no URL"),
    ("https:127.0.0.1:{}/", "https://"),
    ("//127.0.0.1:{}/", "https://"),
    ("127.0.0.1:{}", "https://"),
    ("https://", "no URL"),
    ("", "https://"),
    # Control characters
    ("https://127.0.0.1:{}\r\nhost: issuer.test/", "control"),
    ("https://issuer.test/\r\nx: y", "control"),
    ("https://issuer.test\x00.127.0.0.1:{}/", "control"),
    ("https://127.0.0.1\t:{}/", "control"),
    (" https://127.0.0.1:{}/", "spaces"),
    ("https://127.0.0.1:{}/\n", "control"),
    ("https://issuer.test/%2e%2e/", ".. in its path"),
    ("https://issuer.test/a/../b", ".. in its path"),
    # Ports
    ("https://issuer.test:65536/", "above 65535"),
    ("https://issuer.test:99999999999999999999/", "no URL"),
    ("https://issuer.test:0/", "no URL"),
    ("https://issuer.test:-1/", "no URL"),
    ("https://issuer.test:0443/", "no URL"),
    ("https://issuer.test:+443/", "no URL"),
    ("https://issuer.test:/", "no URL"),
    ("https://issuer.test:4\uff143/", "non-ASCII"),
    ("https://issuer.test:443:{}/", "no URL"),
    # Schemes
    ("http://127.0.0.1:{}/", "over https"),
    ("http://issuer.test:{}/", "over https"),
    ("HTTPS://127.0.0.1:{}/", "https://"),
    ("file:///etc/passwd", "https://"),
    ("file://127.0.0.1:{}/", "https://"),
    ("gopher://127.0.0.1:{}/_GET", "https://"),
    ("ftp://127.0.0.1:{}/", "https://"),
    ("dict://127.0.0.1:{}/", "https://"),
    ("unix:///run/docker.sock", "https://"),
    ("jar:https://127.0.0.1:{}!/", "https://"),
    ("data:application/json,{}", "https://"),
    ("https://issuer.test/" + "a" * 2048, "longer"),
]


class Sinks:
    """Servers where nothing may arrive, on the addresses of this machine, all on one port."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.port = servers[0].port

    @property
    def connections(self) -> int:
        return sum(server.connections for server in self.servers)


@pytest.fixture
async def sinks() -> AsyncIterator[Sinks]:
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Server().serving())
        servers = [first]
        for host in ("::1", "127.0.0.2", "127.255.255.254"):
            with contextlib.suppress(OSError):  # a machine without IPv6
                serving = Server().serving(host=host, port=first.port)
                servers.append(await stack.enter_async_context(serving))
        yield Sinks(servers)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    names = ("issuer.test", "localhost", "127.0.0.1")
    return Certificate(tmp_path_factory.mktemp("certificate"), *names)


def trusting(certificate: Certificate, **more: object) -> Allowance:
    return Allowance(authorities=certificate.file, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("url", "reason"), ASTRAY, ids=lambda value: repr(value)[:60])
async def test_what_leads_astray_is_refused_with_a_sentence(
    sinks: Sinks, url: str, reason: str
) -> None:
    line = Line(sinks.port)
    outbound = Outbound(resolve=Names(NAMES), connect=line, time=2)

    with pytest.raises(NotFetched) as caught:
        await outbound.fetch(url.replace("{}", str(sinks.port)))

    assert (line.connected, sinks.connections) == ([], 0)
    assert isinstance(caught.value, Astray)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.0.0.2"])
async def test_with_the_systems_resolver_and_real_connections_nothing_arrives(
    sinks: Sinks, host: str
) -> None:
    with pytest.raises(NotFetched) as caught:
        await Outbound(time=2).fetch(f"https://{host}:{sinks.port}/")
    assert sinks.connections == 0
    assert isinstance(caught.value, Astray)


async def test_the_systems_resolver_tells_addresses() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1", 443)


async def test_what_is_fetched_is_the_body(certificate: Certificate) -> None:
    async with Server(response(b"{}")).serving(tls=certificate.server) as server:
        line = Line(server.port)
        outbound = Outbound(resolve=Names(NAMES), connect=line)
        body = await outbound.fetch("https://issuer.test/a?b=c", trusting(certificate))

    assert body == b"{}"
    assert line.connected == [(PUBLIC, 443)]
    [request] = server.requests
    assert request.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: issuer.test\r\n")
    assert b"authorization" not in request.lower()
    assert b"cookie" not in request.lower()


async def test_a_name_is_resolved_once_and_its_address_connected_to(
    certificate: Certificate,
) -> None:
    """A resolver that answers well when asked first, and with a private address from then on."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async with Server(response(b"{}")).serving(tls=certificate.server) as server:
        line = Line(server.port)
        outbound = Outbound(resolve=rebinding, connect=line)
        await outbound.fetch("https://issuer.test/", trusting(certificate))
        with pytest.raises(Astray, match="this machine"):
            await outbound.fetch("https://issuer.test/", trusting(certificate))

    assert line.connected == [(PUBLIC, 443)]


def test_it_is_the_same_on_the_loop_of_the_server(certificate: Certificate) -> None:
    async def fetched() -> bytes:
        async with Server(response(b"{}")).serving(tls=certificate.server) as server:
            allowance = trusting(certificate, networks=LOOPBACK)
            with pytest.raises(Astray):
                await Outbound().fetch(f"https://localhost:{server.port}/")
            with pytest.raises(NotFetched, match="certificate is not good"):
                await Outbound().fetch(
                    f"https://localhost:{server.port}/", Allowance(networks=LOOPBACK)
                )
            return await Outbound().fetch(f"https://localhost:{server.port}/", allowance)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(fetched()) == b"{}"


async def test_the_certificate_is_checked_for_the_name(certificate: Certificate) -> None:
    async with Server(response(b"{}")).serving(tls=certificate.server) as server:
        outbound = Outbound(resolve=Names(NAMES), connect=Line(server.port))
        with pytest.raises(NotFetched, match="certificate is not good"):
            await outbound.fetch("https://elsewhere.test/", trusting(certificate))
        with pytest.raises(NotFetched, match="certificate is not good"):
            await outbound.fetch("https://issuer.test/")  # of an authority nobody trusts
    assert server.requests == []


async def test_a_private_network_can_be_allowed_by_name(certificate: Certificate) -> None:
    async with Server(response(b"{}")).serving(tls=certificate.server) as server:
        url = f"https://localhost:{server.port}/"
        with pytest.raises(Astray):
            await Outbound().fetch(url, trusting(certificate))
        allowance = trusting(certificate, networks=LOOPBACK)
        assert await Outbound().fetch(url, allowance) == b"{}"
        assert await Outbound().fetch(f"https://127.0.0.1:{server.port}/", allowance) == b"{}"


async def test_http_can_be_allowed_for_a_host_and_for_no_other() -> None:
    async with Server(response(b"{}")).serving() as server:
        allowance = Allowance(LOOPBACK, frozenset({"127.0.0.1"}))
        url = f"http://127.0.0.1:{server.port}/"
        assert await Outbound().fetch(url, allowance) == b"{}"
        with pytest.raises(Astray, match="over https"):
            await Outbound().fetch(f"http://localhost:{server.port}/", allowance)


async def test_of_several_addresses_one_that_answers_will_do() -> None:
    async with Server(response(b"{}")).serving() as server:
        line = Line(server.port)

        async def connect(address: str, *rest: object) -> object:
            if address.startswith("1.1"):
                raise ConnectionRefusedError(111, "Connection refused")
            return await line(address, *rest)  # type: ignore[arg-type]

        names = Names({"issuer.test": ["1.1.1.1", "1.1.1.2", PUBLIC]})
        outbound = Outbound(resolve=names, connect=connect)  # type: ignore[arg-type]
        allowance = Allowance(insecure=frozenset({"issuer.test"}))
        assert await outbound.fetch("http://issuer.test/", allowance) == b"{}"
    assert line.connected == [(PUBLIC, 80)]


@pytest.fixture
def allowed() -> Allowance:
    return Allowance(LOOPBACK, frozenset({"127.0.0.1"}))


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("location", ["http://127.0.0.1:{}/", "//[::1]:{}/", "/again"])
async def test_no_redirect_is_followed(
    sinks: Sinks, allowed: Allowance, status: int, location: str
) -> None:
    where = location.replace("{}", str(sinks.port))
    answer = response(b"", f"{status} Elsewhere", f"location: {where}")
    async with Server(answer).serving() as server:
        with pytest.raises(NotFetched, match="redirect"):
            await Outbound().fetch(f"http://127.0.0.1:{server.port}/", allowed)
    assert (server.connections, sinks.connections) == (1, 0)


@pytest.mark.parametrize(
    "variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
)
async def test_no_proxy_of_the_environment_is_used(
    sinks: Sinks, allowed: Allowance, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{sinks.port}")
    async with Server(response(b"{}")).serving() as server:
        url = f"http://127.0.0.1:{server.port}/"
        assert await Outbound().fetch(url, allowed) == b"{}"
    assert sinks.connections == 0


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(b"x" * 101), "more than 100 bytes"),
        (HEAD + b"connection: close\r\n\r\n" + b"x" * 101, "more than 100 bytes"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"a\r\n0123456789\r\n" * 11, "100 bytes"),
        (HEAD + b"content-length: 10\r\n\r\nhalf", "not HTTP"),
        (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", "not HTTP"),
        (HEAD + b"x: " + b"y" * (1 << 17) + b"\r\n\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"", "not HTTP"),
        (response(b"", "404 Not Found"), "status 404"),
        (response(b"", "500 Oops"), "status 500"),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", "status 204"),
        (response(b"x", "206 Partial Content"), "status 206"),
        (response(b"x", "200 OK", "content-encoding: gzip"), "content encoding"),
    ],
)
async def test_an_answer_that_is_of_no_use_is_told(
    allowed: Allowance, answer: bytes, reason: str
) -> None:
    async with Server(answer).serving() as server:
        with pytest.raises(NotFetched) as caught:
            await Outbound(largest=100).fetch(f"http://127.0.0.1:{server.port}/", allowed)
    assert reason in str(caught.value)
    assert not isinstance(caught.value, Astray)


async def test_whoever_does_not_answer_is_not_waited_for(allowed: Allowance) -> None:
    async with Server(response(b"{}")).serving() as server:
        server.answering.clear()
        url = f"http://127.0.0.1:{server.port}/"
        assert "0.2 seconds" in await given_up(Outbound(time=0.2).fetch(url, allowed))


async def test_neither_is_a_resolver() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    outbound = Outbound(resolve=silent, time=0.05)
    assert "0.05 seconds" in await given_up(outbound.fetch("https://issuer.test/"))


async def given_up(fetching: Coroutine[None, None, bytes]) -> str:
    """With which words a request ends that would not end by itself."""
    task = asyncio.create_task(fetching)
    ended, _ = await asyncio.wait([task], timeout=10)
    task.cancel()
    assert ended
    return str(task.exception())


async def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(NotFetched, match="cannot be resolved"):
        await Outbound(resolve=Names({})).fetch("https://issuer.test/")
    with pytest.raises(NotFetched, match="has no address"):
        await Outbound(resolve=Names({"issuer.test": []})).fetch("https://issuer.test/")


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_port_where_nobody_listens_is_told(allowed: Allowance, closed_port: int) -> None:
    with pytest.raises(NotFetched, match=r"127\.0\.0\.1 cannot be connected to: .*refused"):
        await Outbound().fetch(f"http://127.0.0.1:{closed_port}/", allowed)


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    outbound = Outbound(resolve=Names(NAMES), connect=Line(1))
    for file in (tmp_path / "missing.pem", empty):
        with pytest.raises(NotFetched, match=f"the certificates in .*{file.name}"):
            await outbound.fetch("https://issuer.test/", Allowance(authorities=file))
