"""One request inside one instance: its handles, its budgets, its turns."""

from __future__ import annotations

import itertools
import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from registry.deploy.runtimes.wasmtime.outbound import Outbound
from registry.deploy.runtimes.wasmtime.plan import Component
from registry.deploy.runtimes.wasmtime.turn import Turn

NOWHERE = Outbound()

PATIENCE = 5
"""Ticks in which a guest may end by itself, before what it wrote so far is sent on."""


class Stopped(Exception):
    """The host ends the guest; the text is for the log."""


class OutOfTime(Stopped):
    pass


class Abandoned(Stopped):
    pass


class Source(Protocol):
    """Something a guest can wait for."""

    def ready(self, call: Call) -> bool: ...

    def interest(self, call: Call) -> tuple[int, int] | None:
        """A file descriptor and poll events that announce a change, if that is what does."""

    def due(self) -> float | None:
        """The monotonic time at which it becomes ready by itself, if it does."""


class Transport(Protocol):
    """Where the bytes of an outgoing body go."""

    def room(self) -> int:
        """Bytes that `write` takes now. Raises Err("closed") when nobody reads any more."""

    def write(self, data: bytes) -> None: ...

    def push(self) -> None:
        """Send what can be sent without waiting."""

    def pushed(self) -> bool: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
    def interest(self, call: Call) -> tuple[int, int] | None: ...


class Client(Transport, Protocol):
    """Who gets the answer."""

    def gone(self) -> bool: ...
    def fileno(self) -> int: ...
    def begin(self, status: int, headers: Sequence[tuple[str, bytes]]) -> None: ...


class Output(Protocol):
    def write(self, component: str, stream: str, data: bytes) -> None: ...


class Call:
    """What host functions get as their first argument.

    CPU is counted by the thread's own clock, so neither waiting nor the other guests of this
    worker are charged. `deadline` is a monotonic time; every wait ends there.
    """

    def __init__(
        self,
        component: Component,
        *,
        turn: Turn,
        client: Client | None,
        output: Output,
        deadline: float,
        cpu: float,
        outbound: Outbound = NOWHERE,
        own_socket: str | None = None,
    ) -> None:
        self.component = component
        self.client = client
        self.output = output
        self.deadline = deadline
        self.own_socket = own_socket
        self.fault: BaseException | None = None
        self.context: Any = None
        self.outgoing = 0
        self.outbound = outbound
        self._turn = turn
        self._cpu_end = time.thread_time() + cpu
        self._table: dict[int, object] = {}
        self._reps = itertools.count(1)
        self._wake_fd: int | None = None
        self._ticks = 0

    # Handles: the number the guest's handle stands for, and the host's object.

    def put(self, thing: object) -> int:
        rep = next(self._reps)
        self._table[rep] = thing
        return rep

    def get(self, rep: int) -> object:
        return self._table[rep]

    def take(self, rep: int) -> object:
        return self._table.pop(rep)

    def drop(self, rep: int) -> None:
        close = getattr(self._table.pop(rep, None), "close", None)
        if close is not None:
            close()

    def close(self) -> None:
        while self._table:
            self.drop(next(iter(self._table)))
        if self._wake_fd is not None:
            os.close(self._wake_fd)
            self._wake_fd = None

    # Time

    def tick(self) -> None:
        """Called at every epoch, in the middle of guest code. Raises to end the guest."""
        self._check()
        if time.thread_time() > self._cpu_end:
            raise OutOfTime("it used all the CPU time that a request may have")
        self._ticks += 1
        if self.client is not None and self._ticks > PATIENCE:
            self.client.push()
        if self._turn.wanted:
            self._turn.release()
            self._turn.acquire()

    def _check(self) -> None:
        if time.monotonic() >= self.deadline:
            raise OutOfTime("it did not finish within the time that a request may take")
        if self.client is not None and self.client.gone():
            raise Abandoned("the client went away")

    def remaining(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Let other guests run while this one waits. What it wrote so far goes out first."""
        if self.client is not None:
            self.client.push()
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()

    def wait(self, sources: Sequence[Source]) -> list[int]:
        """Wait until at least one source is ready; return the places of those that are."""
        while True:
            ready = [i for i, source in enumerate(sources) if source.ready(self)]
            if ready:
                return ready
            self._check()
            poll = select.poll()
            end = self.deadline
            watched: dict[int, int] = {}
            for source in sources:
                if (due := source.due()) is not None:
                    end = min(end, due)
                if (interest := source.interest(self)) is not None:
                    fd, events = interest
                    watched[fd] = watched.get(fd, 0) | events
            if self.client is not None:
                watched.setdefault(self.client.fileno(), 0)  # a hang-up is reported unasked
            for fd, events in watched.items():
                poll.register(fd, events)
            with self.blocking():
                poll.poll(max(0.0, end - time.monotonic()) * 1000)
            if self._wake_fd is not None:
                _clear(self._wake_fd)

    def wake_fd(self) -> int:
        """An event that other threads set (`os.eventfd_write`) to make `wait` look again."""
        if self._wake_fd is None:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._wake_fd


def _clear(fd: int) -> None:
    with suppress(BlockingIOError):
        os.eventfd_read(fd)


class _Current(threading.local):
    call: Call | None = None


_current = _Current()


def current() -> Call:
    """The call that this thread is running. Guest code runs on the thread that entered it."""
    assert _current.call is not None
    return _current.call


@contextmanager
def entered(call: Call) -> Iterator[None]:
    _current.call = call
    try:
        yield
    finally:
        _current.call = None
