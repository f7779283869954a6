"""What a process gives up before it touches anything that was pushed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

FILES = 1024
MOST_DESCRIPTORS = 1 << 20  # above what any server has open
OOM_SCORE = 500  # the kernel should take a worker before it takes the registry

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def confine(parent: int, *, keep: tuple[int, ...] = ()) -> None:
    """Confine this process. It dies with `parent`, and keeps only `keep` and the standard files."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE))
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MOST_DESCRIPTORS)
    # Last, since it makes files below /proc/self root's: other processes of this user can neither
    # trace this one nor read its memory, where the app's secrets are.
    _prctl(_PR_SET_DUMPABLE, 0)


def environment(root: str) -> dict[str, str]:
    """The whole environment of a confined process: nothing is inherited."""
    return {
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": root,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
