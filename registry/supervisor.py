"""Keeps the processes of a server with several registry workers alive."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import structlog

from registry.server import Role, Sockets, run
from registry.settings import Config

_PR_SET_PDEATHSIG = 1
_BACKOFF = 1.0  # seconds before a process that died is replaced; a crash loop costs little


def supervise(config: Config, sockets: Sockets) -> None:
    """Fork the workers, replace those that die, and stop them all on SIGTERM or SIGINT.

    Must be called before any thread or event loop exists in this process.
    """
    log = structlog.get_logger()
    wanted = [Role.REGISTRY] * config.registry.workers + [Role.APPLICATIONS]
    running: dict[int, Role] = {}
    stopping = False

    def stop(signal_number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for pid in running:
            with suppress(ProcessLookupError):  # it has just ended, and been waited for
                os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)

    def start(role: Role) -> None:
        running[_fork(lambda: run(config, sockets, role))] = role
        if stopping:  # told while we forked
            stop(signal.SIGTERM, None)

    for role in wanted:
        start(role)
    while running:
        pid, status = os.waitpid(-1, 0)
        role = running.pop(pid, Role(0))
        if stopping or not role:
            continue
        log.error("a process died; starting another", pid=pid, role=role.name, status=status)
        time.sleep(_BACKOFF)
        if not stopping:
            start(role)


def _fork(work: Callable[[], None]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; we decide
        # Workers must not outlive a supervisor that was killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            work()
            code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        structlog.get_logger().exception("a process failed")
    finally:
        sys.stderr.flush()
        os._exit(code)
