"""wasi:io 0.2: errors, pollables and byte streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call, Source
from registry.deploy.runtimes.wasmtime.host import Interface

PIECE = 1 << 16
"""Most bytes of one read or write: a `list<u8>` costs 32 bytes a byte on its way across."""

error = Interface("wasi:io/error")
poll = Interface("wasi:io/poll")
streams = Interface("wasi:io/streams")
INTERFACES = (error, poll, streams)

CLOSED = "closed"


class IoError:
    """The resource `error`. `code` is the wasi:http error code, where one is known."""

    def __init__(self, text: str, code: Any = None) -> None:
        self.text, self.code = text, code


def failed(text: str, code: Any = None) -> Err:
    """A stream-error that carries its reason."""
    return Err(("last-operation-failed", IoError(text, code)))


class Input(Source, Protocol):
    """Behind an `input-stream`."""

    def read(self, call: Call, length: int) -> bytes:
        """What is there now, at most `length` bytes, b"" for nothing. Err(CLOSED) at the end."""


class Output(Source, Protocol):
    """Behind an `output-stream`."""

    def room(self, call: Call) -> int:
        """Bytes that a write would take now. Raises Err when closed."""

    def write(self, call: Call, data: bytes) -> None:
        """Take `data`, which fits `room`."""

    def flush(self, call: Call) -> None:
        """Start to send; does not wait."""

    def flushed(self, call: Call) -> bool: ...


class Always:
    """A source that never waits."""

    def ready(self, call: Call) -> bool:
        return True

    def interest(self, call: Call) -> tuple[int, int] | None:
        return None

    def due(self) -> float | None:
        return None


class Sink(Always):
    """An output that is taken at once, such as stdout."""

    def __init__(self, take: Callable[[Call, bytes], None]) -> None:
        self._take = take

    def room(self, call: Call) -> int:
        return PIECE

    def write(self, call: Call, data: bytes) -> None:
        self._take(call, data)

    def flush(self, call: Call) -> None:
        pass

    def flushed(self, call: Call) -> bool:
        return True


class Empty(Always):
    """An input that has ended, such as stdin."""

    def read(self, call: Call, length: int) -> bytes:
        raise Err(CLOSED)


class _Flushed:
    """Waits until an output has sent what it took."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def ready(self, call: Call) -> bool:
        self._output.flush(call)
        return self._output.flushed(call)

    def interest(self, call: Call) -> tuple[int, int] | None:
        return self._output.interest(call)

    def due(self) -> float | None:
        return None


@error("[method]error.to-debug-string")
def to_debug_string(call: Call, self: IoError) -> str:
    return self.text


@poll("[method]pollable.ready")
def ready(call: Call, self: Source) -> bool:
    return self.ready(call)


@poll("[method]pollable.block")
def block(call: Call, self: Source) -> None:
    call.wait([self])


@poll("poll")
def poll_list(call: Call, sources: list[Source]) -> list[int]:
    if not sources:
        raise ValueError("poll of an empty list")  # "This function traps if …"
    return call.wait(sources)


@streams("[method]input-stream.read")
def read(call: Call, self: Input, length: int) -> bytes:
    return self.read(call, min(length, PIECE)) if length else b""


@streams("[method]input-stream.blocking-read")
def blocking_read(call: Call, self: Input, length: int) -> bytes:
    if not length:
        return b""
    while not (data := self.read(call, min(length, PIECE))):
        call.wait([self])
    return data


@streams("[method]input-stream.skip")
def skip(call: Call, self: Input, length: int) -> int:
    return len(read(call, self, length))


@streams("[method]input-stream.blocking-skip")
def blocking_skip(call: Call, self: Input, length: int) -> int:
    return len(blocking_read(call, self, length))


class Waiting:
    """The pollable of a stream: another handle to the same source, which it does not own."""

    def __init__(self, source: Source) -> None:
        self.ready = source.ready
        self.interest = source.interest
        self.due = source.due


@streams("[method]input-stream.subscribe", "[method]output-stream.subscribe")
def subscribe(call: Call, self: Source) -> Source:
    return Waiting(self)


@streams("[method]output-stream.check-write")
def check_write(call: Call, self: Output) -> int:
    return self.room(call)


@streams("[method]output-stream.write")
def write(call: Call, self: Output, data: bytes) -> None:
    if len(data) > self.room(call):
        raise ValueError("write of more than check-write allowed")  # "… or this function will trap"
    self.write(call, data)


@streams("[method]output-stream.flush")
def flush(call: Call, self: Output) -> None:
    self.room(call)  # reports a closed stream
    self.flush(call)


@streams("[method]output-stream.blocking-flush")
def blocking_flush(call: Call, self: Output) -> None:
    self.room(call)
    call.wait([_Flushed(self)])
    self.room(call)


def _write_all(call: Call, output: Output, data: bytes) -> None:
    view = memoryview(data)
    while view:
        if room := min(output.room(call), PIECE):
            output.write(call, bytes(view[:room]))
            view = view[room:]
        else:
            call.wait([output])


@streams("[method]output-stream.blocking-write-and-flush")
def blocking_write_and_flush(call: Call, self: Output, data: bytes) -> None:
    # Waits for the room, not for the wire: `blocking-flush`, a wait or the end of the guest send
    # what is left, so a guest that writes in small pieces does not pay a system call for each.
    _write_all(call, self, data)


@streams("[method]output-stream.write-zeroes")
def write_zeroes(call: Call, self: Output, length: int) -> None:
    if length > self.room(call):
        raise ValueError("write of more than check-write allowed")
    self.write(call, bytes(length))


@streams("[method]output-stream.blocking-write-zeroes-and-flush")
def blocking_write_zeroes_and_flush(call: Call, self: Output, length: int) -> None:
    _write_all(call, self, bytes(min(length, PIECE)))


@streams("[method]output-stream.splice")
def splice(call: Call, self: Output, source: Input, length: int) -> int:
    room = min(self.room(call), length)
    data = read(call, source, room)
    self.write(call, data)
    return len(data)


@streams("[method]output-stream.blocking-splice")
def blocking_splice(call: Call, self: Output, source: Input, length: int) -> int:
    if not length:
        return 0
    while not self.room(call):
        call.wait([self])
    data = blocking_read(call, source, min(length, self.room(call)))
    self.write(call, data)
    return len(data)
