"""The processes of a server with several workers: who has which connection, and their deaths."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.durability.wire import Broken, Line
from tests.servers import Spindle, is_alive, wait_for

_TRIES: Final = 2000  # connections; which worker takes one is the kernel's choice


@dataclass(frozen=True, slots=True)
class Connection:
    """The server's end of one; of the socket that listens, with `remote` 0."""

    remote: int
    """The port at the other end."""
    queued: int
    """Bytes not read, or connections not accepted."""
    inode: str


class Workers:
    """Those of a server that has just been started with `--workers count`."""

    def __init__(self, server: Spindle, count: int = 2) -> None:
        self._server = server
        self._count = count
        wait_for(lambda: len(self._children()) == count + 1, "the workers to be there")
        self._applications = self._children()[-1]  # is forked last
        self._killed: list[int] = []

    def _children(self) -> list[int]:
        pid = self._server.pid
        with contextlib.suppress(FileNotFoundError):
            return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]
        return []

    @property
    def registry(self) -> list[int]:
        """The processes that serve the registry now."""
        return [pid for pid in self._children() if pid != self._applications and is_alive(pid)]

    @property
    def files(self) -> int:
        """Files and connections that they have open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.registry)

    def wait(self) -> None:
        """Until all are there (again) and serve."""
        wait_for(lambda: len(self.registry) == self._count, "a worker to be replaced")
        for pid in self.registry:
            self.line(pid).close()

    def line(self, pid: int) -> Line:
        """A connection to one of them. Raises AssertionError when it takes none."""
        others: list[Line] = []
        try:
            for _ in range(_TRIES):
                line = Line(self._server.registry)
                with contextlib.suppress(Broken):
                    line.ask("GET", "/v2/")
                    if self.holder(line.port) == pid:
                        return line
                others.append(line)  # kept open, so that who has few takes the next
                if len(others) > 50:
                    others.pop(0).close()
        finally:
            for line in others:
                line.close()
        raise AssertionError(f"worker {pid} took none of {_TRIES} connections")

    def holder(self, port: int | None) -> int | None:
        """The worker that accepted the connection from this port of ours."""
        found = self._connection(port)
        if found is not None:
            for pid in self.registry:
                with contextlib.suppress(FileNotFoundError):
                    for file in Path(f"/proc/{pid}/fd").iterdir():
                        with contextlib.suppress(FileNotFoundError):
                            if os.readlink(file) == f"socket:[{found.inode}]":
                                return pid
        return None

    def unread(self, port: int) -> int | None:
        """Bytes from this port of ours that the server has not read yet; None: no connection."""
        found = self._connection(port)
        return None if found is None else found.queued

    @property
    def waiting(self) -> int:
        """Connections that no worker has accepted yet."""
        return sum(row.queued for row in self._connections() if row.remote == 0)

    def _connection(self, port: int | None) -> Connection | None:
        return next((row for row in self._connections() if port and row.remote == port), None)

    def _connections(self) -> Iterator[Connection]:
        """Those of the registry's port, the listening one too; proc(5), "net/tcp"."""
        ours = int(self._server.registry.rpartition(":")[2])
        for row in _read("/proc/net/tcp").splitlines()[1:]:
            _, local, remote, _, queues, _, _, _, _, inode, *_ = row.split()
            if _last(local) == ours:
                yield Connection(_last(remote), _last(queues), inode)

    def kill_one(self, chance: random.Random) -> int | None:
        """One that serves the registry, at random; None where there is none just now."""
        if not (alive := self.registry):
            return None
        pid = chance.choice(alive)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self) -> None:
        """The whole server, at one blow; `bury` must follow."""
        self._killed = [self._server.pid, *self._children()]
        for pid in self._killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def bury(self) -> None:
        """Until nothing of a server that was killed is left, so that it can be started again."""
        self._server.stop(signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, self._killed)), "the server to be dead")


def _last(pair: str) -> int:
    """The second of two hexadecimal numbers, such as a port."""
    return int(pair.rpartition(":")[2], 16)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
