"""A connection over TLS, until its handshake is over: a member of the crowd like any other.

asyncio would tell nobody of a connection before its handshake is over, so that thousands could
stand there uncounted. So it is accepted as a plain one, and becomes one over TLS with the first
bytes that its client sends: who sends none costs no more than without TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.server import ServerState

from registry.answers import Manner, reset
from registry.connections import Connection
from registry.crowd import Crowd
from registry.heads import Refused
from registry.tls import Certificates, common_name

_HELLO: Final = 0x16  # the first byte of a TLS handshake
_UNSENT: Final = 64 << 10  # bytes that wait for a client before the application is told to wait
# The crowd ends handshakes and farewells before; asyncio's own patience would break off an answer
# that a slow client is still taking.
_LONG: Final = 3600.0

_PLAIN: Final = Refused(400, "this port speaks HTTPS; ask for https:// in place of http://")


class Handshake(asyncio.Protocol):
    """Made for each that is accepted."""

    def __init__(
        self,
        crowd: Crowd,
        manner: Manner,
        certificates: Certificates,
        connection: Callable[[], Connection],
        state: ServerState,
    ) -> None:
        self.address: str | None = None
        self._crowd = crowd
        self._manner = manner
        self._certificates = certificates
        self._connection = connection
        self._state = state
        self._until = crowd.clock() + crowd.settings.handshake
        self._wire: asyncio.Transport | None = None
        self._task: asyncio.Task[asyncio.Transport] | None = None
        self._early: list[bytes] = []  # of requests, while the handshake is just over
        self._over = False
        self._aborted = False  # by us, for what was counted then

    def connection_made(self, transport: Any) -> None:
        self._wire = transport  # uvloop's are no asyncio.Transport, and no less than one
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else None
        self._state.connections.add(self)  # type: ignore[arg-type]
        if not self._crowd.enter(self):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._task is not None:
            self._early.append(data)
            return
        assert self._wire is not None
        if data[0] != _HELLO:
            self._say_plainly(self._wire)
            return
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._begin(self._wire))
        self._task.add_done_callback(self._shaken)
        # What we have read is the beginning of the handshake. The one who goes on with it is in
        # place after the task's first step, and begins with the step after that, before any more
        # is read.
        loop.call_soon(loop.call_soon, self._hand_over, data)

    async def _begin(self, wire: asyncio.Transport) -> asyncio.Transport:
        transport = await asyncio.get_running_loop().start_tls(
            wire,
            self,
            self._certificates.context,
            server_side=True,
            ssl_handshake_timeout=_LONG,
            ssl_shutdown_timeout=_LONG,
        )
        assert transport is not None
        return transport

    def _hand_over(self, data: bytes) -> None:
        assert self._wire is not None
        reader: Any = self._wire.get_protocol()  # a BufferedProtocol
        if reader is self:  # it was ended before it began
            return
        left = memoryview(data)
        while left:
            buffer = memoryview(reader.get_buffer(len(left)))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            reader.buffer_updated(size)
            left = left[size:]

    def _shaken(self, task: asyncio.Task[asyncio.Transport]) -> None:
        was_over = self._over
        self._go()
        if task.cancelled():
            return
        if task.exception() is not None:
            if not self._aborted:
                self._crowd.counts["handshake"] += 1
            return
        transport = task.result()
        if was_over or transport.is_closing():
            transport.abort()
            return
        transport.set_write_buffer_limits(high=_UNSENT)
        connection = self._connection()
        connection.wire = self._wire
        connection.certified = common_name(transport.get_extra_info("peercert"))
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._early and not transport.is_closing():
            connection.data_received(b"".join(self._early))

    def connection_lost(self, exc: Exception | None) -> None:
        self._go()

    def _go(self) -> None:
        self._over = True
        self._state.connections.discard(self)
        self._crowd.gone(self)

    def _say_plainly(self, wire: asyncio.Transport) -> None:
        head, body = self._manner.answer(_PLAIN, self._state.default_headers)
        wire.write(head + body)
        wire.close()
        self._crowd.refused[_PLAIN.status] += 1

    # What is not waited for

    def look(self, now: float) -> None:
        if now > self._until and not self._over:
            self._crowd.counts["handshake"] += 1
            self.abort()

    def leave(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._aborted = True
        self._go()
        assert self._wire is not None
        reset(self._wire)

    def shutdown(self) -> None:
        """The server stops."""
        self.abort()


def shaking(
    connected: Callable[..., Any], crowd: Crowd, manner: Manner, certificates: Certificates
) -> Callable[..., Handshake]:
    """What `http_protocol_class` of a uvicorn.Config has to be, for TLS."""

    def make(server_state: ServerState, **named: Any) -> Handshake:
        return Handshake(
            crowd,
            manner,
            certificates,
            lambda: connected(server_state=server_state, **named),
            server_state,
        )

    return make
