"""Which tags stay and which go: the decision alone, without a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import SHA256, Digest
from storage.names import RepositoryName, Tag
from storage.patterns import Pattern
from storage.retention import (
    DAY,
    Decision,
    Rule,
    Scope,
    Tagged,
    about,
    decide,
    immutable,
    untagged,
)
from tests.storage.content import patient

NAME = RepositoryName.parse("acme/shop")
NOW = 1e9
SUBJECT = "sha256-" + "a" * 64


def tag_patterns(*texts: str) -> tuple[Pattern, ...]:
    return tuple(map(Pattern.tag, texts))


def scope(*repositories: str, but: str = "", tags: str = "*", except_tags: str = "") -> Scope:
    return Scope(
        tuple(map(Pattern.repository, repositories or ("**",))),
        tuple(map(Pattern.repository, but.split())),
        tag_patterns(*tags.split()),
        tag_patterns(*except_tags.split()),
    )


def rule(*repositories: str, **said: Any) -> Rule:
    for key in ("keep_tags", "protect"):
        if key in said:
            said[key] = tag_patterns(*said[key].split())
    scoped = {key: said.pop(key) for key in ("but", "tags", "except_tags") if key in said}
    return Rule(scope(*repositories, **scoped), **said)


def digest(note: str) -> Digest:
    return SHA256.digest(note.encode())


def tagged(*names: str, every: float = DAY) -> list[Tagged]:
    """The last name was moved just now, each one before it `every` seconds earlier."""
    return [
        Tagged(Tag.parse(name), digest(name), at, NOW - every * (len(names) - at))
        for at, name in enumerate(names, 1)
    ]


def stay(decisions: Iterable[Decision]) -> list[str]:
    """Their names, from the oldest."""
    return [decision.tagged.tag.text for decision in decisions if decision.stays][::-1]


def staying(rules: list[Rule], tags: list[Tagged], **more: Any) -> list[str]:
    return stay(decide(rules, NAME, tags, NOW, **{"held": {}, **more}))


def test_without_a_rule_that_fits_everything_stays() -> None:
    tags = tagged("a", "b", "c")
    assert staying([], tags) == ["a", "b", "c"]
    assert staying([rule("acme/other", keep_last=1)], tags) == ["a", "b", "c"]
    assert staying([rule("acme/*", but="acme/shop", keep_last=1)], tags) == ["a", "b", "c"]


def test_the_newest_by_their_last_move_stay() -> None:
    assert staying([rule(keep_last=2)], tagged("z", "a", "m")) == ["a", "m"]


def test_what_moved_lately_stays() -> None:
    assert staying([rule(keep_younger=2.5 * DAY)], tagged("a", "b", "c", "d")) == ["b", "c", "d"]


def test_a_clock_that_went_back_makes_nothing_old() -> None:
    [one] = tagged("a")
    assert staying([rule(keep_younger=DAY)], [replace(one, moved=NOW + 9 * DAY)]) == ["a"]


def test_what_is_named_stays_and_takes_no_place_of_the_newest() -> None:
    tags = tagged("v1", "a", "b", "v2", "v3")
    assert staying([rule(keep_last=1, keep_tags="v*")], tags) == ["v1", "b", "v2", "v3"]


def test_a_rule_looks_only_at_its_tags() -> None:
    tags = tagged("pr-1", "main", "pr-2", "pr-3", "pr-x-dev")
    found = staying([rule(tags="pr-*", except_tags="*-dev", keep_last=1)], tags)
    assert found == ["main", "pr-3", "pr-x-dev"]


def test_what_any_rule_keeps_stays_in_whatever_order_they_come() -> None:
    tags = tagged("a", "b", "c", "d", "v1")
    rules = [rule(keep_last=1), rule("acme/*", keep_last=2), rule(tags="v*", keep_last=1)]
    assert staying(rules, tags) == ["d", "v1"]
    assert staying(rules[::-1], tags) == ["d", "v1"]


def test_what_is_protected_stays_whatever_another_rule_says() -> None:
    tags = tagged("stable", "a", "b")
    assert staying([rule(keep_last=1), rule(protect="stable")], tags) == ["stable", "b"]
    # Also where the rule that protects looks at other tags.
    assert staying([rule(tags="x", keep_last=1, protect="stable"), rule(keep_last=1)], tags) == [
        *("stable", "b")
    ]


def test_to_protect_is_no_reason_for_others_to_go() -> None:
    assert staying([rule(protect="stable")], tagged("stable", "a")) == ["stable", "a"]
    assert staying([rule(untagged=DAY)], tagged("a")) == ["a"]


def test_what_is_held_stays_and_it_is_said_for_whom() -> None:
    tags = tagged("old", "a", "b")
    decisions = decide(
        [rule(keep_last=1)], NAME, tags, NOW, held={digest("old"): "app acme/shop needs it"}
    )
    assert stay(decisions) == ["old", "b"]
    assert decisions[-1].reason == "app acme/shop needs it"


def test_what_is_immutable_stays() -> None:
    tags = tagged("v1", "v2", "v3-dev", "b")
    found = staying([rule(keep_last=1)], tags, scopes=[scope(tags="v*", except_tags="*-dev")])
    assert found == ["v1", "v2", "b"]


def test_a_tag_about_a_digest_follows_it_and_takes_no_place() -> None:
    tags = tagged("a", "b", SUBJECT, f"{SUBJECT}.sig", f"{SUBJECT}.att")
    here = [replace(one, follows=True if "sha256" in one.tag.text else None) for one in tags]
    assert staying([rule(keep_last=1)], here) == ["b", *(one.tag.text for one in tags[2:])]
    gone = [replace(one, follows=False if "sha256" in one.tag.text else None) for one in tags]
    assert staying([rule(keep_last=1)], gone) == ["b"]


def test_a_tag_that_came_before_what_it_is_about_has_time() -> None:
    [one] = tagged(f"{SUBJECT}.sig")
    alone = [replace(one, follows=False, moved=NOW - DAY)]
    assert staying([rule(keep_last=1)], alone, grace=2 * DAY) == [f"{SUBJECT}.sig"]
    assert staying([rule(keep_last=1)], alone, grace=DAY / 2) == []


def test_a_signature_without_its_subject_goes_only_by_a_rule_that_looks_at_it() -> None:
    """Signatures may be kept in a repository of their own."""
    [one] = tagged(f"{SUBJECT}.sig")
    alone = [replace(one, follows=False)]
    assert staying([rule(tags="pr-*", keep_last=1)], alone) == [f"{SUBJECT}.sig"]
    assert staying([rule(keep_last=1, protect="sha256-*")], alone) == [f"{SUBJECT}.sig"]


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (SUBJECT, ("sha256", "a" * 64)),
        (f"{SUBJECT}.sig", ("sha256", "a" * 64)),
        (f"{SUBJECT}.att", ("sha256", "a" * 64)),
        (f"{SUBJECT}.sbom", ("sha256", "a" * 64)),
        ("sha512-" + "b" * 64, ("sha512", "b" * 64)),
        (f"{SUBJECT}.old", None),
        (f"{SUBJECT}0", None),
        (f"x{SUBJECT}", None),
        ("sha256-abc", None),
        ("sha256-" + "A" * 64, None),
        ("latest", None),
    ],
)
def test_tags_about_a_digest_are_known_by_their_form(
    text: str, subject: tuple[str, str] | None
) -> None:
    assert about(Tag.parse(text)) == subject


def test_signatures_are_not_immutable() -> None:
    """To sign once more is to move the tag."""
    assert not immutable([scope()], NAME, Tag.parse(f"{SUBJECT}.sig"))
    assert immutable([scope()], NAME, Tag.parse("v1"))
    assert not immutable([scope("acme/other")], NAME, Tag.parse("v1"))


def test_of_several_ages_of_the_untagged_the_longest_counts() -> None:
    rules = [rule("acme/*", untagged=5.0), rule("**", untagged=7.0), rule("x", untagged=9.0)]
    assert untagged(rules, NAME, 99.0) == 7.0
    assert untagged(rules[:1], RepositoryName.parse("other"), 99.0) == 99.0


def test_the_reasons_are_for_people() -> None:
    tags = tagged("old", "v1", "new")
    rules = [rule(keep_last=1, keep_younger=1.5 * DAY, keep_tags="v*")]
    reasons = {
        decision.tagged.tag.text: decision.reason
        for decision in decide(rules, NAME, tags, NOW, held={})
    }
    assert reasons == {
        "old": "moved 2 d ago, not one of the 1 moved last, not within 1 d, not named v*",
        "v1": "kept by v*",
        "new": "moved 0 s ago, less than 1 d",
    }


# Whatever the rules are

some_patterns = st.lists(
    st.sampled_from(["*", "v*", "?", "v1", "a*", "sha256-*"]).map(Pattern.tag), max_size=2
).map(tuple)
scopes = st.builds(
    Scope,
    st.sampled_from(["**", "acme/*", "other"]).map(lambda text: (Pattern.repository(text),)),
    st.sampled_from([(), (Pattern.repository("acme/shop"),)]),
    some_patterns,
    some_patterns,
)
rules = st.lists(
    st.builds(
        Rule,
        scopes,
        st.none() | st.integers(1, 4),
        st.none() | st.floats(1, 10),
        some_patterns,
        some_patterns,
    ),
    max_size=4,
)


@st.composite
def repositories(draw: st.DrawFn) -> list[Tagged]:
    names = draw(
        st.lists(
            st.sampled_from(["v1", "v2", "a", "b", "ab", "main", SUBJECT, f"{SUBJECT}.sig", "x"]),
            unique=True,
        )
    )
    return [
        Tagged(
            Tag.parse(name),
            digest(draw(st.sampled_from(["1", "2", "3", "4"]))),
            at,
            NOW - draw(st.floats(-1, 12)),
            draw(st.booleans()) if name.startswith("sha256") else None,
        )
        for at, name in enumerate(names)
    ]


held = st.dictionaries(st.sampled_from(["1", "2"]).map(digest), st.just("needed"))


@patient
@given(rules, repositories(), held, st.lists(scopes, max_size=2))
def test_nothing_goes_that_anything_keeps(
    rules: list[Rule], tags: list[Tagged], held: dict[Digest, str], scopes: list[Scope]
) -> None:
    """Told once more, without a word of how it is decided."""
    decisions = decide(rules, NAME, tags, NOW, held=held, scopes=scopes)
    assert sorted(d.tagged.tag for d in decisions) == sorted(one.tag for one in tags)
    for decision in decisions:
        assert decision.reason
        if decision.stays:
            continue
        one = decision.tagged
        looking = [r for r in rules if r.removes and r.scope.has(NAME) and r.scope.covers(one.tag)]
        assert looking, "no rule looks at it"
        assert one.digest not in held
        assert not immutable(scopes, NAME, one.tag)
        assert one.follows is not True
        assert not any(p.fits(one.tag.text) for r in rules if r.scope.has(NAME) for p in r.protect)
        for each in looking:
            assert not any(pattern.fits(one.tag.text) for pattern in each.keep_tags)
            assert each.keep_younger is None or NOW - one.moved >= each.keep_younger
            later = [
                other
                for other in tags
                if other.follows is None
                and other.generation > one.generation
                and each.scope.covers(other.tag)
            ]
            assert one.follows is not None or len(later) >= (each.keep_last or 0)


@patient
@given(rules, repositories(), held, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_tags_decides_nothing(
    rules: list[Rule], tags: list[Tagged], held: dict[Digest, str], random: Random
) -> None:
    shuffled_rules, shuffled_tags = rules[:], tags[:]
    random.shuffle(shuffled_rules)
    random.shuffle(shuffled_tags)
    assert staying(rules, tags, held=held) == staying(shuffled_rules, shuffled_tags, held=held)


@patient
@given(rules, repositories(), held)
def test_to_remove_twice_is_to_remove_once(
    rules: list[Rule], tags: list[Tagged], held: dict[Digest, str]
) -> None:
    left = [d.tagged for d in decide(rules, NAME, tags, NOW, held=held) if d.stays]
    assert all(d.stays for d in decide(rules, NAME, left, NOW, held=held))


@patient
@given(rules, rules, repositories(), held)
def test_more_to_keep_never_makes_more_go(
    rules: list[Rule], more: list[Rule], tags: list[Tagged], held: dict[Digest, str]
) -> None:
    """A rule that is added takes nothing from what the others keep, of what they look at."""
    before = {d.tagged.tag for d in decide(rules, NAME, tags, NOW, held=held) if d.stays}
    looked = {
        one.tag
        for one in tags
        if any(r.removes and r.scope.has(NAME) and r.scope.covers(one.tag) for r in rules)
    }
    after = {d.tagged.tag for d in decide(rules + more, NAME, tags, NOW, held=held) if d.stays}
    assert before & looked <= after
