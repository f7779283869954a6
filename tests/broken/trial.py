"""Proof that the checks can fail: `scripts/broken` breaks copies of the tree, and tests them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.broken.breaks import BREAKS, Break

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("registry", "storage", "tests")
LIMIT: Final = 120  # seconds
CONTROL_LIMIT: Final = 600  # seconds; for all of the tests, one after the other


@dataclass(frozen=True)
class Outcome:
    status: int
    """pytest's."""
    failed: str | None
    """The first test that failed, if any."""
    asserted: bool
    """Whether it failed by an assertion of its own, and not by whatever else can go wrong."""
    imported: tuple[str, ...]
    """Where `registry` and `storage` came from."""
    output: str

    @property
    def is_green(self) -> bool:
        return self.status == 0 and self.failed is None

    @property
    def is_red(self) -> bool:
        """Whether a test said no: a module that cannot be read is not that."""
        return self.status == 1 and self.failed is not None and self.asserted

    def __str__(self) -> str:
        if self.is_green:
            return "STAYED GREEN"
        return str(self.failed) if self.is_red else f"FAILED OTHERWISE\n{self.output}"


@contextmanager
def copied(broken: Break | None = None) -> Iterator[Path]:
    """A copy of the tree, in which one thing may be broken."""
    with tempfile.TemporaryDirectory(prefix="spindle-broken-") as scratch:
        tree = Path(scratch).resolve() / "tree"
        for name in COPIED:
            # Without its bytecode, which could be taken for that of a source as old and as long.
            shutil.copytree(
                ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "target")
            )
        shutil.copy(ROOT / "pyproject.toml", tree)
        if broken is not None:
            broken.apply(tree)
        yield tree


def run(tree: Path, *selection: str, limit: float = LIMIT) -> Outcome:
    """Run tests of a copy. Raises RuntimeError when none was run, or of another tree."""
    result = tree.with_name("result.json")
    # Nothing of a pytest around this one, nor of who started it, may have a say.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.broken.inside"),
            *(str(result), str(tree.with_name("scratch")), *selection),
        ],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )
    if not result.exists():
        raise RuntimeError(f"no test was run:\n{done.stdout}")
    told = json.loads(result.read_text())
    outcome = Outcome(**{**told, "imported": tuple(told["imported"]), "output": done.stdout})
    if not all(Path(file).is_relative_to(tree) for file in outcome.imported):
        raise RuntimeError(f"{outcome.imported} was tested, and not the copy in {tree}")
    return outcome


def unbroken() -> Outcome:
    """The control: every test that has to go red is green before."""
    with copied() as tree:
        chosen = dict.fromkeys(broken.caught_by for broken in BREAKS)
        return run(tree, *chosen, limit=CONTROL_LIMIT)


def tried(broken: Break) -> Outcome:
    with copied(broken) as tree:
        return run(tree, broken.caught_by)


def main() -> int:
    began = time.perf_counter()
    control = unbroken()
    print(f"{'(nothing)':72} {'green' if control.is_green else control}")
    print(*(f"  imported {file}" for file in control.imported), sep="\n", flush=True)
    red = 0
    for broken in BREAKS:
        outcome = tried(broken)
        red += outcome.is_red
        print(f"{broken.name:72} {outcome}", flush=True)
    seconds = time.perf_counter() - began
    print(f"{red} of {len(BREAKS)} breaks were noticed, in {seconds:.0f} s")
    return 0 if control.is_green and red == len(BREAKS) else 1


if __name__ == "__main__":
    sys.exit(main())
