from __future__ import annotations

import pytest

from registry.preconditions import entity_tag, fulfilled, none_match
from storage.digest import SHA256, SHA512

NOW = SHA256.digest(b"now")
OLD = SHA256.digest(b"old")
OTHER = SHA512.digest(b"now")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("*", True),
        (f'"{NOW}"', True),
        (f'W/"{NOW}"', True),
        (f'"{OLD}", "{NOW}"', True),
        (f'"{OLD}"', False),
        (f'"{OTHER}"', False),
        (str(NOW), False),
    ],
)
def test_whether_the_client_has_it(header: str | None, expected: bool) -> None:
    assert none_match(header, NOW) is expected


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "there", "expected"),
    [
        (None, None, False, True),
        (None, None, True, True),
        ("*", None, True, True),
        ("*", None, False, False),
        (entity_tag(NOW), None, True, True),
        (entity_tag(NOW), None, False, False),
        (entity_tag(OLD), None, True, False),
        (f"W/{entity_tag(NOW)}", None, True, False),
        (None, "*", False, True),
        (None, "*", True, False),
        (None, entity_tag(NOW), True, False),
        (None, entity_tag(OLD), True, True),
        (entity_tag(NOW), entity_tag(NOW), True, False),
    ],
)
def test_whether_a_write_may_go_on(
    if_match: str | None, if_none_match: str | None, there: bool, expected: bool
) -> None:
    assert fulfilled(if_match, if_none_match, NOW if there else None) is expected
