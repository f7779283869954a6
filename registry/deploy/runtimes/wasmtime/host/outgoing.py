"""wasi:http/outgoing-handler 0.2: what a guest may request, and how it says so."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

from registry.deploy.runtimes.wasmtime.abi import Err, Just
from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host import Interface
from registry.deploy.runtimes.wasmtime.host.fields import Fields, content_length, types
from registry.deploy.runtimes.wasmtime.host.http import (
    HOST,
    PATH,
    lift_method,
    lower_method,
    lower_scheme,
)
from registry.deploy.runtimes.wasmtime.host.sending import (
    PROHIBITED,
    QUEUE,
    OutgoingRequest,
    OwnConnection,
    RequestOptions,
    Sending,
    connect_public,
)
from registry.deploy.runtimes.wasmtime.outbound import DEFAULT_PORTS

handler = Interface("wasi:http/outgoing-handler")
INTERFACES = (handler,)

MOST_AT_ONCE = 16  # requests under way per call: each is a thread


class FutureResponse:
    """The resource `future-incoming-response`. Dropped unread, it gives the request up."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._taken = False

    def ready(self, call: Call) -> bool:
        return self._sending.result is not None

    def interest(self, call: Call) -> tuple[int, int] | None:
        return self._sending.interest(call)

    def due(self) -> float | None:
        return None

    def get(self) -> Any:
        result = self._sending.result
        if result is None:
            return None
        if self._taken:
            return Err()
        self._taken = True
        return Just(Just(result)) if isinstance(result, Err) else result

    @property
    def prohibited(self) -> bool:
        """Whether it failed because only private addresses were found."""
        result = self._sending.result
        return isinstance(result, Err) and result.value == PROHIBITED

    def close(self) -> None:
        if not self._taken:
            self._sending.close()


def _destination(request: OutgoingRequest) -> tuple[str, str, int]:
    """Scheme, host and port. Raises Err."""
    scheme = (request.scheme or "https").lower()
    if scheme not in DEFAULT_PORTS:
        raise Err("HTTP-protocol-error")
    found = HOST.fullmatch(request.authority or "")
    if found is None:
        raise Err("HTTP-request-URI-invalid")
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
    if port > 65535:
        raise Err("HTTP-request-URI-invalid")
    return scheme, found["host"], port


@handler("handle")
def handle(call: Call, request: OutgoingRequest, options: RequestOptions | None) -> FutureResponse:
    if call.outgoing >= MOST_AT_ONCE:
        raise Err(("internal-error", "too many requests at once"))
    length = content_length(request.headers)
    to_self = request.authority in (None, "", "self")
    connection: http.client.HTTPConnection
    if to_self:
        if not call.outbound.allows_self or call.own_socket is None:
            raise Err("HTTP-request-denied")
        connection = OwnConnection(call.own_socket, call.remaining())
    else:
        scheme, host, port = _destination(request)
        if not call.outbound.allows(scheme, host, port):
            text = f"a request to {scheme}://{host}:{port} is not in allowed_outbound_hosts\n"
            call.output.write(call.component.id, "host", text.encode())
            raise Err("HTTP-request-denied")
        bare = host.strip("[]")
        if scheme == "https":
            connection = http.client.HTTPSConnection(bare, port, context=_tls())
        else:
            connection = http.client.HTTPConnection(bare, port)
        if not call.component.private_networks:
            connection._create_connection = connect_public  # type: ignore[attr-defined] # the one seam
    if not request.body_taken:
        request.body_taken = True
        request.body.finished = True
    sending = Sending(call, request, options)
    sending.start(connection, length)
    request.body.attach(sending, length)
    return FutureResponse(sending)


_context: ssl.SSLContext | None = None


def _tls() -> ssl.SSLContext:
    global _context  # reading the system's certificates takes 20 ms
    if _context is None:
        _context = ssl.create_default_context()
    return _context


@types("[method]future-incoming-response.get")
def future_get(call: Call, self: FutureResponse) -> Any:
    taken = self.get()
    if isinstance(taken, Just) and self.prohibited:
        text = b"a request to a private address was stopped; runtime.private_networks allows them\n"
        call.output.write(call.component.id, "host", text)
    return taken


@types("[constructor]outgoing-request")
def new_request(call: Call, fields: Fields) -> OutgoingRequest:
    return OutgoingRequest(fields, QUEUE)


@types("[method]outgoing-request.method")
def method(call: Call, self: OutgoingRequest) -> Any:
    return lower_method(self.method)


@types("[method]outgoing-request.set-method")
def set_method(call: Call, self: OutgoingRequest, value: Any) -> None:
    self.method = lift_method(value)


@types("[method]outgoing-request.path-with-query")
def path(call: Call, self: OutgoingRequest) -> str | None:
    return self.path


@types("[method]outgoing-request.set-path-with-query")
def set_path(call: Call, self: OutgoingRequest, value: str | None) -> None:
    if value is not None and not PATH.fullmatch(value):
        raise Err
    self.path = value


@types("[method]outgoing-request.scheme")
def scheme(call: Call, self: OutgoingRequest) -> Any:
    return None if self.scheme is None else lower_scheme(self.scheme)


@types("[method]outgoing-request.set-scheme")
def set_scheme(call: Call, self: OutgoingRequest, value: Any) -> None:
    name = value[1] if isinstance(value, tuple) else value
    if name is not None and not name.isascii():
        raise Err
    self.scheme = name


@types("[method]outgoing-request.authority")
def authority(call: Call, self: OutgoingRequest) -> str | None:
    return self.authority


@types("[method]outgoing-request.set-authority")
def set_authority(call: Call, self: OutgoingRequest, value: str | None) -> None:
    if value is not None and not HOST.fullmatch(value):
        raise Err
    self.authority = value


@types("[constructor]request-options")
def new_options(call: Call) -> RequestOptions:
    return RequestOptions()


def _option(name: str) -> None:
    @types(f"[method]request-options.{name}-timeout")
    def get(call: Call, self: RequestOptions) -> int | None:
        return self.timeouts.get(name)

    @types(f"[method]request-options.set-{name}-timeout")
    def set_(call: Call, self: RequestOptions, value: int | None) -> None:
        if value is None:
            self.timeouts.pop(name, None)
        else:
            self.timeouts[name] = value


for _name in ("connect", "first-byte", "between-bytes"):
    _option(_name)
