"""One HTTP/1.1 exchange on a connection: the request as it arrives, the answer as it leaves."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

import h11

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host.io import CLOSED, failed

RECEIVE = 1 << 16
SEND_AT = 1 << 14  # bytes that collect before a write is worth its system call
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)

# Given on the answers that the worker makes itself.
BARE = (("content-length", b"0"),)


class Exchange:
    """Also the client as the guest's host functions know it: a Transport that can hang up.

    The head waits for the first bytes that have to go out, so that a short answer leaves in one
    piece with its length, and a guest that traps early can still be answered with 500.
    """

    def __init__(
        self,
        sock: socket.socket,
        wire: h11.Connection,
        request: h11.Request,
        *,
        capacity: int,
        part: Callable[[], bool],
    ) -> None:
        """`part` says, when the head leaves, whether the connection ends with this answer."""
        self.request = request
        self.body = RequestBody(self)
        self.aborted = False
        self.finished = False
        self._sock, self._wire, self._capacity = sock, wire, capacity
        self._part = part
        self._head: tuple[int, list[tuple[str, bytes]]] | None = None
        self._head_out = False
        self._pending: list[bytes] = []
        self._buffered = 0
        self._out = bytearray()
        self._closed = False
        self._bodiless = request.method == b"HEAD"
        # HTTP/1.0 has no chunks: a body that is sent as it comes would end with the connection,
        # whole or not. It is sent once it is whole, so it cannot be longer than `capacity`.
        self._late = request.http_version < b"1.1"

    # The answer

    @property
    def started(self) -> bool:
        """Whether some of the answer may have left already."""
        return self._head_out

    def begin(self, status: int, headers: Sequence[tuple[str, bytes]]) -> None:
        self._head = (status, list(headers))
        self._bodiless = self._bodiless or status in (204, 304)

    def answer(
        self, status: int, headers: Sequence[tuple[str, bytes]] = (), body: bytes = b""
    ) -> None:
        """Replace whatever has not left yet by a whole answer."""
        assert not self._head_out
        self.aborted = self.finished = False
        self._pending.clear()
        self._buffered = 0
        self.begin(status, headers)
        self.write(body)
        self.finish()

    def room(self) -> int:
        if self.aborted or self._closed:
            raise Err(CLOSED)
        if self._buffered + len(self._out) >= SEND_AT:
            self.push()
            if self._closed:
                raise Err(CLOSED)
        left = max(0, self._capacity - self._buffered - len(self._out))
        if self._late and not left:
            self.abort()
            raise Err(CLOSED)
        return left

    def write(self, data: bytes) -> None:
        if data and not self._bodiless:
            self._pending.append(data)
            self._buffered += len(data)

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def push(self) -> None:
        """Send what the socket takes now."""
        if self._head is None or self.aborted or self._closed or (self._late and not self.finished):
            return
        if not self._head_out:
            self._send_head()
        if self._pending:
            # Framed as one chunk, however small the guest's writes were.
            data = b"".join(self._pending)
            self._pending.clear()
            self._buffered = 0
            self._out += self._wire.send(h11.Data(data=data)) or b""
        if self.finished and self._wire.our_state is h11.SEND_BODY:
            self._out += self._wire.send(h11.EndOfMessage()) or b""
        while self._out:
            try:
                sent = self._sock.send(self._out)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._closed = True
                return
            del self._out[:sent]

    def _send_head(self) -> None:
        assert self._head is not None
        status, items = self._head
        headers = [
            (name.encode(), value)
            for name, value in items
            if name.lower().encode() not in HOP_BY_HOP
        ]
        names = {name.lower() for name, _ in headers}
        if self.finished and b"content-length" not in names and not self._bodiless:
            headers.append((b"content-length", b"%d" % self._buffered))
        if self._part():
            headers.append((b"connection", b"close"))
        self._out += self._wire.send(h11.Response(status_code=status, headers=headers)) or b""
        self._head_out = True

    def pushed(self) -> bool:
        if self._late and not self.finished:
            return True  # as far as it goes for now
        return self._closed or not (self._out or self._pending)

    def drain(self, deadline: float) -> bool:
        """Send the rest of the answer; False when the client does not take it in time."""
        self.push()
        while not self.pushed():
            if not self._wait(select.POLLOUT, deadline):
                return False
            self.push()
        return not self._closed

    def interest(self, call: Call) -> tuple[int, int] | None:
        return None if self._closed else (self._sock.fileno(), select.POLLOUT)

    # The client

    def fileno(self) -> int:
        return self._sock.fileno()

    def gone(self) -> bool:
        """Whether the client hung up (one that merely ended its half did not)."""
        if not self._closed:
            poll = select.poll()
            poll.register(self._sock, 0)
            self._closed = any(
                events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0)
            )
        return self._closed

    def _wait(self, events: int, deadline: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, events)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

    # The request's body

    def receive(self) -> h11.Data | h11.EndOfMessage | None:
        """The next piece of the body that has arrived, None for not yet. Raises ConnectionError."""
        if self._wire.they_are_waiting_for_100_continue:
            self._out += (
                self._wire.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
            )
            self._sock.setblocking(True)
            try:
                self._sock.sendall(self._out)
            finally:
                self._sock.setblocking(False)
            self._out.clear()
        while True:
            try:
                event = self._wire.next_event()
            except h11.RemoteProtocolError as error:
                raise ConnectionError(f"the request's body: {error}") from None
            if event is h11.NEED_DATA:
                try:
                    self._wire.receive_data(self._sock.recv(RECEIVE))
                except (BlockingIOError, InterruptedError):
                    return None
            elif isinstance(event, h11.Data | h11.EndOfMessage):
                return event
            else:
                raise ConnectionError("the client hung up in the middle of the request")

    def discard(self, most: int) -> bool:
        """Read the rest of the request's body if it is here and short; False if it is not."""
        while self._wire.their_state is h11.SEND_BODY and most > 0:
            if self._wire.they_are_waiting_for_100_continue:
                return False
            try:
                event = self.receive()
            except ConnectionError:
                return False
            if not isinstance(event, h11.Data):
                return event is not None
            most -= len(event.data)
        return most > 0


class RequestBody:
    """The request's body as a guest's input-stream."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._data = b""
        self._ended = False
        self._broken = ""

    def _fill(self) -> None:
        if self._data or self._ended or self._broken:
            return
        try:
            event = self._exchange.receive()
        except (ConnectionError, OSError) as error:
            self._broken = str(error)
            return
        if isinstance(event, h11.Data):
            self._data = bytes(event.data)
        elif event is not None:
            self._ended = True

    def read(self, call: Call, length: int) -> bytes:
        self._fill()
        if self._broken:
            raise failed(self._broken, "connection-terminated")
        if not self._data and self._ended:
            raise Err(CLOSED)
        data, self._data = self._data[:length], self._data[length:]
        return data

    def ready(self, call: Call) -> bool:
        self._fill()
        return bool(self._data or self._ended or self._broken)

    def interest(self, call: Call) -> tuple[int, int] | None:
        return self._exchange.fileno(), select.POLLIN

    def due(self) -> float | None:
        return None


__all__ = ["BARE", "Exchange", "RequestBody"]
