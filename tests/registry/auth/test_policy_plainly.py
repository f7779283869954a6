"""Who may do what, compared with a plain reading of the same policy."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from registry.auth.identity import Kind, Principal
from registry.auth.policy import Policy, decide
from registry.auth.scope import Action, Grant
from tests.storage.content import patient

PATTERNS = {
    "**": r".*",
    "acme/**": r"acme(/.*)?",
    "acme/*": r"acme/[^/]*",
    "acme/shop": r"acme/shop",
    "*/shop": r"[^/]*/shop",
    "**/shop": r"(.*/)?shop",
    "a?me/*/x": r"a[^/]me/[^/]*/x",
    "*": r"[^/]*",
}
REPOSITORIES = (None, "acme", "acme/shop", "acme/shop/x", "zeta/shop", "shop", "zeta", "acme/../x")
MEMBERS = ("user:ada", "user:bob", "robot:ci", "workload:gh:*", "workload:gh:a*:main")
GROUPS = ("one", "two", "three")
WHO = (*MEMBERS, "anonymous", "everyone", *(f"group:{group}" for group in GROUPS))
PRINCIPALS = st.builds(
    Principal,
    kind=st.sampled_from(Kind),
    name=st.sampled_from(("", "ada", "bob", "ci", "gh:a:main", "gh:b:x", "gl:a:main")),
    claims=st.dictionaries(
        st.sampled_from(("issuer", "ref", "env")),
        st.sampled_from(("gh", "main", "dev")),
        max_size=3,
    ),
    grants=st.lists(
        st.builds(Grant.parse, st.sampled_from(tuple(PATTERNS)), st.sets(st.sampled_from(Action))),
        max_size=1,
    ).map(tuple),
    bounds=st.none()
    | st.lists(
        st.builds(
            Grant.parse,
            st.sampled_from(tuple(PATTERNS)),
            st.sets(st.sampled_from(Action), min_size=1),
        ),
        max_size=2,
    ).map(tuple),
)


def some(choices, **sizes):
    return st.lists(st.sampled_from(tuple(choices)), min_size=1, max_size=3, unique=True, **sizes)


LINES = st.lists(
    st.fixed_dictionaries(
        {"who": some(WHO), "repository": some(PATTERNS), "actions": some(map(str, Action))}
    )
    | st.fixed_dictionaries(
        {
            "who": some(("everyone", "workload:gh:*", "group:one")),
            "claims": st.fixed_dictionaries(
                {"issuer": st.sampled_from(("gh", "g*", "*l"))},
                optional={"ref": st.sampled_from(("main", "*", "m*n", "d*"))},
            ),
            "repository": some(PATTERNS),
            "actions": some(map(str, Action)),
        }
    ),
    min_size=1,
    max_size=5,
)
OWNERS = st.dictionaries(st.sampled_from(("acme", "zeta")), some((*MEMBERS, "group:two")))
# A group may hold those that come after it, so there is no circle.
MEMBERSHIP = st.tuples(
    some((*MEMBERS, "group:two", "group:three")), some((*MEMBERS, "group:three")), some(MEMBERS)
).map(lambda members: dict(zip(GROUPS, members, strict=True)))


def toml(value: object) -> str:
    match value:
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {toml(one)}' for key, one in value.items())} }}"
        case _:
            return f'"{value}"'


def written(groups: dict, accounts: dict, lines: list[dict]) -> tuple[str, list[int]]:
    """The policy file, and the line of each [[allow]]."""
    rows = ["[groups]", *(f"{group} = {toml(members)}" for group, members in groups.items())]
    rows += ["[accounts]", *(f"{account} = {toml(who)}" for account, who in accounts.items())]
    numbers = []
    for line in lines:
        rows.append("[[allow]]")
        numbers.append(len(rows))
        rows += [f"{key} = {toml(value)}" for key, value in line.items()]
    return "\n".join(rows), numbers


def is_among(principal: Principal, members: list[str], groups: dict) -> bool:
    for member in members:
        kind, _, name = member.partition(":")
        if kind == "group" and is_among(principal, groups[name], groups):
            return True
        if member == "anonymous":
            return True
        if member == "everyone" and principal.kind in ("user", "robot", "workload"):
            return True
        if kind == principal.kind and kind in ("user", "robot") and name == principal.name:
            return True
        if kind == principal.kind == "workload" and fnmatchcase(principal.name, name):
            return True
    return False


def fit(patterns: list[str], repository: str | None) -> bool:
    if repository is None or ".." in repository:
        return "**" in patterns
    return any(re.fullmatch(PATTERNS[pattern], repository) for pattern in patterns)


def may(actions: object, action: Action) -> bool:
    return str(action) in actions or "admin" in actions  # type: ignore[operator]


def vouched(principal: Principal, claims: dict[str, str]) -> bool:
    said = {**principal.claims, "issuer": principal.name.split(":")[0]}
    return principal.kind == "workload" and all(
        claim in said and fnmatchcase(said[claim], wanted) for claim, wanted in claims.items()
    )


def plainly(groups, accounts, lines, principal, action, repository) -> str | int:
    """Who decides: the place of a line, or a word."""

    def covered(grants: tuple[Grant, ...]) -> bool:
        return any(
            fit([grant.pattern.text], repository) and may(grant.actions, action) for grant in grants
        )

    if principal.bounds is not None and not covered(principal.bounds):
        return "not for"
    if principal.kind == "anybody":
        return "nobody has to sign in"
    if covered(principal.grants):
        return "the token of"
    for place, line in enumerate(lines):
        if (
            is_among(principal, line["who"], groups)
            and ("claims" not in line or vouched(principal, line["claims"]))
            and fit(line["repository"], repository)
            and may(line["actions"], action)
        ):
            return place
    account = (repository or "").split("/")[0]
    if ".." not in (repository or "") and is_among(principal, accounts.get(account, []), groups):
        return "an owner of"
    return "nothing in"


KNOWN = (
    Principal(Kind.ANONYMOUS),
    Principal(Kind.USER, "ada"),
    Principal(Kind.ROBOT, "ci"),
    Principal(Kind.WORKLOAD, "gh:a:main", {"ref": "main"}),
)
"""Of whom everything is asked; most of those that are made up are nobody."""


@patient
@given(MEMBERSHIP, OWNERS, LINES, st.lists(PRINCIPALS, max_size=3))
def test_what_is_decided_is_what_a_plain_reading_says(groups, accounts, lines, others) -> None:
    text, numbers = written(groups, accounts, lines)
    parsed = Policy.parse(text, "p")
    for principal, action, repository in product((*KNOWN, *others), Action, REPOSITORIES):
        decision = decide(parsed, principal, action, repository)
        expected = plainly(groups, accounts, lines, principal, action, repository)
        if isinstance(expected, int):
            assert (decision.allowed, decision.reason) == (True, f"p, line {numbers[expected]}")
        else:
            assert expected in decision.reason
            assert decision.allowed == (expected not in ("not for", "nothing in"))
