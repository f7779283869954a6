"""Runs in a copy of the tree: the tests that are named, and what became of them as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from typing import Any

import pytest

import registry
import storage


class Watch:
    """A plugin that notes the first test to fail."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self.asserted = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and self.failed is None:
            assert call.excinfo is not None
            self.failed = item.nodeid
            wanted = (AssertionError, pytest.fail.Exception)  # the latter: DID NOT RAISE
            self.asserted = call.when == "call" and call.excinfo.errisinstance(wanted)
        return report


def main(result: str, scratch: str, *selection: str) -> None:
    """Write to `result` what trial.Outcome holds."""
    watch = Watch()
    status = pytest.main(
        [
            *("-x", "-q", "--no-cov", "-p", "no:cacheprovider", "-p", "no:randomly"),
            *("-p", "no:hypothesispytest"),  # a third of the time, and no test here needs it
            *(f"--basetemp={scratch}", *selection),
        ],
        plugins=[watch],
    )
    outcome: dict[str, Any] = {
        "status": int(status),
        "failed": watch.failed,
        "asserted": watch.asserted,
        "imported": [registry.__file__, storage.__file__],
    }
    with open(result, "w") as file:
        json.dump(outcome, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
