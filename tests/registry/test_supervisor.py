"""The supervisor of several processes, in moments that seldom come."""

from __future__ import annotations

import subprocess
import sys

TOLD_RIGHT_AFTER_A_CHILD_ENDED = """
import os, signal
from registry import supervisor
from registry.config import load

wait = os.waitpid

def told(*arguments):
    ended = wait(*arguments)
    os.kill(os.getpid(), signal.SIGTERM)
    return ended

supervisor.os.waitpid = told
supervisor.run = lambda config, sockets, role: None  # every process ends at once
supervisor.supervise(load(flags={"registry.workers": "2"}), None)
"""


def test_to_be_told_to_stop_when_a_process_has_just_ended_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD_RIGHT_AFTER_A_CHILD_ENDED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
