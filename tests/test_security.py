"""docs/security.md names tests: they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "security.md").read_text()
NAMED = sorted(
    {
        name
        for row in re.findall(r"(?m)^\|.*\| ([^|]*)\|$", TEXT)
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)
    }
)


def test_some_are_named() -> None:
    assert len(NAMED) > 10


@pytest.mark.parametrize("name", NAMED)
def test_each_of_them_is_there(name: str) -> None:
    assert (TESTS / name).exists()
