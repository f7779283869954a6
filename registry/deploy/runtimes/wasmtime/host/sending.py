"""A request that a guest makes, on its way.

Each runs in a thread of its own on `http.client`, fed and read through small queues, so that a
guest can stream both ways and have several under way. A response is read after the request has
been sent whole: there is no full duplex.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
from collections import deque
from typing import Any

from registry.addresses import denied
from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host.fields import FORBIDDEN, Fields
from registry.deploy.runtimes.wasmtime.host.http import IncomingResponse, OutgoingBody
from registry.deploy.runtimes.wasmtime.host.io import CLOSED, PIECE, failed

QUEUE = 1 << 18  # bytes that wait in each direction


class OutgoingRequest:
    def __init__(self, fields: Fields, capacity: int) -> None:
        self.method = "GET"
        self.path: str | None = None
        self.scheme: str | None = None
        self.authority: str | None = None
        self.headers = fields.frozen()
        self.body = OutgoingBody(capacity, "HTTP-request-body-size")
        self.body_taken = False

    def close(self) -> None:
        if not self.body_taken:
            self.body.close()


class RequestOptions:
    def __init__(self) -> None:
        self.timeouts: dict[str, int] = {}


class Pipe:
    """A bounded queue of bytes between the guest's thread and the request's."""

    def __init__(self, exchange: Sending) -> None:
        self._exchange = exchange
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False

    def put(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)

    def get(self, most: int) -> bytes:
        data = self.chunks.popleft()
        if len(data) > most:
            self.chunks.appendleft(data[most:])
            data = data[:most]
        self.size -= len(data)
        return data


class Sending:
    """A request under way: the future of its response, the sink of its body."""

    def __init__(
        self, call: Call, request: OutgoingRequest, options: RequestOptions | None
    ) -> None:
        self._call = call
        call.outgoing += 1
        self._wake = os.dup(call.wake_fd())  # ours: the call may end while the thread lives
        self._request = request
        self._timeouts = dict(options.timeouts) if options is not None else {}
        self._changed = threading.Condition()
        self._up = Pipe(self)
        self._down = Pipe(self)
        self._result: IncomingResponse | Err | None = None
        self._closed = False
        self._down_error = ""
        self._connection: http.client.HTTPConnection | None = None

    # The guest's side

    def start(self, connection: http.client.HTTPConnection, length: int | None) -> None:
        self._connection = connection
        self._length = length
        threading.Thread(target=self._run, name="outgoing", daemon=True).start()

    def room(self) -> int:
        if self._closed:
            raise Err(CLOSED)
        return max(0, QUEUE - self._up.size)

    def write(self, data: bytes) -> None:
        with self._changed:
            self._up.put(data)
            self._changed.notify_all()

    def push(self) -> None:
        pass

    def pushed(self) -> bool:
        return self._closed or not self._up.chunks

    def finish(self) -> None:
        with self._changed:
            self._up.ended = True
            self._changed.notify_all()

    def abort(self) -> None:
        self.close()

    def interest(self, call: Call) -> tuple[int, int] | None:
        return call.wake_fd(), select.POLLIN

    @property
    def result(self) -> IncomingResponse | Err | None:
        """The response, or why there is none; None until it is known."""
        return self._result

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        connection = self._connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # The request's side, in its own thread

    def _run(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            self._send(connection)
            response = connection.getresponse()
            headers = [
                (name, value.encode("latin-1"))
                for name, value in response.getheaders()
                if name.lower() not in FORBIDDEN
            ]
            self._settle(IncomingResponse(response.status, headers, ResponseBody(self)))
            self._receive(response)
        except Exception as error:
            self._settle(Err(_code(error)), str(error))
        finally:
            connection.close()
            self._notify()
            with self._changed:
                self._closed = True
            self._call.outgoing -= 1
            os.close(self._wake)

    def _send(self, connection: http.client.HTTPConnection) -> None:
        request = self._request
        connection.timeout = self._timeout("connect")
        connection.connect()
        if connection.sock is not None:
            connection.sock.settimeout(self._timeout("first-byte"))
        connection.putrequest(
            request.method, request.path or "/", skip_host=True, skip_accept_encoding=True
        )
        connection.putheader("host", request.authority or "self")
        for name, value in request.headers.items:
            if name.lower() != "content-length":
                connection.putheader(name, value)
        first = self._next_up() if self._length is None else b""
        chunked = self._length is None and bool(first)
        if chunked:
            connection.putheader("transfer-encoding", "chunked")
        elif self._length is not None:
            connection.putheader("content-length", str(self._length))
        elif request.method in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", "0")
        connection.endheaders()
        # Whoever answers early and hangs up did not want the rest: the answer says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            data = first
            while data or (data := self._next_up()):
                connection.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
                data = b""
            if chunked:
                connection.send(b"0\r\n\r\n")

    def _next_up(self) -> bytes:
        with self._changed:
            while not self._up.chunks:
                if self._closed:
                    raise ConnectionAbortedError("the guest dropped the request")
                if self._up.ended:
                    return b""
                if not self._changed.wait(self._call.remaining()):
                    raise TimeoutError("no more of the request's body came")
            data = self._up.get(PIECE)
        self._notify()
        return data

    def _receive(self, response: http.client.HTTPResponse) -> None:
        try:
            while data := response.read1(PIECE):
                with self._changed:
                    self._down.put(data)
                    while self._down.size > QUEUE and not self._closed:
                        self._notify()
                        self._changed.wait(self._call.remaining() + 1)
                    if self._closed:
                        return
                self._notify()
            if response.length:  # http.client's read1 does not mind a body that is cut short
                raise http.client.IncompleteRead(b"", response.length)
        except Exception as error:
            self._down_error = str(error) or type(error).__name__
        with self._changed:
            self._down.ended = True

    def _settle(self, result: IncomingResponse | Err, reason: str = "") -> None:
        if self._result is None:
            self._result = result
        else:
            self._down_error = self._down_error or reason
            self._down.ended = True
        self._notify()

    def _notify(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _timeout(self, name: str) -> float:
        asked = self._timeouts.get(name)
        left = max(0.001, self._call.remaining())
        return left if asked is None else max(0.001, min(left, asked / 1e9))

    # The response's body, on the guest's side again

    def read_down(self, length: int) -> bytes:
        with self._changed:
            if self._down.chunks:
                data = self._down.get(length)
                self._changed.notify_all()
                return data
            if self._down_error:
                raise failed(self._down_error, "connection-terminated")
            if self._down.ended:
                raise Err(CLOSED)
            return b""

    def down_ready(self) -> bool:
        return bool(self._down.chunks or self._down.ended or self._down_error)


class ResponseBody:
    """The response's body as an input-stream."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending

    def read(self, call: Call, length: int) -> bytes:
        return self._sending.read_down(length)

    def ready(self, call: Call) -> bool:
        return self._sending.down_ready()

    def interest(self, call: Call) -> tuple[int, int] | None:
        return call.wake_fd(), select.POLLIN

    def due(self) -> float | None:
        return None

    def close(self) -> None:
        self._sending.close()


def _code(error: Exception) -> Any:
    match error:
        case Prohibited():
            return PROHIBITED
        case socket.gaierror():
            return ("DNS-error", {"rcode": None, "info-code": None})
        case ssl.SSLCertVerificationError():
            return "TLS-certificate-error"
        case ssl.SSLError():
            return "TLS-protocol-error"
        case TimeoutError():
            return "connection-timeout"
        case ConnectionRefusedError():
            return "connection-refused"
        case OSError() | http.client.RemoteDisconnected() | http.client.IncompleteRead():
            return "connection-terminated"
        case http.client.HTTPException():
            return "HTTP-protocol-error"
    return ("internal-error", type(error).__name__)


PROHIBITED = "destination-IP-prohibited"


class Prohibited(OSError):
    pass


def connect_public(address: tuple[str, int], timeout: float | None, *_: object) -> socket.socket:
    """Connect to a public address of the name, and to no other.

    The address that was looked at is the one that is connected to: a name that resolves
    differently the second time gains nothing.
    """
    last: OSError = Prohibited(f"{address[0]} has only private addresses")
    for family, kind, proto, _name, target in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        if denied(str(target[0])):
            continue
        sock = socket.socket(family, kind, proto)
        sock.settimeout(timeout)
        try:
            sock.connect(target)
        except OSError as error:
            sock.close()
            last = error
            continue
        return sock
    raise last


class OwnConnection(http.client.HTTPConnection):
    """To the application's own socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("self", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
