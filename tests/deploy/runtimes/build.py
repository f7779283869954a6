"""Builds the real test component, once per change of its source.

`python tests/deploy/runtimes/build.py` prints its path; the fixture `python_app` calls `build`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

APPS = Path(__file__).parent / "apps"
TOOL = Path(sys.executable).with_name("componentize-py")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spindle-tests"


def build() -> Path:
    """The component's path, built if it is not there yet (15 s)."""
    key = hashlib.sha256(version("componentize-py").encode())
    for source in sorted(path for path in APPS.rglob("*") if path.suffix in (".py", ".wit")):
        key.update(str(source.relative_to(APPS)).encode() + b"\0" + source.read_bytes())
    target = _cache() / key.hexdigest() / "app.wasm"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        # Built in a copy: the tool reads every file it finds beside the module.
        shutil.copy(APPS / "app.py", work)
        draft = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [
                *(TOOL, "-d", APPS / "wit", "-w", "guest"),
                *("componentize", "-p", work, "app", "-o", draft),
            ],
            check=False,
            cwd=work,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"componentize-py failed:\n{done.stdout}{done.stderr}")
    os.replace(draft, target)
    return target


if __name__ == "__main__":
    print(build())
