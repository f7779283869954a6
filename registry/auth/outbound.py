"""The one way in which the registry itself fetches something from somewhere else.

Who can choose a URL, or what a name resolves to, could otherwise have the registry ask its own
neighbours: a cloud's metadata, a database, itself. So each fetch

- goes to a URL with one reading only (registry.auth.destination), over TLS;
- asks the resolver once, and looks at every address it gives: one that is denied refuses all, for a
  name that has both was made to lead us astray;
- connects to an address that was looked at, not to the name again, which may resolve differently
  the second time; the certificate is checked for the name;
- follows no redirect, uses no proxy of the environment, sends no credentials and no cookies;
- ends after ten seconds and one mebibyte.

It is written on h11 and streams rather than on aiohttp, whose connector parses the URL again, asks
no resolver for what it takes for an address, and keeps connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import h11

from registry.addresses import Network, denied
from registry.auth.destination import Destination

LARGEST: Final = 1 << 20  # bytes of an answer's body
TIME: Final = 10.0  # seconds from the question to the resolver to the last byte
_ADDRESS_TIME: Final = 3.0  # seconds for one of several addresses to take the connection
_ADDRESSES: Final = 16
_PIECE: Final = 1 << 16

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
Connect: TypeAlias = Callable[[str, int, ssl.SSLContext | None, str | None], Awaitable[Streams]]


class NotFetched(Exception):
    """With a sentence that holds nothing but the host of the URL."""


class Astray(NotFetched):
    """We do not go there, whatever would answer."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is allowed beyond https to public addresses, for one who asked for it by name."""

    networks: tuple[Network, ...] = ()
    """Private networks that may be gone to."""
    insecure: frozenset[str] = frozenset()
    """Hosts that may be asked over plain http."""
    authorities: Path | None = None
    """A PEM file with the certificates to trust; else the system's."""


NOTHING: Final = Allowance()


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, by the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def connect(
    address: str, port: int, tls: ssl.SSLContext | None, server_name: str | None
) -> Streams:
    """Raises OSError."""
    return await asyncio.open_connection(address, port, ssl=tls, server_hostname=server_name)


class Outbound:
    def __init__(
        self,
        *,
        resolve: Resolve = resolve,
        connect: Connect = connect,
        largest: int = LARGEST,
        time: float = TIME,
    ) -> None:
        """`largest` in bytes, `time` in seconds."""
        self._resolve = resolve
        self._connect = connect
        self._largest = largest
        self._time = time

    async def fetch(self, url: str, allowance: Allowance = Allowance()) -> bytes:
        """The body of a 200. Raises NotFetched, of which Astray before anything was connected."""
        try:
            destination = Destination.parse(url)
        except ValueError as error:
            raise Astray(f"the URL {error}") from None
        if destination.scheme == "http" and destination.host not in allowance.insecure:
            raise Astray(f"{destination.host} is only asked over https")
        try:
            async with asyncio.timeout(self._time):
                return await self._fetch(destination, allowance)
        except TimeoutError:
            raise NotFetched(
                f"{destination.host} did not answer within {self._time:g} seconds"
            ) from None

    async def _fetch(self, destination: Destination, allowance: Allowance) -> bytes:
        addresses = await self._addresses(destination)
        for address in addresses:
            if what := denied(address, allowance.networks):
                leads = "is" if destination.literal else f"leads to {_shown(address)},"
                raise Astray(
                    f"{destination.host} {leads} {what}, where nothing is sent; a private network"
                    " can be named in networks"
                )
        tls = None
        if destination.scheme == "https":
            tls = await asyncio.to_thread(_tls, allowance.authorities)
        reader, writer = await self._connected(destination, addresses, tls)
        try:
            return await _ask(destination, reader, writer, self._largest)
        except OSError as error:
            raise NotFetched(f"{destination.host} broke off: {_reason(error)}") from None
        except h11.ProtocolError:
            raise NotFetched(f"{destination.host} answers with what is not HTTP") from None
        finally:
            writer.transport.abort()  # there is nothing to say goodbye to
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _addresses(self, destination: Destination) -> Sequence[str]:
        host = destination.host
        if destination.literal:
            return [host]
        if host == "localhost" or host.endswith(".localhost"):
            return ["127.0.0.1"]  # RFC 6761, section 6.3: whatever a resolver would say
        try:
            addresses = await self._resolve(host, destination.port)
        except (OSError, UnicodeError) as error:
            raise NotFetched(f"{host} cannot be resolved: {_reason(error)}") from None
        if not addresses:
            raise NotFetched(f"{host} has no address")
        if len(addresses) > _ADDRESSES:
            raise Astray(f"{host} has more than {_ADDRESSES} addresses")
        return addresses

    async def _connected(
        self, destination: Destination, addresses: Sequence[str], tls: ssl.SSLContext | None
    ) -> Streams:
        """To the first address that takes it, all of which have been looked at."""
        reason = ""
        for address in addresses:
            try:
                async with asyncio.timeout(_ADDRESS_TIME if len(addresses) > 1 else None):
                    name = destination.host if tls else None
                    return await self._connect(address, destination.port, tls, name)
            except TimeoutError:
                reason = "it took too long"
            except OSError as error:  # also of TLS
                reason = _reason(error)
        raise NotFetched(f"{destination.host} cannot be connected to: {reason}")


async def _ask(
    destination: Destination,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    largest: int,
) -> bytes:
    """Raises NotFetched, OSError, h11.ProtocolError."""
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET",
        target=destination.target,
        headers=[
            ("host", destination.authority),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", "spindle"),
            ("connection", "close"),
        ],
    )
    writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    body = bytearray()
    while True:
        match event := http.next_event():
            case h11.Response():
                _accept(destination.host, event)
            case h11.Data():
                body += event.data
                if len(body) > largest:
                    raise NotFetched(f"{destination.host} answers with more than {largest} bytes")
            case h11.EndOfMessage():
                return bytes(body)
            case _ if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_PIECE))
            case _:  # an informational answer, of which h11 lets some come
                pass


def _accept(host: str, response: h11.Response) -> None:
    """Raises NotFetched for all but a plain 200."""
    status = response.status_code
    if 300 <= status < 400:
        raise NotFetched(f"{host} answers with a redirect ({status}), and none is followed")
    if status != 200:
        raise NotFetched(f"{host} answers with status {status}")
    for name, value in response.headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise NotFetched(f"{host} answers in a content encoding that was not asked for")


def _tls(authorities: Path | None) -> ssl.SSLContext:
    """Raises NotFetched when the file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:  # also of a file without certificates
        raise NotFetched(f"the certificates in {authorities}: {_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _shown(address: str) -> str:
    """An address of a resolver, or the fact that it is none."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return "what is no address"


def _reason(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not good: {error.verify_message}"
        case ConnectionError() if error.errno:
            return os.strerror(error.errno)  # asyncio's own words repeat the address
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return str(error)
