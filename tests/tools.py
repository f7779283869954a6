"""Programs outside Python that tests drive: on PATH, or the test is skipped (failed in CI)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def require(name: str) -> str:
    """The path of a program."""
    found = shutil.which(name)
    if found is None:
        without(f"{name} is not installed; scripts/tools or the system's packages have it")
    return found


def without(message: str) -> NoReturn:
    """Skip a test that cannot run here; in CI everything must."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def run(*command: str | Path, cwd: Path | None = None, ok: bool = True, timeout: float = 60) -> str:
    """Run a program; return what it wrote to standard output. With `ok`, it must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if ok and done.returncode != 0:
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    if not ok and done.returncode == 0:
        pytest.fail(f"{' '.join(map(str, command))} should have failed:\n{done.stdout}")
    return done.stdout if ok else done.stdout + done.stderr
