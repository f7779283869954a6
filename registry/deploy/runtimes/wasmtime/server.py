"""A worker's HTTP server: one thread that watches connections, a few that answer requests."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import threading
import time

import h11

from registry.deploy.runtimes import Limits
from registry.deploy.runtimes.wasmtime.application import MOST_HEAD, Application
from registry.deploy.runtimes.wasmtime.exchange import Exchange
from registry.deploy.runtimes.wasmtime.logs import Log
from registry.deploy.runtimes.wasmtime.stamps import Stamps

HEAD_TIME = 10.0  # seconds for the rest of a request's head, once its first byte is here
IDLE_TIME = 75.0  # seconds that an unused connection is kept
MOST_IDLE = 512  # kept connections; well below the limit of open files
LINGER = 1.0  # seconds in which a client can read an answer given before its request was read
DISCARD = 256 << 10  # bytes of a body that nobody read, to keep the connection


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.wire = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self.since = time.monotonic()


class Server:
    def __init__(
        self,
        application: Application,
        limits: Limits,
        *,
        log: Log,
        stamps: Stamps,
        place: int,
    ) -> None:
        """`place` is the worker's row in the stamps."""
        self._limits, self._application, self._log = limits, application, log
        self._stamps, self._place = stamps, place
        self._work: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._busy = 0
        self._idle: list[Connection] = []  # what threads hand back, until the watcher takes it
        self._lock = threading.Lock()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    # The watching thread

    def run(self, listener: socket.socket, control: int) -> None:
        """Serve until `control` is readable and says so, or ends: then finish what is under way."""
        limit = self._limits.concurrency
        for slot in range(limit):
            threading.Thread(
                target=self._answer_all, args=(slot,), name=f"request-{slot}", daemon=True
            ).start()
        listener.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(self._woken, selectors.EVENT_READ, "wake")
        selector.register(control, selectors.EVENT_READ, "control")
        idle: set[Connection] = set()
        accepting = draining = False

        while True:
            with self._lock:
                busy = self._busy
                back, self._idle = self._idle, []
            for connection in back:
                if draining:
                    connection.sock.close()
                    continue
                selector.register(connection.sock, selectors.EVENT_READ, connection)
                idle.add(connection)
            if draining and not busy and not self._idle:
                return
            # A worker that has nobody to answer leaves new connections to the others.
            want = busy < limit and len(idle) < MOST_IDLE and not draining
            if want and not accepting:
                selector.register(listener, selectors.EVENT_READ, "listener")
            elif accepting and not want:
                selector.unregister(listener)
            accepting = want

            for key, _ in selector.select(IDLE_TIME if idle else None):
                if key.data == "listener":
                    try:
                        sock, _ = listener.accept()
                    except OSError:
                        continue  # another worker was quicker
                    self._give(Connection(sock))
                elif key.data == "wake":
                    os.read(self._woken, 4096)
                elif key.data == "control":
                    order = os.read(control, 4096)
                    if not order:
                        os._exit(0)  # the supervisor is gone: so is the reason to live
                    draining = True
                    listener.close()
                    for connection in idle:
                        selector.unregister(connection.sock)
                        connection.sock.close()
                    idle.clear()
                else:
                    connection = key.data
                    selector.unregister(connection.sock)
                    idle.discard(connection)
                    self._give(connection)
            old = time.monotonic() - IDLE_TIME
            for connection in [c for c in idle if c.since < old]:
                selector.unregister(connection.sock)
                idle.discard(connection)
                connection.sock.close()

    def _give(self, connection: Connection) -> None:
        with self._lock:
            self._busy += 1
        self._work.put(connection)

    def _crowded(self) -> bool:
        """Whether a client should rather come back on a new connection.

        A kept connection is tied to this worker, also when it is the only one that is busy; a
        new one is accepted by whichever worker is free.
        """
        return self._busy > 1 and self._stamps.idle_beside(self._place)

    # The answering threads

    def _answer_all(self, slot: int) -> None:
        while True:
            connection = self._work.get()
            try:
                keep = self._answer(connection, slot)
            except Exception as error:
                self._log.line("", "host", f"{type(error).__name__}: {error}".encode())
                keep = False
            if not keep:
                _hang_up(connection)
            with self._lock:
                self._busy -= 1
                if keep:
                    connection.since = time.monotonic()
                    self._idle.append(connection)
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b".")

    def _answer(self, connection: Connection, slot: int) -> bool:
        """Answer the requests that are there; say whether the connection can be kept."""
        wire = connection.wire
        while True:
            request = self._head(connection)
            if request is None:
                return False
            self._stamps.begin(self._place, slot)
            try:
                exchange = Exchange(
                    connection.sock,
                    wire,
                    request,
                    capacity=max(self._limits.body, 1 << 16),
                    part=self._crowded,
                )
                deadline = time.monotonic() + self._limits.wall
                self._application.answer(exchange, deadline)
                if exchange.aborted or not exchange.drain(deadline):
                    return False
                exchange.discard(DISCARD)
            finally:
                self._stamps.end(self._place, slot)
            if wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                return False
            wire.start_next_cycle()
            if not wire.trailing_data[0]:
                return True

    def _head(self, connection: Connection) -> h11.Request | None:
        wire, sock = connection.wire, connection.sock
        end = time.monotonic() + HEAD_TIME
        try:
            while True:
                event = wire.next_event()
                if isinstance(event, h11.Request):
                    return event
                if event is not h11.NEED_DATA:
                    return None
                sock.settimeout(max(0.001, end - time.monotonic()))
                try:
                    wire.receive_data(sock.recv(1 << 16))
                finally:
                    sock.setblocking(False)
        except h11.RemoteProtocolError as error:
            if wire.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                response = h11.Response(
                    status_code=error.error_status_hint,
                    headers=[(b"content-length", b"0"), (b"connection", b"close")],
                )
                with_end = (wire.send(response) or b"") + (wire.send(h11.EndOfMessage()) or b"")
                sock.send(with_end)
            return None
        except OSError:
            return None


def _hang_up(connection: Connection) -> None:
    """Close, but let the client read what was sent before: unread data would reset it."""
    sock = connection.sock
    try:
        if connection.wire.their_state not in (h11.SEND_BODY, h11.ERROR):
            return
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LINGER)
        end = time.monotonic() + LINGER
        while time.monotonic() < end and sock.recv(1 << 16):
            pass
    except OSError:
        pass
    finally:
        sock.close()
