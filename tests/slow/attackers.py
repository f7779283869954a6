"""Clients that hold a server: each in a way of its own, and back again when it was thrown out.

A process of its own, so that it does not slow the one that measures: it prints `ready` when all
are connected, and at the end of its input how often they were thrown out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Final

from tests.servers import raise_descriptors

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Attack:
    def __init__(self, host: str, port: int, blob: str, pause: float, again: bool) -> None:
        self.host, self.port, self.blob, self.pause, self.again = host, port, blob, pause, again
        self.connected = 0
        self.ended = 0

    async def run(self, behave: Callable[[Streams], Coroutine[None, None, None]]) -> None:
        while True:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.setblocking(False)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.get_running_loop().sock_connect(made, (self.host, self.port))
                streams = await asyncio.open_connection(sock=made, limit=1)
                self.connected += 1
                try:
                    await behave(streams)
                finally:
                    streams[1].transport.abort()
            made.close()
            self.ended += 1
            if not self.again:
                return
            await asyncio.sleep(self.pause)

    async def silent(self, streams: Streams) -> None:
        """Send nothing."""
        await streams[0].read()

    async def header(self, streams: Streams) -> None:
        """Send a header that never ends, a field now and then."""
        streams[1].write(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n")
        await self._drip(streams, b"X: y\r\n")

    async def body(self, streams: Streams) -> None:
        """Send an upload a byte at a time."""
        streams[1].write(
            b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n"
        )
        await self._drip(streams, b" ")

    async def read(self, streams: Streams) -> None:
        """Ask for a large blob, and take a byte of it now and then, if that."""
        transport = streams[1].transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        streams[1].write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % self.blob.encode())
        while not transport.is_closing():
            await asyncio.sleep(self.pause)
            info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, 11, 1)
            if info[0] != 1:  # tcp_info.tcpi_state: no longer established
                return

    async def _drip(self, streams: Streams, piece: bytes) -> None:
        ended = asyncio.ensure_future(streams[0].read())
        while not ended.done():
            streams[1].write(piece)
            await asyncio.wait([ended], timeout=self.pause)
        await ended


KINDS: Final = ("silent", "header", "body", "read")


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("server", help="HOST:PORT")
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--blob", default="/v2/", help="path of something large")
    options.add_argument("--pause", type=float, default=1.0, help="seconds between two bytes")
    options.add_argument("--once", action="store_true", help="who was thrown out stays out")
    given = options.parse_args()
    raise_descriptors(given.count + 100)
    host, _, port = given.server.rpartition(":")
    attack = Attack(host, int(port), given.blob, given.pause, not given.once)
    behave = getattr(attack, given.kind)
    tasks = [asyncio.create_task(attack.run(behave)) for _ in range(given.count)]
    while attack.connected < given.count:  # noqa: ASYNC110 - of sockets, not of ours
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    asked = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    everybody = asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait([asked, everybody], return_when=asyncio.FIRST_COMPLETED)
    print(attack.ended, flush=True)
    for task in tasks:
        task.cancel()
    await everybody


if __name__ == "__main__":
    asyncio.run(main())
