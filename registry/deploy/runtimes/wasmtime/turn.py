"""Whose turn it is: the one lock under which guest code runs in a worker process."""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """A lock that is handed over in the order of asking.

    Guests share the interpreter lock whenever they call the host, and several at once only slow
    each other down (measured: 373 short requests/s with one at a time, 194 with two). Order
    matters because a guest that never calls the host gives its turn away and asks again at every
    tick; with an unfair lock it would win it back each time.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for the turn, at most `timeout` seconds (negative: for ever)."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            gate = threading.Lock()
            gate.acquire()
            self._queue.append(gate)
        if gate.acquire(timeout=timeout):
            return True
        with self._mutex:
            if gate in self._queue:
                self._queue.remove(gate)
                return False
        return True  # handed over between the timeout and the look

    def release(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False

    @property
    def wanted(self) -> bool:
        return bool(self._queue)
