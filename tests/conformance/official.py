"""The conformance program of the distribution spec, against fresh servers.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance import older
from tests.servers import Spindle
from tests.signed_in import OWNER, Anybody, SignedIn


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
    """Names of tests that were not passed, disabled ones among them."""

    def __str__(self) -> str:
        return (
            f"Total {self.total}  Pass {self.passed}  Skip {self.skipped}"
            f"  Disabled {self.disabled}  FAIL {self.failed}  Error {self.errors}"
        )


@dataclass(frozen=True)
class Edition:
    """A configuration of the program, and what it has to report then."""

    settings: Mapping[str, str]
    total: int
    """Tests of the pinned program. Fewer would mean that some were not reached: what cannot be
    mounted, for one, is not pulled either."""
    disabled: int
    """Tests among them of what this version of the specification does not have."""

    def met_by(self, counts: Counts) -> bool:
        """Whether everything that is not disabled was passed."""
        wanted = Counts(self.total, self.total - self.disabled, 0, self.disabled, 0, 0, counts.odd)
        return counts == wanted and len(counts.odd) == self.disabled


_SETTINGS: Final = {
    "OCI_TLS": "disabled",
    "OCI_REPO1": "conformance/repo1",
    "OCI_REPO2": "conformance/repo2",
    "OCI_LOG": "warn",
}
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
STRICT: Final = Edition(
    {
        **_SETTINGS,
        "OCI_VERSION": "dev",
        **{f"OCI_{kind}_{name}": "true" for kind, names in _ON.items() for name in names},
    },
    total=1032,
    disabled=0,
)
"""The newest version of the specification, with everything that is optional in it."""

# With every switch on, a version would change nothing: so here it sets them itself.
EDITIONS: Final[Mapping[str, Edition]] = {
    "strict": STRICT,
    "1.1": Edition({**_SETTINGS, "OCI_VERSION": "1.1"}, total=862, disabled=2),
    "1.0": Edition({**_SETTINGS, "OCI_VERSION": "1.0"}, total=858, disabled=8),
}
SERVERS: Final[Mapping[str, Callable[[Path], Spindle]]] = {
    "one process": Spindle,
    "two workers": lambda data: Spindle(data, "--workers", "2"),
    "Basic": lambda data: SignedIn(data, challenge="basic"),
    "Bearer": lambda data: SignedIn(data, "--workers", "2", challenge="bearer"),
    "a policy for anybody": Anybody,
}
"""By name: how each is made, given its data directory."""


def run(program: Path, server: Spindle, results: Path, edition: Edition = STRICT) -> Counts:
    """Run the program, signed in where one has to; its report.html is in `results` afterwards.

    Raises RuntimeError when it reports nothing.
    """
    results.mkdir(parents=True, exist_ok=True)
    (results / "junit.xml").unlink(missing_ok=True)
    # Nothing of the caller's that begins with OCI_ may soften the configuration.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("OCI_")}
    environment |= {"OCI_REGISTRY": server.registry, "OCI_RESULTS_DIR": str(results)}
    environment |= edition.settings
    if isinstance(server, SignedIn) and server.headers:
        environment["OCI_USERNAME"], environment["OCI_PASSWORD"] = OWNER
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
    """Arguments: the program, the directory for its results, and the older suite's program if any.

    Each edition twice in a row on the same store; the directory keeps the last strict one's.
    """
    program, results, *others = (Path(argument).absolute() for argument in sys.argv[1:])
    met = True
    with tempfile.TemporaryDirectory() as scratch:
        for server, made in SERVERS.items():
            data = Path(scratch) / server.replace(" ", "-") / "data"
            data.parent.mkdir()
            with made(data) as running:
                for name, edition in EDITIONS.items():
                    place = results if edition is STRICT else Path(scratch) / name
                    for attempt in ("first", "again"):
                        counts = run(program, running, place, edition)
                        print(f"{server}, {name}, {attempt}: {counts}")
                        if not edition.met_by(counts):
                            met = False
                            print(
                                f"  expected {edition.total}, of them {edition.disabled} disabled"
                            )
                            print(*(f"  not passed: {test}" for test in counts.odd), sep="\n")
                for order, settings in (
                    older.ORDERS.items() if others and not running.headers else ()
                ):
                    place = Path(scratch) / "older"
                    outcome = older.run(others[0], running.registry, place, settings)
                    print(f"{server}, the suite of 1.1.1, {order}: {outcome}")
                    met = met and outcome.met
                    print(*(f"  failed: {test}" for test in outcome.failed), sep="\n", end="")
    print(f"{'All' if met else 'NOT all'} passed; see {results}/report.html")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
