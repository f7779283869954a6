"""The conformance program of the distribution spec, against a fresh server.

Its exit status proves little: skipped tests, a mistyped version and a filter all end with 0. So the
counters of its junit.xml decide, and the status of every test in it. `scripts/conformance` builds
the program and runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers import Spindle

EXPECTED: Final = 1032
"""Tests of the pinned program in its strictest configuration. Fewer would mean that some were not
reached: what cannot be mounted, for one, is not pulled either."""

_ON: Final = {
    "API": [
        *("PING", "PULL", "PUSH", "REFERRER", "BLOBS_ATOMIC", "BLOBS_DELETE"),
        *("BLOBS_DIGEST_HEADER", "BLOBS_MOUNT_ANONYMOUS", "BLOBS_UPLOAD_CANCEL"),
        *("MANIFESTS_ATOMIC", "MANIFESTS_DELETE", "MANIFESTS_DIGEST_HEADER"),
        *("MANIFESTS_TAG_PARAM", "TAGS_ATOMIC", "TAGS_DELETE", "TAGS_LIST"),
    ],
    "DATA": [
        *("IMAGE", "INDEX", "INDEX_LIST", "SPARSE", "ARTIFACT", "SUBJECT", "SUBJECT_MISSING"),
        *("ARTIFACT_LIST", "SUBJECT_LIST", "DATA_FIELD", "NONDISTRIBUTABLE", "CUSTOM_FIELDS"),
        *("NO_LAYERS", "EMPTY_BLOB", "SHA512"),
    ],
}
STRICT: Final[Mapping[str, str]] = {
    "OCI_VERSION": "dev",
    "OCI_TLS": "disabled",
    "OCI_REPO1": "conformance/repo1",
    "OCI_REPO2": "conformance/repo2",
    "OCI_LOG": "warn",
    **{f"OCI_{kind}_{name}": "true" for kind, names in _ON.items() for name in names},
}


@dataclass(frozen=True)
class Counts:
    """What the program reports at its end."""

    total: int
    passed: int
    skipped: int
    disabled: int
    failed: int
    errors: int
    odd: tuple[str, ...]
    """Names of tests that were not passed."""

    @property
    def perfect(self) -> bool:
        return self.total == self.passed == EXPECTED and not self.odd

    def __str__(self) -> str:
        return (
            f"Total {self.total}  Pass {self.passed}  Skip {self.skipped}"
            f"  Disabled {self.disabled}  FAIL {self.failed}  Error {self.errors}"
        )


def run(program: Path, registry: str, results: Path, **switches: str) -> Counts:
    """Run the program against HOST:PORT; its report.html is in `results` afterwards.

    Raises RuntimeError when it reports nothing.
    """
    results.mkdir(parents=True, exist_ok=True)
    (results / "junit.xml").unlink(missing_ok=True)
    # Nothing of the caller's that begins with OCI_ may soften the configuration.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OCI_")}
    environment |= STRICT | {"OCI_REGISTRY": registry, "OCI_RESULTS_DIR": str(results)} | switches
    done = subprocess.run(
        [program],
        env=environment,
        cwd=results,  # it would read an oci-conformance.yaml where it is started
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (results / "output.txt").write_text(done.stdout + done.stderr)
    try:
        return _read(results / "junit.xml")
    except FileNotFoundError:
        raise RuntimeError(f"the program ended with {done.returncode}:\n{done.stderr}") from None


def _read(report: Path) -> Counts:
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    total, skipped, disabled, failed, errors = (
        int(suite.get(name, 0)) for name in ("tests", "skipped", "disabled", "failures", "errors")
    )
    odd = [
        case.get("name", "") for case in suite.iter("testcase") if case.get("status") != "passed"
    ]
    passed = total - skipped - disabled - failed - errors
    return Counts(total, passed, skipped, disabled, failed, errors, tuple(odd))


def main() -> int:
    """Arguments: the program, and the directory for its results."""
    program, results = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    with tempfile.TemporaryDirectory() as data, Spindle(Path(data) / "data") as server:
        counts = run(program, server.registry, results)
    print(counts)
    for name in counts.odd:
        print(f"  not passed: {name}")
    print(f"{'All' if counts.perfect else f'NOT all {EXPECTED}'} passed; see {results}/report.html")
    return 0 if counts.perfect else 1


if __name__ == "__main__":
    sys.exit(main())
