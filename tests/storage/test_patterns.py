"""Patterns of repositories and tags: what fits what, and that nobody can make them slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.patterns import Pattern
from tests.storage.content import patient

REPOSITORIES = [
    # pattern, what fits, what does not
    ("acme/shop", ["acme/shop"], ["acme", "acme/shops", "acme/shop/x", "xacme/shop"]),
    ("acme/*", ["acme/shop", "acme/a.b-c"], ["acme", "acme/shop/web", "acmes/shop"]),
    ("acme/**", ["acme", "acme/shop", "acme/shop/web/x"], ["acmes", "acmes/shop", "x/acme"]),
    ("**", ["a", "a/b", "a/b/c"], []),
    ("*", ["a", "shop"], ["a/b"]),
    ("**/shop", ["shop", "a/shop", "a/b/shop"], ["a/shops", "ashop", "shop/a"]),
    ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz", "a/z/b", "ab/z"]),
    ("a/**/**/z", ["a/z", "a/b/z"], ["a/bz"]),
    ("**/a/**", ["a", "b/a", "a/b", "b/a/b"], ["ab", "b/ab/b"]),
    ("*/ci-*", ["acme/ci-1", "acme/ci-"], ["acme/c", "acme/ci", "a/b/ci-1"]),
    ("a?/b", ["ab/b"], ["a/b", "a//b", "abb/b"]),
    ("*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a/b"]),
]
TAGS = [
    ("v*", ["v", "v1", "v1.2"], ["V1", "1v", ""]),
    ("*", ["latest", "a"], []),
    ("*-dev", ["v1-dev", "a-dev-dev"], ["v1-dev2", "dev"]),
    ("v?", ["v1"], ["v", "v10"]),
    ("v1.2", ["v1.2"], ["v1x2", "v1.20"]),
    ("a*b*c", ["abc", "axxbxxc", "abcbc"], ["ab", "acb"]),
]


@pytest.mark.parametrize(("pattern", "fitting", "others"), REPOSITORIES)
def test_a_pattern_of_repositories_fits_whole_names(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    parsed = Pattern.repository(pattern)
    assert [name for name in fitting + others if parsed.fits(name)] == fitting


@pytest.mark.parametrize(("pattern", "fitting", "others"), TAGS)
def test_a_pattern_of_tags_fits_whole_tags(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    parsed = Pattern.tag(pattern)
    assert [name for name in fitting + others if parsed.fits(name)] == fitting


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no pattern"),
        ("Acme/*", "no pattern"),
        ("acme/[a-z]", "no pattern"),
        ("acme/{a,b}", "no pattern"),
        ("acme/*\n", "no pattern"),
        ("a" * 256, "no pattern"),
        ("/acme", "empty component"),
        ("acme//shop", "empty component"),
        ("acme/shop/", "empty component"),
        ("acme**", "whole components"),
        ("acme/***", "whole components"),
        ("acme/..", "fits nothing"),
        ("acme/.*", "fits nothing"),
        ("acme-/*", "fits nothing"),
        ("a..?/b", "fits nothing"),
        ("a___b", "fits nothing"),
        ("a_-*/**", "fits nothing"),
    ],
)
def test_what_fits_no_repository_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pattern.repository(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no pattern"),
        ("a/b", "no pattern"),
        ("-a*", "no pattern"),
        ("v*\n", "no pattern"),
        ("a" * 129, "no pattern"),
        ("v**", "one \\*"),
    ],
)
def test_what_fits_no_tag_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pattern.tag(text)


@pytest.mark.parametrize("text", ["a-*", "*.*", "?-?", "a__?", "*__*", "*---*", "a?b?c", "**"])
def test_what_some_repository_fits_is_a_pattern(text: str) -> None:
    assert Pattern.repository(text).text == text


def test_patterns_are_equal_by_what_they_say() -> None:
    assert Pattern.tag("v*") == Pattern.tag("v*") != Pattern.tag("v?")
    assert str(Pattern.tag("v*")) == "v*"


def plainly(pattern: list[str], name: list[str]) -> bool:
    """The same by trying everything."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(plainly(pattern[1:], name[at:]) for at in range(len(name) + 1))
    component = re.escape(pattern[0]).replace(r"\*", ".*").replace(r"\?", ".")
    return (
        bool(name)
        and re.fullmatch(component, name[0]) is not None
        and plainly(pattern[1:], name[1:])
    )


components = st.lists(
    st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5)).filter(
        lambda text: text == "**" or "**" not in text
    ),
    min_size=1,
    max_size=4,
)
names = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


@patient
@given(components, names)
def test_a_pattern_fits_what_trying_everything_says(pattern: list[str], name: list[str]) -> None:
    assert Pattern.repository("/".join(pattern)).fits("/".join(name)) == plainly(pattern, name)


def test_no_name_makes_a_pattern_go_back() -> None:
    """A regular expression of this pattern would not come to an end in anybody's life."""
    assert not Pattern.tag("a" + "*a" * 63).fits("a" * 127 + "b")
    assert Pattern.repository("a" + "*a" * 126).fits("a" * 255)
