"""Distribution spec, "Pulling manifests": names, tags, references."""

from __future__ import annotations

import pytest

from storage.digest import SHA256, Digest
from storage.errors import DigestInvalid, DigestUnsupported, NameInvalid, TagInvalid
from storage.names import RepositoryName, Tag, parse_reference

NAMES = [
    ("a", "one letter"),
    ("0", "one digit"),
    ("acme/shop", "two components"),
    ("a/b/c/d/e/f", "many components"),
    ("a.b_c__d-e---f", "every separator"),
    ("blobs/uploads", "words of the API"),
    ("manifests/tags/list/referrers/v2", "more words of the API"),
    ("a" * 255, "the longest"),
]


@pytest.mark.parametrize("text", [name for name, _ in NAMES], ids=[reason for _, reason in NAMES])
def test_a_repository_name_is_written_as_it_was_read(text: str) -> None:
    assert str(RepositoryName.parse(text)) == text


NOT_NAMES = [
    ("", "empty"),
    ("A", "upper case"),
    ("a/B", "upper case in a later component"),
    ("/a", "an empty component first"),
    ("a/", "an empty component last"),
    ("a//b", "an empty component between"),
    (".", "here"),
    ("..", "above"),
    ("a/../b", "above, between"),
    (".a", "begins with a separator"),
    ("a.", "ends with a separator"),
    ("a..b", "two dots"),
    ("a___b", "three underscores"),
    ("a._b", "two kinds of separator"),
    ("a-_b", "two other kinds"),
    ("_uploads", "begins with an underscore"),
    ("a/_catalog", "a component that begins with an underscore"),
    ("a b", "a blank"),
    ("a\n", "a newline, which $ would let through"),
    ("a\0b", "NUL"),
    ("a\\b", "a backslash"),
    ("a%2fb", "not decoded"),
    ("a:b", "a colon"),
    ("é", "a letter outside ASCII"),
    ("٣", "a digit of another script"),
    ("a" * 256, "one too long"),
    ("a-" * 32768 + "!", "long and nearly right: must not take time"),
    ("a__a" * 16384 + "!", "the same with underscores"),
]


@pytest.mark.parametrize(
    "text", [name for name, _ in NOT_NAMES], ids=[reason for _, reason in NOT_NAMES]
)
def test_what_is_not_a_repository_name_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        RepositoryName.parse(text)


@pytest.mark.parametrize(("text", "account"), [("acme/shop/web", "acme"), ("alone", "alone")])
def test_the_account_is_the_first_component(text: str, account: str) -> None:
    assert RepositoryName.parse(text).account == account


TAGS = [
    ("latest", "the usual"),
    ("1.0.0-rc.1", "a version"),
    ("_x", "begins with an underscore"),
    ("V1", "upper case"),
    ("a" * 128, "the longest"),
    ("sha256-0123", "a referrers tag"),
]


@pytest.mark.parametrize("text", [tag for tag, _ in TAGS], ids=[reason for _, reason in TAGS])
def test_a_tag_is_written_as_it_was_read(text: str) -> None:
    assert str(Tag.parse(text)) == text


NOT_TAGS = [
    ("", "empty"),
    (".a", "begins with a dot"),
    ("-rm", "begins with a dash, as an option would"),
    ("a" * 129, "one too long"),
    ("a/b", "a slash"),
    ("../x", "a path"),
    ("a b", "a blank"),
    ("latest ", "a blank at the end"),
    ("a\n", "a newline, which $ would let through"),
    ("a\0", "NUL"),
    ("a+b", "a plus"),
    ("é", "a letter outside ASCII"),
    ("a:b", "a colon"),
]


@pytest.mark.parametrize(
    "text", [tag for tag, _ in NOT_TAGS], ids=[reason for _, reason in NOT_TAGS]
)
def test_what_is_not_a_tag_is_refused(text: str) -> None:
    with pytest.raises(TagInvalid):
        Tag.parse(text)


def test_tags_that_differ_in_case_are_different() -> None:
    assert Tag.parse("V1") != Tag.parse("v1")


def test_a_reference_without_a_colon_is_a_tag() -> None:
    assert parse_reference("latest") == Tag("latest")


def test_a_reference_with_a_colon_is_a_digest() -> None:
    digest = SHA256.digest(b"")
    assert parse_reference(str(digest)) == digest
    assert isinstance(parse_reference(str(digest)), Digest)


@pytest.mark.parametrize(
    ("text", "error"),
    [("a:b", DigestInvalid), ("md5:00", DigestUnsupported), ("a/b", TagInvalid)],
)
def test_a_reference_that_is_neither_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_reference(text)
