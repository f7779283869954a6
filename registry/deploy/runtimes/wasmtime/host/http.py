"""wasi:http/types 0.2: requests, responses and their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from registry.deploy.runtimes.wasmtime.abi import Err, Just
from registry.deploy.runtimes.wasmtime.call import Call, Transport
from registry.deploy.runtimes.wasmtime.host.fields import (
    TOKEN,
    Fields,
    TooMuch,
    content_length,
    types,
)
from registry.deploy.runtimes.wasmtime.host.io import (
    CLOSED,
    PIECE,
    Always,
    Input,
    IoError,
    Waiting,
    failed,
)

INTERFACES = (types,)

METHODS = frozenset(
    ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")
)
HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(?P<port>[0-9]{1,5}))?")
"""An authority without user information, which requests must not carry."""
PATH = re.compile(r"[^\x00-\x20\x7f#]*")


@types("http-error-code")
def http_error_code(call: Call, error: IoError) -> Any:
    return error.code


# Incoming: the request to a guest, and the response to a guest's request.


class IncomingBody:
    def __init__(self, stream: Input) -> None:
        self.stream: Input | None = stream

    def close(self) -> None:
        close = getattr(self.stream, "close", None)
        if close is not None:
            close()


class IncomingRequest:
    def __init__(
        self,
        method: str,
        path: str,
        scheme: str,
        authority: str,
        headers: Sequence[tuple[str, bytes]],
        body: Input,
    ) -> None:
        self.method, self.path, self.scheme, self.authority = method, path, scheme, authority
        self.headers = Fields(headers, mutable=False)
        self.body: IncomingBody | None = IncomingBody(body)


class IncomingResponse:
    def __init__(self, status: int, headers: Sequence[tuple[str, bytes]], body: Input) -> None:
        self.status = status
        self.headers = Fields(headers, mutable=False)
        self.body: IncomingBody | None = IncomingBody(body)

    def close(self) -> None:
        if self.body is not None:
            self.body.close()


class FutureTrailers(Always):
    """Trailers are read from the wire and dropped: the guest is told that there were none."""

    def __init__(self) -> None:
        self.asked = False


def lift_method(value: Any) -> str:
    """The method's name on the wire. Raises Err for one that cannot be there."""
    name = value[1] if isinstance(value, tuple) else value.upper()
    if not TOKEN.fullmatch(name):
        raise Err
    return str(name)


def lower_method(name: str) -> Any:
    return name.lower() if name.lower() in METHODS and name.isupper() else ("other", name)


def lower_scheme(name: str) -> Any:
    return name.upper() if name.lower() in ("http", "https") else ("other", name)


@types("[method]incoming-request.method")
def request_method(call: Call, self: IncomingRequest) -> Any:
    return lower_method(self.method)


@types("[method]incoming-request.path-with-query")
def request_path(call: Call, self: IncomingRequest) -> str:
    return self.path


@types("[method]incoming-request.scheme")
def request_scheme(call: Call, self: IncomingRequest) -> Any:
    return lower_scheme(self.scheme)


@types("[method]incoming-request.authority")
def request_authority(call: Call, self: IncomingRequest) -> str | None:
    return self.authority or None


@types(
    "[method]incoming-request.headers",
    "[method]incoming-response.headers",
    "[method]outgoing-request.headers",
    "[method]outgoing-response.headers",
)
def headers(call: Call, self: Any) -> Fields:
    fields: Fields = self.headers
    return fields


@types("[method]incoming-response.status")
def response_status(call: Call, self: IncomingResponse) -> int:
    return self.status


@types("[method]incoming-request.consume", "[method]incoming-response.consume")
def consume(call: Call, self: Any) -> IncomingBody:
    body, self.body = self.body, None
    if body is None:
        raise Err
    taken: IncomingBody = body
    return taken


@types("[method]incoming-body.stream")
def body_stream(call: Call, self: IncomingBody) -> Input:
    stream, self.stream = self.stream, None
    if stream is None:
        raise Err
    return stream


@types("[static]incoming-body.finish")
def body_finish(call: Call, body: IncomingBody) -> FutureTrailers:
    body.close()
    return FutureTrailers()


@types("[method]future-trailers.subscribe", "[method]future-incoming-response.subscribe")
def subscribe(call: Call, self: Any) -> Waiting:
    return Waiting(self)


@types("[method]future-trailers.get")
def trailers_get(call: Call, self: FutureTrailers) -> Any:
    if self.asked:
        return Err()
    self.asked = True
    return Just(None)


# Outgoing: the response of a guest, and the request that a guest makes.


class OutgoingBody:
    """Counts what the guest writes; holds it while there is nobody yet to send it to."""

    def __init__(self, capacity: int, size_error: str) -> None:
        self.declared: int | None = None
        self.written = 0
        self.finished = False
        self.broken = False
        self.stream_taken = False
        self._capacity = capacity
        self._size_error = size_error
        self._held: list[bytes] = []
        self._transport: Transport | None = None

    def attach(self, transport: Transport, declared: int | None) -> None:
        self._transport, self.declared = transport, declared
        for data in self._held:
            transport.write(data)
        self._held.clear()
        if declared is not None and self.written > declared:
            self.broken = True
        if self.broken:
            transport.abort()
        elif self.finished:
            self.finish()

    # As a stream

    def room(self, call: Call) -> int:
        if self.broken or self.finished:
            raise Err(CLOSED)
        if self._transport is None:
            return max(0, min(PIECE, self._capacity - self.written))
        return min(PIECE, self._transport.room())

    def write(self, call: Call, data: bytes) -> None:
        self.written += len(data)
        if self.declared is not None and self.written > self.declared:
            self.abort()
            raise failed("more bytes than content-length", (self._size_error, self.written))
        if self._transport is None:
            self._held.append(data)
        else:
            self._transport.write(data)

    def flush(self, call: Call) -> None:
        if self._transport is not None:
            self._transport.push()

    def flushed(self, call: Call) -> bool:
        return self._transport is None or self._transport.pushed()

    def ready(self, call: Call) -> bool:
        try:
            return self.room(call) > 0
        except Err:
            return True

    def interest(self, call: Call) -> tuple[int, int] | None:
        return None if self._transport is None else self._transport.interest(call)

    def due(self) -> float | None:
        return None

    # As a body

    def finish(self) -> None:
        self.finished = True
        if self._transport is None:
            return
        if self.declared is not None and self.written != self.declared:
            self.abort()
            raise Err((self._size_error, self.written))
        self._transport.finish()

    def abort(self) -> None:
        self.broken = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        # "If … dropped without calling finish, the body is incomplete": never a clean end.
        if not self.finished:
            self.abort()


class _BodyStream:
    """The output-stream of a body; dropping it does not end the body."""

    def __init__(self, body: OutgoingBody) -> None:
        self.room, self.write = body.room, body.write
        self.flush, self.flushed = body.flush, body.flushed
        self.ready, self.interest, self.due = body.ready, body.interest, body.due


class OutgoingResponse:
    def __init__(self, fields: Fields, capacity: int) -> None:
        self.status = 200
        self.headers = fields.frozen()
        self.body = OutgoingBody(capacity, "HTTP-response-body-size")
        self.body_taken = False

    def close(self) -> None:
        if not self.body_taken:
            self.body.close()


class Outparam:
    """The place for the answer to a request. The host sees `used` when the guest has ended."""

    def __init__(self) -> None:
        self.used = False


@types("[constructor]outgoing-response")
def new_response(call: Call, fields: Fields) -> OutgoingResponse:
    return OutgoingResponse(fields, call.component.buffer)


@types("[method]outgoing-response.status-code")
def status_code(call: Call, self: OutgoingResponse) -> int:
    return self.status


@types("[method]outgoing-response.set-status-code")
def set_status_code(call: Call, self: OutgoingResponse, status: int) -> None:
    if not 200 <= status <= 599:  # informational ones are not final, and h11 knows none above
        raise Err
    self.status = status


@types("[method]outgoing-response.body", "[method]outgoing-request.body")
def outgoing_body(call: Call, self: Any) -> OutgoingBody:
    if self.body_taken:
        raise Err
    self.body_taken = True
    body: OutgoingBody = self.body
    return body


@types("[method]outgoing-body.write")
def outgoing_body_write(call: Call, self: OutgoingBody) -> _BodyStream:
    if self.stream_taken:
        raise Err
    self.stream_taken = True
    return _BodyStream(self)


@types("[static]outgoing-body.finish")
def outgoing_body_finish(call: Call, body: OutgoingBody, trailers: Fields | None) -> None:
    """Trailers are accepted and dropped: few clients read any, and gateways drop them too."""
    if body.broken:
        raise Err((body._size_error, body.written))
    body.finish()


@types("[static]response-outparam.set")
def set_outparam(call: Call, param: Outparam, response: OutgoingResponse | Err) -> None:
    param.used = True
    assert call.client is not None
    if isinstance(response, Err):
        code = response.value
        call.output.write(call.component.id, "host", f"the guest answered {code!r}\n".encode())
        call.client.begin(500, [])
        call.client.finish()
        return
    try:
        declared = content_length(response.headers)
    except Err:
        raise TooMuch("its content-length is not a number") from None
    call.client.begin(response.status, response.headers.items)
    if not response.body_taken:
        response.body_taken = True
        response.body.finished = True
    response.body.attach(call.client, declared)
