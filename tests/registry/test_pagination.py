from __future__ import annotations

import pytest

from registry import pagination
from registry.errors import QueryInvalid
from registry.pagination import Page


@pytest.mark.parametrize(
    ("n", "limit", "why"),
    [
        (None, 100, "our own limit"),
        ("0", 0, "nothing is wanted"),
        ("1", 1, "what is wanted"),
        ("100", 100, "what is wanted"),
        ("101", 100, "our own limit"),
        ("9" * 10_000, 100, "our own limit, and no conversion that takes long"),
        ("0" * 10_000 + "7", 7, "leading zeros count for nothing"),
    ],
)
def test_the_limit_of_a_page(n: str | None, limit: int, why: str) -> None:
    assert pagination.parse(n, "x", most=100) == Page(limit, "x"), why


@pytest.mark.parametrize("n", ["", "-1", "1.0", "1e3", " 1", "1\n", "\u0663", "ten"])
def test_what_is_no_number(n: str) -> None:
    with pytest.raises(QueryInvalid):
        pagination.parse(n, None, most=100)


@pytest.mark.parametrize(
    ("limit", "found", "shown", "more"),
    [
        (2, "abc", "ab", True),
        (2, "ab", "ab", False),
        (2, "a", "a", False),
        (2, "", "", False),
        (0, "a", "", False),
    ],
)
def test_a_page_is_cut(limit: int, found: str, shown: str, more: bool) -> None:
    assert Page(limit, None).cut(found) == (shown, more)


def test_a_link_is_relative_and_escaped() -> None:
    link = pagination.link("/v2/a/tags/list", {"n": 2, "last": 'a&b>; rel="x"'})
    assert link == b'</v2/a/tags/list?n=2&last=a%26b%3E%3B%20rel%3D%22x%22>; rel="next"'
