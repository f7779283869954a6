"""Requests and answers on their way through the gateway: what passes, stops, is added. Pure.

RFC 9110 section 7.6.1: fields that describe one connection, and those that Connection names, are
not passed on. What a client says about itself in our own or Spin's words is not believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import Scope
from yarl import URL

from registry.deploy.runtimes import CLIENT_ADDRESS, CLIENT_SCHEME

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case, in the order in which they came."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# `expect`: our server sends 100 Continue itself, once an instance is there to take the body.
_STOPPED = frozenset({b"expect", b"forwarded", b"host", b"http2-settings", b"x-real-ip"})
_STOPPED_PREFIXES = (b"spin-", b"x-forwarded-", b"x-spindle-")

# What Connection may not name: without these a request would mean something else.
_END_TO_END = frozenset({b"host", b"content-length", b"cookie", b"authorization"})


class RequestInvalid(Exception):
    """Not passed on; the message says why, `status` is the answer's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request as an instance gets it."""

    method: str
    host: str
    path: str
    """Percent-encoded as it came."""
    query: str
    has_body: bool
    fields: list[tuple[str, str]]

    @staticmethod
    def parse(scope: Scope) -> Request:
        """Raises RequestInvalid."""
        fields: Fields = scope["headers"]
        path: bytes = scope["raw_path"]
        if not path.startswith(b"/"):
            raise RequestInvalid("the target of the request must be a path that begins with '/'")
        if any(name == b"upgrade" and value.lower() == b"websocket" for name, value in fields):
            raise RequestInvalid("WebSockets are not passed on to applications", 501)
        host = _host(fields)
        return Request(
            scope["method"],
            host,
            path.decode("ascii"),
            scope["query_string"].decode("ascii"),
            _has_body(fields),
            upwards(fields, host, scope["client"], scope["scheme"]),
        )

    def url(self, host: str, port: int) -> URL:
        """`encoded`: the path must arrive byte for byte, dot segments and all."""
        return URL.build(
            scheme="http",
            host=host,
            port=port,
            path=self.path,
            query_string=self.query,
            encoded=True,
        )


def upwards(
    fields: Fields, host: str, client: tuple[str, int] | None, scheme: str
) -> list[tuple[str, str]]:
    """Raises RequestInvalid. `client` is None behind a unix socket."""
    stopped = _HOP_BY_HOP | _STOPPED | _named(fields)
    try:
        passed = [
            (name.decode("ascii"), value.decode())
            for name, value in fields
            if name not in stopped and not name.startswith(_STOPPED_PREFIXES)
        ]
    except UnicodeDecodeError:
        # The client library writes UTF-8 only; other bytes would be changed on the way.
        raise RequestInvalid("a header field is not UTF-8; encode its value") from None
    if client is not None:
        address, port = client
        bracketed = f"[{address}]" if ":" in address else address
        passed += [("x-forwarded-for", address), (CLIENT_ADDRESS, f"{bracketed}:{port}")]
    return [
        ("host", host),
        *passed,
        ("x-forwarded-host", host),
        (CLIENT_SCHEME, scheme),
    ]


def downwards(fields: Iterable[tuple[bytes, bytes]], status: int) -> Fields:
    """The answer's fields as the client gets them; names as they came."""
    listed = [(name.lower(), value) for name, value in fields]
    stopped = _HOP_BY_HOP | _named(listed)
    if status in (204, 304):
        # A 204 must not have one; a 304 may, but our server would miss the body it announces.
        stopped |= {b"content-length"}
    return [field for field in listed if field[0] not in stopped]


def _host(fields: Fields) -> str:
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1:  # RFC 9110 section 7.2
        raise RequestInvalid("send exactly one Host header; it decides who answers")
    return hosts[0].decode("latin-1")


def _has_body(fields: Fields) -> bool:
    """RFC 9112 section 6.3; the server has refused all that is ambiguous."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) != 0)
        for name, value in fields
    )


def _named(fields: Fields) -> frozenset[bytes]:
    """The fields that Connection names."""
    tokens = {
        token.strip().lower()
        for name, value in fields
        if name == b"connection"
        for token in value.split(b",")
    }
    return frozenset(tokens) - _END_TO_END
