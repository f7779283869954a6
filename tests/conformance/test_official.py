"""The conformance program that the specification comes with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import official
from tests.servers import Spindle
from tests.tools import require


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    with Spindle(tmp_path_factory.mktemp("official") / "data") as running:
        yield running


@pytest.mark.parametrize("attempt", ["first", "again"])
def test_everything_passes_and_nothing_is_skipped(
    server: Spindle, tmp_path: Path, attempt: str
) -> None:
    """Also over what an earlier run left behind."""
    counts = official.run(Path(require("conformance")), server.registry, tmp_path)
    assert counts.perfect, f"{counts}\n{counts.odd}"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_earlier_versions_of_the_specification_pass_too(
    server: Spindle, tmp_path: Path, version: str
) -> None:
    program = Path(require("conformance"))
    counts = official.run(program, server.registry, tmp_path, OCI_VERSION=version)
    assert (counts.failed, counts.errors, counts.skipped) == (0, 0, 0), counts.odd
