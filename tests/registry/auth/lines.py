"""Both ends of a request for tests: a server that says what it is told to, and a line to it.

Nothing here leaves the machine: whatever address is to be connected to, `Line` notes it and
connects to a server of the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from registry.auth.outbound import Streams

Answer = bytes | Callable[[bytes], bytes]
"""Or what makes it of a request's target."""


class Server:
    """One request on each connection."""

    def __init__(self, answer: Answer = b"") -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.asked = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            self.asked.set()
            await self.answering.wait()
            target = head.split(b" ")[1]
            writer.write(self.answer if isinstance(self.answer, bytes) else self.answer(target))
            await writer.drain()
        writer.transport.abort() if self.answer == b"" else writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):  # the test is over
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def serving(
        self, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.answering.set()
            await server.wait_closed()


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Line:
    """Connects to `port` of this machine, and notes where it would have been."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connected: list[tuple[str, int]] = []

    async def __call__(
        self, address: str, port: int, tls: ssl.SSLContext | None, server_name: str | None
    ) -> Streams:
        assert _is_address(address), "a name would be resolved again"
        self.connected.append((address, port))
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname=server_name
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Names:
    """A resolver that knows some names, and numbers in all spellings that the system knows."""

    def __init__(self, known: Mapping[str, Sequence[str]]) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host in self.known:
            return self.known[host]
        found = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
        return [str(sockaddr[0]) for *_, sockaddr in found]
