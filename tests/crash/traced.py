"""The same deaths at real system calls, by strace: what the seam cannot see, or has forgotten.

A forked process waits until strace is attached, and then runs a scenario in its only thread: strace
counts the calls of each thread for itself, and of each name for itself. SIGKILL is sent when the
n-th call of a name begins; it is not done then. SQLite's own calls are among them.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.crash import journal
from tests.crash.journal import Told, Writer
from tests.crash.scenarios import Scenario
from tests.crash.steps import Steps, run_inline
from tests.crash.sweep import Stage, Swept, ended, forking

CALLS: Final = (
    *("openat", "write", "pwrite64", "ftruncate", "fsync", "fdatasync"),
    *("rename", "renameat2", "linkat", "unlink", "unlinkat", "mkdir", "fchmod"),
)
ALIKE: Final = 41  # of the 520 directories of a first start every so many-th is enough
_PR_SET_PTRACER: Final = 0x59616D61
_ANYBODY: Final = ctypes.c_ulong(-1)


class NotTraced(Exception):
    """strace cannot do its work here."""


def killed(stage: Stage, strace: str, call: str, number: int) -> tuple[int, Told]:
    """Run the scenario until a call of that name begins for the n-th time."""
    scenario = stage.scenario
    (waiting, go), (hearing, ready) = os.pipe(), os.pipe()

    async def work(pipe: int) -> None:
        # Where only a process's own children may be traced, and strace is none of ours.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
        run_inline(scenario.seed)
        os.write(ready, b"!")
        os.close(go)
        os.read(waiting, 1)
        await scenario.run(stage.root, Writer(pipe), Steps())

    stage.set()
    child, told = forking(work)
    os.close(ready)
    os.read(hearing, 1)
    tracer = subprocess.Popen(
        [
            *(strace, "-f", "-qq", "-o", "/dev/null", "-p", str(child)),
            *("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(tracer, child)
        os.write(go, b"!")
        lines = told.read().splitlines()
        status = ended(child)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        ended(child)
        raise
    finally:
        for end in (waiting, go, hearing):
            os.close(end)
        told.close()
        tracer.wait()
        assert tracer.stderr is not None
        tracer.stderr.close()
    return status, journal.read(lines)


def _wait_for(tracer: subprocess.Popen[bytes], child: int) -> None:
    status = Path(f"/proc/{child}/status")
    while "\nTracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            raise NotTraced(tracer.stderr.read().decode().strip())
        time.sleep(0.001)


def sweep(scenario: Scenario, scratch: Path, strace: str, *, stride: int = 1) -> Swept:
    """Every call of every name, or every so many-th, until the scenario ends undisturbed."""
    swept, began = Swept(f"{scenario}, traced"), time.perf_counter()
    stage = Stage(scenario, scratch)
    for call in CALLS:
        alike = call == "mkdir" and scenario.prepare is None
        for number in itertools.count(1, ALIKE if alike else stride):
            status, told = killed(stage, strace, call, number)
            where = f"{call} {number}"
            if status not in (0, -signal.SIGKILL):
                swept.wrong.append(f"{where}: it ended with {status}, {told.wrong}")
                break
            if status == 0:
                break
            swept.points += 1
            swept.wrong += [f"{where}: {sentence}" for sentence in stage.look(told)]
    swept.seconds = time.perf_counter() - began
    return swept
