"""A process of its own for a piece of work, that never outlives this one."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

import structlog

from registry.pulse import Pulse

_PR_SET_PDEATHSIG: Final = 1
HEARD: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""The signals that this process has handlers for, which the other one must not have."""


def fork(work: Callable[[Pulse], None]) -> tuple[int, int]:
    """The process, and the end of a pipe on which its pulse is heard; reads of it do not block.

    Must be called before any thread or event loop exists in this process.
    """
    hears, tells = os.pipe()
    os.set_blocking(hears, False)
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # What comes for us in between must not be lost in the other one's copy of our handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        pid = os.fork()
        if not pid:
            _be(parent, lambda: work(Pulse(tells)))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    os.close(tells)
    return pid, hears


def _be(parent: int, work: Callable[[], None]) -> None:
    """Does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Ctrl-C and the end of a terminal reach the whole group; we decide.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        # Workers must not outlive a supervisor that was killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        faulthandler.enable()  # on SIGABRT, too
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
