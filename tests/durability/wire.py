"""HTTP by hand: connections that are cut anywhere, and answers that may never come."""

from __future__ import annotations

import enum
import http.client
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 60.0  # seconds; an answer that takes longer counts as none
CHUNK: Final = 64 << 10  # bytes in each chunk of a chunked body


class Broken(Exception):
    """The connection ended before the answer did: nobody knows what became of the request."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def kept(self) -> int:
        """Bytes that the answer about an upload session says are kept; 0 where it is silent."""
        found = re.fullmatch("0-([0-9]+)", self.headers.get("range", ""))
        return int(found[1]) + 1 if found else 0


class Line:
    """One connection, made anew after it broke. Requests go one after another."""

    def __init__(self, registry: str) -> None:
        self._connection = http.client.HTTPConnection(registry, timeout=PATIENCE)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Raises Broken. A body in pieces needs a Content-Length."""
        try:
            self._connection.request(method, path, body, dict(headers or {}))
            with self._connection.getresponse() as answer:
                content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Broken(f"{method} {path}: {error!r}") from None
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, named, content)

    @property
    def port(self) -> int | None:
        """Our end of the connection, if there is one."""
        open_socket: socket.socket | None = self._connection.sock
        return open_socket.getsockname()[1] if open_socket else None

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ask(
    registry: str,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own, which any worker may get. Raises Broken."""
    with Line(registry) as line:
        return line.ask(method, path, body, {**(headers or {}), "Connection": "close"})


class Ending(enum.Enum):
    """How a client goes."""

    FIN = "FIN"
    RST = "RST"
    STALL = "stall"
    """It says nothing for a while, and is cut then."""


class Framing(enum.Enum):
    """How a body says where it ends."""

    LENGTH = "Content-Length"
    CHUNKED = "chunked"


class Half:
    """A request of which only a part was sent."""

    def __init__(
        self,
        registry: str,
        method: str,
        path: str,
        part: bytes,
        *,
        whole: int,
        framing: Framing,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send `part` of a body of `whole` bytes. Raises Broken."""
        host, _, port = registry.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        length = framing is Framing.LENGTH
        fields = {
            "Host": registry,
            **(headers or {}),
            **({"Content-Length": str(whole)} if length else {"Transfer-Encoding": "chunked"}),
        }
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        try:
            self._socket.sendall(head.encode() + b"\r\n" + (part if length else _chunked(part)))
        except OSError as error:
            self._socket.close()
            raise Broken(f"{method} {path}: {error!r}") from None

    @property
    def port(self) -> int:
        """Our end of the connection."""
        port: int = self._socket.getsockname()[1]
        return port

    def cut(self, ending: Ending) -> None:
        if ending is Ending.RST:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def _chunked(part: bytes) -> bytes:
    """The chunks of a body that goes on: of the last one some byte is always missing."""
    pieces = []
    for start in range(0, len(part), CHUNK):
        piece = part[start : start + CHUNK]
        whole = len(piece) == CHUNK
        pieces.append(b"%x\r\n%b" % (CHUNK, piece) + (b"\r\n" if whole else b""))
    return b"".join(pieces)
