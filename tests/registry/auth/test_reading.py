"""The policy file: what is refused, each in one sentence with the file and the line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.policy import Policy, PolicyInvalid
from registry.commands.policy import EXAMPLE
from tests.storage.content import patient

GOOD = 'who = ["everyone"]\nrepository = ["**"]\nactions = ["pull"]\n'
RULE = f"[[allow]]\n{GOOD}"

REFUSED = [
    # text, line, a part of the sentence
    ("", 1, "nobody is allowed anything"),
    ("# nothing\n[groups]\n", 1, "nobody is allowed anything"),
    ("allow = ", 1, "Invalid value"),
    ("a\n", 1, "Expected '='"),
    (f"{RULE}\nwho", 6, "Expected '='"),
    (f'{RULE}x = "', 5, "at end of document"),
    (f'{RULE}who = ["anonymous"]', 5, "the same key is there twice"),
    (f"[groups]\n[groups]\n{RULE}", 2, "Cannot declare"),
    (f'[groups]\na = ["user:b"]\na = ["user:c"]\n{RULE}', 3, "the same key is there twice"),
    ("\ufeff" + RULE, 1, "Invalid statement"),
    ("x = " + "[" * 100_000, None, "nested that deep"),
    # Keys
    (f"\n[group]\n{RULE}", 2, "there is no table 'group'; did you mean groups?"),
    (f"zzz = 1\n{RULE}", 1, "there is no table 'zzz'; there are groups, accounts, allow"),
    (f'{RULE}repositories = ["x"]', 5, "no key 'repositories'; did you mean repository?"),
    (f'{RULE}action = ["x"]', 5, "no key 'action'; did you mean actions?"),
    (f'{RULE}zzz = ["x"]', 5, "no key 'zzz'; there are who, claims, repository, actions"),
    ('[[allow]]\nrepository = ["**"]\nactions = ["pull"]', 1, "this [[allow]] has no who"),
    (f'{RULE}\n[[allow]]\nwho = ["everyone"]', 6, "this [[allow]] has no repository"),
    ('[[allow]]\nwho = ["everyone"]\nrepository = ["**"]', 1, "this [[allow]] has no actions"),
    # Types
    (f"groups = 1\n{RULE}", 1, "groups is a table"),
    (f"accounts = []\n{RULE}", 1, "accounts is a table"),
    (f"[allow]\n{GOOD}", 1, "begun by [[allow]]"),
    ("\nallow = 1", 2, "begun by [[allow]]"),
    ('allow = [{ who = ["everyone"], repository = ["**"], actions = ["pull"] }]', 1,
     "begun by [[allow]]"),
    (RULE.replace('["everyone"]', '"everyone"'), 2, "who takes a list of texts"),
    (RULE.replace('["everyone"]', "[1]"), 2, "who takes a list of texts"),
    (RULE.replace('["**"]', '"**"'), 3, "repository takes a list of texts"),
    (RULE.replace('["pull"]', "true"), 4, "actions takes a list of texts"),
    (f"[groups]\na = 'user:b'\n{RULE}", 2, "a takes a list of texts"),
    # Empty lists
    (RULE.replace('["everyone"]', "[]"), 2, "who is empty"),
    (RULE.replace('["**"]', "[]"), 3, "repository is empty"),
    (RULE.replace('["pull"]', "[\n\n]"), 4, "actions is empty"),
    (f"[groups]\na = []\n{RULE}", 2, "a is empty"),
    ("[accounts]\na = []", 2, "a is empty"),
    # Who
    (RULE.replace("everyone", "everybody"), 2, "'everybody' is nobody"),
    (RULE.replace("everyone", "ada"), 2, "'ada' is nobody; write user:NAME"),
    (RULE.replace("everyone", "claims"), 2, "nobody without claims ="),
    (RULE.replace("everyone", "user:"), 2, "'user:' names no user"),
    (RULE.replace("everyone", "user:*"), 2, 'whoever signed in is "everyone"'),
    (RULE.replace("everyone", "robot:ci-*"), 2, "names no robot"),
    (RULE.replace("everyone", "user:a b"), 2, "names no user"),
    (RULE.replace("everyone", "user:a\\n"), 2, "names no user"),
    (RULE.replace("everyone", "user:a:b"), 2, "names no user"),
    (RULE.replace("everyone", "user:a\\u202e"), 2, "names no user"),
    (RULE.replace("everyone", "User:ada"), 2, "is nobody"),
    (RULE.replace("everyone", "anybody"), 2, "is nobody"),
    (RULE.replace("everyone", "workload:github"), 2, "is not workload:ISSUER:SUBJECT"),
    (RULE.replace("everyone", "workload:*"), 2, "is not workload:ISSUER:SUBJECT"),
    (RULE.replace("everyone", "workload:*:repo"), 2, "is not workload:ISSUER:SUBJECT"),
    (RULE.replace("everyone", "workload:github:"), 2, "is not workload:ISSUER:SUBJECT"),
    # Groups
    (RULE.replace("everyone", "group:ci"), 2, "there is no group 'ci'; write it into [groups]"),
    (f'[groups]\nshops = ["user:a"]\n{RULE.replace("everyone", "group:shop")}', 4,
     "there is no group 'shop'; did you mean group:shops?"),
    (f'[groups]\n\na = ["group:b"]\n{RULE}', 3, "there is no group 'b'"),
    (f'[groups]\n"a b" = ["user:b"]\n{RULE}', 2, "'a b' is no name of a group"),
    (f'[groups]\na = ["group:a"]\n{RULE}', 2, "a group is in itself: a in a"),
    (f'[groups]\na = ["everyone"]\n{RULE}', 2, "'everyone' cannot be here"),
    (f'[groups]\na = ["anonymous"]\n{RULE}', 2, "'anonymous' cannot be here"),
    (f'[groups]\na = ["claims"]\n{RULE}', 2, "'claims' cannot be here"),
    (f'[groups]\na = ["ada"]\n{RULE}', 2, "'ada' is nobody"),
    # Accounts
    ('[accounts]\na = ["everyone"]', 2, "'everyone' cannot be here"),
    ('[accounts]\na = ["anonymous"]', 2, "'anonymous' cannot be here"),
    ('[accounts]\na = ["group:b"]', 2, "there is no group 'b'"),
    ('[accounts]\nAcme = ["user:a"]', 2, "'Acme' is not a repository name"),
    ('[accounts]\n"a/b" = ["user:a"]', 2, "'a/b' is a repository; its account is 'a'"),
    ('[accounts]\n"*" = ["user:a"]', 2, "'*' is not a repository name"),
    ('[accounts]\nacme.org = ["user:a"]', 1, "a name with dots wants quotes"),
    # Patterns and actions
    (RULE.replace("**", "Acme/*"), 3, "no pattern of repositories"),
    (RULE.replace("**", "acme/"), 3, "fits nothing"),
    (RULE.replace("**", "acme/.."), 3, "fits nothing"),
    (RULE.replace("**", "acme/-*"), 3, "fits nothing"),
    (RULE.replace("**", "acme**"), 3, "whole components"),
    (RULE.replace("pull", "pul"), 4, "'pul' is no action; there are pull, push"),
    (RULE.replace("pull", "*"), 4, "'*' is no action"),
    (RULE.replace("pull", "Pull"), 4, "'Pull' is no action"),
    # Claims
    (f"{RULE}claims = 1", 5, "claims takes a table of texts"),
    (f"{RULE}claims = {{}}", 5, "claims takes a table of texts"),
    (f"{RULE}claims = {{ issuer = 'x', ref = 1 }}", 5, "the claim ref takes one text"),
    (f"{RULE}claims = {{ issuer = 'x', ref = ['a'] }}", 5, "the claim ref takes one text"),
    (f"{RULE}claims = {{ issuer = 'x', ref = '' }}", 5, "the claim ref takes one text"),
    (f"{RULE}claims.issuer = 'x'\nclaims.ref = true", 6, "the claim ref takes one text"),
    (f"{RULE}claims = {{ ref = 'x' }}", 5, "add issuer"),
    (f"{RULE.replace('everyone', 'user:a')}claims = {{ issuer = 'x' }}", 2,
     "'user:a' has no claims"),
    (f"{RULE.replace('everyone', 'anonymous')}claims = {{ issuer = 'x' }}", 2,
     "'anonymous' has no claims"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "part"), REFUSED, ids=[f"{part[:50]}" for *_, part in REFUSED]
)
def test_what_is_wrong_is_said_in_one_sentence_with_its_line(
    text: str, line: int | None, part: str
) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        Policy.parse(text, "dir/policy.toml")
    said = str(caught.value)
    assert part in said
    assert "\n" not in said
    assert said.startswith("dir/policy.toml" + (f", line {line}: " if line else ": "))


def test_a_circle_of_groups_is_shown() -> None:
    text = f'[groups]\na = ["group:b"]\nb = ["user:x", "group:c"]\nc = ["group:a"]\n{RULE}'
    with pytest.raises(PolicyInvalid, match=r"line [234]: a group is in itself: . in . in . in ."):
        Policy.parse(text, "p")


def test_groups_can_be_in_groups_as_deep_as_one_likes() -> None:
    groups = "\n".join(f'g{n} = ["group:g{n + 1}"]' for n in range(3000))
    text = f'[groups]\n{groups}\ng3000 = ["user:ada"]\n{RULE}'
    assert "user:ada" in Policy.parse(text, "p").groups["g0"].named


def test_the_line_of_a_table_is_told_though_texts_and_comments_look_like_one() -> None:
    text = f"# [[allow]]\n[groups]\na = ['user:b', # [[allow]]\n'''user:[[allow]]''']\n\n{RULE}"
    assert [line.reason for line in Policy.parse(text, "p").lines] == ["p, line 6"]


def test_the_example_is_a_policy() -> None:
    policy = Policy.parse(EXAMPLE, "example")
    rows = EXAMPLE.splitlines()
    for line in policy.lines:
        assert rows[int(line.reason.rpartition(" ")[2]) - 1] == "[[allow]]"
    assert len(policy.lines) == EXAMPLE.count("\n[[allow]]")


@patient
@given(st.text("[]{}=\"'\\#\n ,.:*a", max_size=60), st.integers(0, len(EXAMPLE)))
def test_a_damaged_file_is_read_or_refused_in_a_sentence(damage: str, at: int) -> None:
    for text in (damage, EXAMPLE[:at] + damage, EXAMPLE[:at] + damage + EXAMPLE[at:]):
        said = "p: "
        try:
            Policy.parse(text, "p")
        except PolicyInvalid as error:
            said = str(error)
        assert re.match(r"p(, line \d+)?: ", said)
