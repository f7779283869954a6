"""Who is behind a proxy: what is believed of X-Forwarded-* and of Forwarded (RFC 7239).

Anybody can send such fields, so they count only from the networks that the settings name; and of
them only what those proxies wrote: the list is read from its end, where the nearest one wrote, for
as long as it tells of another trusted one. Before that stands what the client made up.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.heads import HOST, Field
from registry.settings import Networks
from registry.tls import certify

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
_HOST: Final = b"x-forwarded-host"

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'({_WORD})=(?:({_WORD})|"((?:[^"\\]|\\.)*)")')
_HIDDEN: Final = re.compile(r"(?:unknown|_[A-Za-z0-9._-]+)(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")
_NODE: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?"
)


class Unreadable(Exception):
    """A trusted proxy says something that makes no sense."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What one proxy says of whom it was asked by."""

    node: str
    scheme: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Client:
    address: str
    port: int
    """0 if it is not known."""
    scheme: str | None
    """By which the client asked the first trusted proxy: http or https; None if it is not told."""
    host: str | None


def seen(
    peer: tuple[str, int], fields: Sequence[Field], trusted: Networks, words: str
) -> Client | None:
    """Who asks through a peer; None if that is no trusted proxy, or tells nothing.

    `words` is the kind of fields that the proxies write: `x-forwarded` or `forwarded`. The other
    kind comes from the client, whom they pass it on from. Raises Unreadable.
    """
    if not within(peer[0], trusted):
        return None
    hops = _forwarded(fields) if words == "forwarded" else _x_forwarded(fields)
    found: Client | None = None
    address, port = peer
    for hop in hops:
        node = _node(hop.node)
        if node is not None:
            address, port = node
        scheme = hop.scheme.lower() if hop.scheme else None
        found = Client(
            address,
            port,
            scheme if scheme in ("http", "https") else None,
            hop.host if hop.host and HOST.fullmatch(hop.host.encode("latin-1")) else None,
        )
        if node is None or not within(address, trusted):
            break
    return found


def within(address: str, networks: Networks) -> bool:
    try:
        parsed = _plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _node(text: str) -> tuple[str, int] | None:
    """Address and port; None of somebody whom the proxy does not tell. Raises Unreadable."""
    if _HIDDEN.fullmatch(text):
        return None
    found = _NODE.fullmatch(text)
    host, port = (found[1] or found[2], found[3]) if found else (text, None)
    try:
        # A zone, `%eth0`, is a name that only the proxy's machine knows.
        address = str(_plain(ipaddress.ip_address(host.replace("%", "?"))))
    except ValueError:
        raise Unreadable("the proxy names a client by what is no address") from None
    number = int(port) if port and port.isdigit() else 0
    return address, number if number < 1 << 16 else 0


def _x_forwarded(fields: Sequence[Field]) -> Iterator[Hop]:
    """The nearest proxy's first."""
    listed = {name: _list(fields, name) for name in (_FOR, _PROTO, _HOST)}
    nodes = listed[_FOR]

    def beside(name: bytes, index: int) -> str | None:
        """What stands alone, or in a list as long as that of the addresses; else it is nothing."""
        values = listed[name]
        if len(values) == 1:
            return values[0]
        return values[index] if len(values) == len(nodes) else None

    for index in range(len(nodes) - 1, -1, -1):
        yield Hop(nodes[index], beside(_PROTO, index), beside(_HOST, index))


def _list(fields: Sequence[Field], name: bytes) -> list[str]:
    """RFC 9110, 5.3 and 5.6.1: several fields are one list, and empty elements are none."""
    joined = b",".join(value for key, value in fields if key == name).decode("latin-1")
    return [part for part in (part.strip(" \t") for part in joined.split(",")) if part]


def _forwarded(fields: Sequence[Field]) -> Iterator[Hop]:
    """The nearest proxy's first. Raises Unreadable.

    All of it is read: a quote that the client left open would take in what the proxy wrote.
    """
    text = b",".join(value for key, value in fields if key == b"forwarded").decode("latin-1")
    hops: list[Hop] = []
    element: dict[str, str] = {}
    place = 0
    while place < len(text):
        if text[place] in " \t;":
            place += 1
        elif text[place] == ",":
            hops += _hop(element)
            element = {}
            place += 1
        else:
            pair = _PAIR.match(text, place)
            name = pair[1].lower() if pair else ""
            if pair is None or name in element or text[pair.end() : pair.end() + 1] not in _AFTER:
                raise Unreadable("Forwarded is not as RFC 7239 has it")
            quoted = pair[3]
            element[name] = pair[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            place = pair.end()
    hops += _hop(element)
    return reversed(hops)


_AFTER: Final = ("", " ", "\t", ";", ",")


def _hop(element: dict[str, str]) -> list[Hop]:
    if not element:
        return []
    return [Hop(element.get("for", "unknown"), element.get("proto"), element.get("host"))]


class Proxied:
    """ASGI middleware, around all that asks who the client is."""

    def __init__(
        self, app: ASGIApp, trusted: Networks, words: str, *, code: str, rename: bool
    ) -> None:
        """`code` is that of the error for a proxy that cannot be understood.

        `rename`: whether the proxy's word counts for the Host, too. It does not where the Host
        decides which application answers: many proxies check that, and pass on X-Forwarded-Host.
        """
        self._app = app
        self._trusted = trusted
        self._words = words
        self._code = code
        self._rename = rename

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if scope["type"] != "http" or peer is None or not within(peer[0], self._trusted):
            await self._app(scope, receive, send)
            return
        try:
            client = seen(peer, scope["headers"], self._trusted, self._words)
        except Unreadable as error:
            await _refuse(send, self._code, str(error))
            return
        certify(scope, None)  # it would be the proxy's, and its clients are others
        if client is not None:
            scope["client"] = (client.address, client.port)
            scope["scheme"] = client.scheme or scope["scheme"]
            if self._rename and client.host is not None:
                rest = [field for field in scope["headers"] if field[0] != b"host"]
                scope["headers"] = [(b"host", client.host.encode("latin-1")), *rest]
        await self._app(scope, receive, send)


async def _refuse(send: Send, code: str, message: str) -> None:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": fields})
    await send({"type": "http.response.body", "body": body})
