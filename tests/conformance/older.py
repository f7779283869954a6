"""The conformance suite of the distribution spec's version 1.1.1: most published results are of it.

No module index serves it, so its program is given: in the specification's repository, at the tag
v1.1.1, `go test -c` in `conformance/` makes it. `scripts/conformance PROGRAM` runs it last.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALTERNATIVES: Final = frozenset(
    {
        # What it reads from its environment, for a registry that cannot be pushed to.
        "Pull Setup Get tag name from environment",
        "Content Discovery Setup Populate registry with test tags (no push)",
        # What it asks of a registry that does not mount.
        "Push Cross-Repository Blob Mount Cross-mounting of nonexistent blob should yield"
        " session id",
        "Push Cross-Repository Blob Mount Cross-mounting without from, and automatic content"
        " discovery disabled should return a 202",
    }
)
"""Tests that are left out where their counterpart is run."""

ORDERS: Final[Mapping[str, Mapping[str, str]]] = {
    "manifests first": {"OCI_DELETE_MANIFEST_BEFORE_BLOBS": "1"},
    "blobs first": {"OCI_DELETE_MANIFEST_BEFORE_BLOBS": "0"},
}
"""It deletes what it pushed in the one order or in the other."""

_TESTS: Final = 80  # a suite counts as one
_PREFIX: Final = "OCI Distribution Conformance Tests "


@dataclass(frozen=True)
class Outcome:
    total: int
    skipped: frozenset[str]
    failed: frozenset[str]

    @property
    def met(self) -> bool:
        """Whether all ran that could, and passed."""
        return self == Outcome(_TESTS, ALTERNATIVES, frozenset())

    def __str__(self) -> str:
        passed = self.total - len(self.skipped) - len(self.failed)
        return f"{passed} of {self.total} passed, {len(self.skipped)} left out as alternatives"


def run(program: Path, registry: str, results: Path, order: Mapping[str, str]) -> Outcome:
    """Run all four workflows against HOST:PORT.

    Raises FileNotFoundError when nothing is reported.
    """
    results.mkdir(parents=True, exist_ok=True)
    (results / "junit.xml").unlink(missing_ok=True)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OCI_")}
    environment |= {
        "OCI_ROOT_URL": f"http://{registry}",
        "OCI_NAMESPACE": "older/one",
        "OCI_CROSSMOUNT_NAMESPACE": "older/two",
        "OCI_AUTOMATIC_CROSSMOUNT": "1",
        "OCI_HIDE_SKIPPED_WORKFLOWS": "0",
        "OCI_REPORT_DIR": str(results),
        **{
            f"OCI_TEST_{workflow}": "1"
            for workflow in ("PULL", "PUSH", "CONTENT_DISCOVERY", "CONTENT_MANAGEMENT")
        },
        **order,
    }
    subprocess.run(
        [program], env=environment, cwd=results, capture_output=True, timeout=300, check=False
    )
    cases = list(ET.parse(results / "junit.xml").getroot().iter("testcase"))
    named = {
        status: frozenset(
            case.get("name", "").removeprefix(_PREFIX)
            for case in cases
            if case.get("status") == status
        )
        for status in {case.get("status") for case in cases}
    }
    odd = named.keys() - {"passed", "skipped"}
    return Outcome(
        len(cases),
        named.get("skipped", frozenset()),
        frozenset().union(*(named[status] for status in odd)),
    )
