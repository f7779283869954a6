"""A connection between client and server that can break, and that remembers what was said on it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Final, Self

_REQUEST: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/\S*) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n"
)
_ANSWER: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) [^\r\n]*\r\n")
_RESET: Final = struct.pack("ii", 1, 0)  # a close that does not wait, nor say goodbye


@dataclass(frozen=True)
class Exchange:
    """A request, and the status of its answer; 0 when there was none."""

    method: str
    target: str
    headers: dict[str, str]
    status: int


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = (client, server)
        self.said = (bytearray(), bytearray())  # by the client, by the server


class Proxy:
    """`with Proxy(server.registry) as proxy:`; clients then talk to `proxy.registry`.

    The bodies of a connection are not parsed: what is pushed through it must not look like HTTP.
    """

    def __init__(self, registry: str) -> None:
        host, _, port = registry.partition(":")
        self._upstream = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.registry = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._connections: list[_Connection] = []
        self._cut: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self.cuts = 0

    def cut_uploads_after(self, count: int) -> None:
        """Once a client has sent that many bytes on one connection, break it; once."""
        self._cut = (0, count)

    def cut_downloads_after(self, count: int) -> None:
        """The same for what the server sends."""
        self._cut = (1, count)

    @property
    def exchanges(self) -> list[Exchange]:
        """In the order of each connection; connections in the order they were made."""
        return [found for connection in self._connections for found in _exchanges(connection)]

    def said(self, method: str, pattern: str = "") -> list[Exchange]:
        """Those of one method whose target matches."""
        return [
            found
            for found in self.exchanges
            if found.method == method and re.search(pattern, found.target)
        ]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            _break(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            connection = _Connection(client, socket.create_connection(self._upstream))
            self._connections.append(connection)
            for side in (0, 1):
                threading.Thread(target=self._pump, args=(connection, side), daemon=True).start()

    def _pump(self, connection: _Connection, side: int) -> None:
        source, target = connection.sockets[side], connection.sockets[1 - side]
        try:
            while data := source.recv(1 << 14):
                connection.said[side].extend(data)
                if self._due(side, len(connection.said[side])):
                    _break(connection)
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            _break(connection)

    def _due(self, side: int, said: int) -> bool:
        with self._lock:
            if self._cut is None or self._cut[0] != side or said < self._cut[1]:
                return False
            self._cut = None
            self.cuts += 1
            return True


def _exchanges(connection: _Connection) -> list[Exchange]:
    statuses = [int(found[1]) for found in _ANSWER.finditer(bytes(connection.said[1]))]
    found = []
    for at, request in enumerate(_REQUEST.finditer(bytes(connection.said[0]))):
        lines = request[3].decode("latin-1").splitlines()
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        status = statuses[at] if at < len(statuses) else 0
        found.append(Exchange(request[1].decode(), request[2].decode(), headers, status))
    return found


def _break(connection: _Connection) -> None:
    for one in connection.sockets:
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()
