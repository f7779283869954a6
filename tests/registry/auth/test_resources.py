"""The grammar of scopes, and what the words of a token stand for."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.auth.resources import (
    MOST,
    WORDS,
    Resource,
    ResourceInvalid,
    as_access,
    as_grants,
    parse_access,
    parse_scopes,
)
from registry.auth.scope import Action

PULL = ("pull",)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["repository:acme/shop:pull"], [Resource("repository", "acme/shop", PULL)]),
        (["repository:a:pull,push"], [Resource("repository", "a", ("pull", "push"))]),
        (["repository:a:push,pull,push"], [Resource("repository", "a", ("push", "pull"))]),
        (
            ["repository:a:pull repository:b:pull"],
            [Resource("repository", "a", PULL), Resource("repository", "b", PULL)],
        ),
        (
            ["repository:a:pull", "repository:a:push"],
            [Resource("repository", "a", tuple(WORDS)[:2])],
        ),
        (["registry:catalog:*"], [Resource("registry", "catalog", ("*",))]),
        (["repository:a:pull,unknown"], [Resource("repository", "a", PULL)]),
        # Left out: no name, no action, another type, another form
        ([], []),
        (["", " ", "\t\n"], []),
        (["repository::pull", "repository:a:", "repository:a", "repository", ":", "::"], []),
        (["repository:A:pull", "repository:a/:pull", "repository:*:pull"], []),
        (["repository:host:5000/a:pull"], []),
        (["repository(plugin):a:pull", "Repository:a:pull", "registry:a:*"], []),
    ],
)
def test_scopes_are_read_as_the_specification_of_tokens_has_them(
    texts: list[str], found: list[Resource]
) -> None:
    assert list(parse_scopes(texts)) == found


_SCOPE = re.compile(
    r"(repository):((?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/?)+(?<!/)):([^:]*)"
    r"|(registry):(catalog):([^:]*)",
    re.ASCII,
)


def reference(texts: list[str]) -> dict[tuple[str, str], list[str]]:
    """One regular expression for the whole of a scope, where ours takes it apart."""
    found: dict[tuple[str, str], list[str]] = {}
    for scope in " ".join(texts).split():
        if (match := _SCOPE.fullmatch(scope)) is None or len(match[2] or "") > 255:
            continue
        type, name, actions = filter(lambda group: group is not None, match.groups())
        for word in actions.split(","):
            if word in {"pull", "push", "delete", "deploy", "*"}:
                words = found.setdefault((type, name), [])
                if word not in words:
                    words.append(word)
    return found


PIECES = st.sampled_from(
    [
        *("repository", "registry", "catalog", ":", ",", " ", "/", "acme", "shop", "a-b", "a_b"),
        *("pull", "push", "delete", "*", "deploy", "admin", ".", "_", "-", "A", "\n", "é", "\x1f"),
    ]
)


@given(st.lists(st.lists(PIECES, max_size=14).map("".join), max_size=5))
@example(["repository:acme/shop:pull,push repository:acme:*", "registry:catalog:*"])
def test_scopes_are_read_as_a_second_reading_of_the_grammar_does(texts: list[str]) -> None:
    ours = {(one.type, one.name): list(one.actions) for one in parse_scopes(texts)}
    assert ours == reference(texts)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acme/shop", "acme", "a"]),
            st.lists(st.sampled_from(list(WORDS)), min_size=1),
        ),
        max_size=4,
    )
)
def test_what_is_written_into_a_token_is_read_from_it(asked: list[tuple[str, list[str]]]) -> None:
    found = parse_scopes(f"repository:{name}:{','.join(words)}" for name, words in asked)
    assert parse_access(as_access(found)) == found


def test_one_token_is_for_so_many_resources_and_one_named_often_is_one() -> None:
    names = [f"repository:a{number}:pull" for number in range(MOST)]
    assert len(parse_scopes(names * 3)) == MOST
    with pytest.raises(ValueError, match="64 repositories"):
        parse_scopes([*names, "repository:more:pull"])


@pytest.mark.parametrize(
    ("word", "actions"),
    [
        ("pull", {Action.PULL}),
        ("push", {Action.PUSH, Action.OVERWRITE}),
        ("delete", {Action.DELETE}),
        ("deploy", {Action.DEPLOY}),
        ("*", set(Action)),
    ],
)
def test_a_word_of_a_token_stands_for_these_actions(word: str, actions: set[Action]) -> None:
    [grant] = as_grants([Resource("repository", "acme/shop", (word,))])
    assert {action for action in Action if grant.covers(action, "acme/shop")} == actions
    assert not any(grant.covers(action, "acme/shop/x") for action in Action)
    assert not any(grant.covers(action, None) for action in Action)


def test_a_token_for_the_catalogue_changes_nothing() -> None:
    [grant] = as_grants([Resource("registry", "catalog", ("*",))])
    assert grant.actions == {Action.PULL}
    assert grant.covers(Action.PULL, None)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.just("repository")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["type", "name", "actions", "x"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_access_is_it_is_read_or_refused(value: object) -> None:
    with suppress(ResourceInvalid):
        parse_access(value)
