"""What guests print: JSON lines in a file that cannot grow without end."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime

MOST = 5 << 20  # bytes of the file before it becomes `….1`
LINE = 8 << 10  # bytes of a line; longer ones are cut into several
RATE = 256 << 10  # bytes a second, per worker, in the long run
BURST = 1 << 20
TAIL = 20  # lines that a failed start reports


class Log:
    """Shared by the threads of a worker; the file is shared by the workers of an instance.

    Every record is one `write` to a file opened for appending, so records of several processes do
    not mix. Whoever finds the file too long renames it; the others notice that they write to a
    file which is no longer there, when that one is too long as well.
    """

    def __init__(self, path: str, revision: int) -> None:
        self._path, self._revision = path, revision
        self._lock = threading.Lock()
        self._fd = self._open()
        self._budget, self._counted, self._dropped = float(BURST), time.monotonic(), 0
        self.tail: deque[str] = deque(maxlen=TAIL)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def line(self, component: str, stream: str, text: bytes) -> None:
        line = text.decode("utf-8", "replace")
        with self._lock:
            self.tail.append(line)
            if not self._afford(len(text) + 128):
                self._dropped += 1
                return
            record = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "component": component,
                "stream": stream,
                "revision": self._revision,
                "line": line,
            }
            if self._dropped:
                lost = f"{self._dropped} lines were dropped: the app printed too much"
                self._dropped = 0
                self._write({**record, "stream": "host", "line": lost})
            self._write(record)

    def close(self) -> None:
        os.close(self._fd)

    def _afford(self, size: int) -> bool:
        now = time.monotonic()
        self._budget = min(BURST, self._budget + (now - self._counted) * RATE)
        self._counted = now
        if self._budget < size:
            return False
        self._budget -= size
        return True

    def _write(self, record: dict[str, object]) -> None:
        try:
            os.write(self._fd, json.dumps(record).encode() + b"\n")
            if os.fstat(self._fd).st_size > MOST:
                self._rotate()
        except OSError:
            self._dropped += 1  # a full disk must not fail the app's requests

    def _rotate(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # freed with the descriptor
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                os.replace(self._path, f"{self._path}.1")
        except FileNotFoundError:
            pass
        fresh = self._open()
        os.close(self._fd)
        self._fd = fresh


class Lines:
    """Cuts the output of one request into lines."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._open: dict[tuple[str, str], bytes] = {}

    def write(self, component: str, stream: str, data: bytes) -> None:
        *whole, rest = (self._open.get((component, stream), b"") + data).split(b"\n")
        for line in whole:
            self._cut(component, stream, line)
        while len(rest) > LINE:
            self._log.line(component, stream, rest[:LINE])
            rest = rest[LINE:]
        self._open[component, stream] = rest

    def _cut(self, component: str, stream: str, line: bytes) -> None:
        for start in range(0, max(1, len(line)), LINE):
            self._log.line(component, stream, line[start : start + LINE])

    def close(self) -> None:
        for (component, stream), rest in self._open.items():
            if rest:
                self._log.line(component, stream, rest)
        self._open.clear()
