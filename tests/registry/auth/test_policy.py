"""Who may do what, by policies that are small enough to see it."""

from __future__ import annotations

import pytest

from registry.auth.identity import ANONYMOUS, ANYBODY, Kind, Principal
from registry.auth.policy import Policy, decide
from registry.auth.scope import Action, Grant
from registry.auth.who import Wildcard

ADA = Principal(Kind.USER, "ada")
BOB = Principal(Kind.USER, "bob")
CI = Principal(Kind.ROBOT, "ci")
MAIN = Principal(
    Kind.WORKLOAD,
    "github:repo:acme/shop:ref:refs/heads/main",
    {"repository": "acme/shop", "ref": "refs/heads/main"},
)


def policy(*tables: str) -> Policy:
    return Policy.parse("\n".join(tables), "policy.toml")


def allow(who: str, repository: str, actions: str, claims: str = "") -> str:
    said = f"claims = {claims}\n" if claims else ""
    return f"[[allow]]\nwho = {who}\n{said}repository = {repository}\nactions = {actions}\n"


def allowed(policy: Policy, principal: Principal, action: str, repository: str | None) -> bool:
    return decide(policy, principal, Action(action), repository).allowed


TEAM = policy(
    "[groups]",
    'admins = ["user:root"]',
    'shop = ["user:ada", "group:ci"]',
    'ci = ["robot:ci", "workload:github:repo:acme/*:ref:refs/heads/main"]',
    "[accounts]",
    'acme = ["user:owner", "group:admins"]',
    allow('["group:admins"]', '["**"]', '["admin"]'),  # line 7
    allow('["everyone"]', '["lib/*"]', '["pull"]'),  # line 12
    allow('["anonymous"]', '["public/**"]', '["pull"]'),  # line 17
    allow('["group:shop"]', '["acme/shop", "acme/shop/**"]', '["pull", "push"]'),  # line 22
)


# Who may


def test_nothing_is_allowed_that_no_line_allows() -> None:
    for principal in (ANONYMOUS, ADA, CI, MAIN):
        for action in Action:
            assert not decide(TEAM, principal, action, "zeta/x").allowed
            assert not decide(TEAM, principal, action, None).allowed


def test_the_reason_names_the_file_and_the_line() -> None:
    assert decide(TEAM, Principal(Kind.USER, "root"), Action.DELETE, "x").reason == (
        "policy.toml, line 7"
    )
    assert decide(TEAM, ADA, Action.PUSH, "acme/shop").reason == "policy.toml, line 22"
    assert decide(TEAM, Principal(Kind.USER, "owner"), Action.PUSH, "acme").reason == (
        "policy.toml, line 6: an owner of acme"
    )
    assert decide(TEAM, BOB, Action.PUSH, "acme/shop").reason == (
        'nothing in policy.toml allows "push" on acme/shop to user:bob'
    )


def test_the_first_line_that_fits_is_named() -> None:
    both = policy(
        allow('["everyone"]', '["*/shop"]', '["pull"]'),
        allow('["everyone"]', '["acme/shop"]', '["pull"]'),
        allow('["everyone"]', '["zeta/shop"]', '["admin"]'),
        allow('["everyone"]', '["*/*"]', '["push"]'),
    )
    assert decide(both, ADA, Action.PULL, "acme/shop").reason.endswith("line 1")
    assert decide(both, ADA, Action.PUSH, "zeta/shop").reason.endswith("line 11")
    assert decide(both, ADA, Action.PUSH, "acme/shop").reason.endswith("line 16")


def test_anonymous_is_not_everyone() -> None:
    assert not allowed(TEAM, ANONYMOUS, "pull", "lib/x")
    assert all(allowed(TEAM, one, "pull", "lib/x") for one in (ADA, BOB, CI, MAIN))
    assert allowed(TEAM, ANONYMOUS, "pull", "public/x")


def test_who_signs_in_loses_nothing_by_it() -> None:
    """Or a client that is signed in for other repositories could not pull what is public."""
    assert all(allowed(TEAM, one, "pull", "public/x") for one in (ADA, BOB, CI, MAIN))


def test_a_group_has_the_members_of_its_groups() -> None:
    assert all(allowed(TEAM, one, "push", "acme/shop/x") for one in (ADA, CI, MAIN))
    assert not allowed(TEAM, BOB, "push", "acme/shop/x")
    assert TEAM.groups_of(CI) == ["ci", "shop"]
    assert TEAM.groups_of(ANONYMOUS) == []


@pytest.mark.parametrize(
    "principal",
    [
        Principal(Kind.USER, "Ada"),
        Principal(Kind.USER, "ada\n"),
        Principal(Kind.USER, "ada "),
        Principal(Kind.USER, ""),
        Principal(Kind.ROBOT, "ada"),
        Principal(Kind.WORKLOAD, "user:ada"),
        Principal(Kind.USER, "ci"),
        Principal(Kind.WORKLOAD, "robot:ci"),
        Principal(Kind.WORKLOAD, "github:repo:acme/shop:ref:refs/heads/main2"),
        Principal(Kind.WORKLOAD, "gitlab:repo:acme/shop:ref:refs/heads/main"),
        Principal(Kind.WORKLOAD, "github:repo:acmes/x:ref:refs/heads/main"),
        Principal(Kind.WORKLOAD, "github2:repo:acme/shop:ref:refs/heads/main"),
        Principal(Kind.ANONYMOUS, "ada"),
    ],
)
def test_who_is_nearly_called_so_is_somebody_else(principal: Principal) -> None:
    assert not allowed(TEAM, principal, "push", "acme/shop")


@pytest.mark.parametrize(
    "repository",
    ["acme/..", "acme/../zeta", "acme/shop\n", "ACME/shop", "acme//shop", "acme/shop/", "", "/",
     "acme/shop/\u00e4", "acme/%2e%2e", "acme/" + "a" * 256],
)  # fmt: skip
def test_what_is_no_name_belongs_to_no_repository(repository: str) -> None:
    owner = Principal(Kind.USER, "owner")
    everywhere = policy(allow('["user:ada"]', '["acme/**", "*/**"]', '["admin"]'))
    assert not allowed(TEAM, owner, "pull", repository)
    assert not allowed(TEAM, CI, "push", repository)
    assert not allowed(everywhere, ADA, "pull", repository)
    assert allowed(TEAM, Principal(Kind.USER, "root"), "pull", repository)


def test_who_owns_an_account_may_do_all_there_and_nothing_elsewhere() -> None:
    owner = Principal(Kind.USER, "owner")
    for action in Action:
        assert decide(TEAM, owner, action, "acme").allowed
        assert decide(TEAM, owner, action, "acme/a/b").allowed
        assert not decide(TEAM, owner, action, "acmes/a").allowed
        assert not decide(TEAM, owner, action, None).allowed


def test_an_admin_of_an_account_is_none_of_what_belongs_to_no_repository() -> None:
    some = policy(
        allow('["user:ada"]', '["acme/**", "*", "**/x", "*/**"]', '["admin"]'),
        allow('["user:bob"]', '["x", "**"]', '["admin"]'),
    )
    assert allowed(some, ADA, "delete", "acme/x")
    assert not any(allowed(some, ADA, action, None) for action in Action)
    assert all(allowed(some, BOB, action, None) for action in Action)


def test_admin_is_every_action_and_no_other_is_two() -> None:
    for action in Action:
        one = policy(allow('["user:ada"]', '["acme/*"]', f'["{action}"]'))
        may = {other for other in Action if allowed(one, ADA, other, "acme/x")}
        assert may == (set(Action) if action is Action.ADMIN else {action})


# Credentials


def robot(grants: list[tuple[str, list[str]]], bounds: list[tuple[str, list[str]]] | None = None):
    return Principal(
        Kind.ROBOT,
        "ci",
        grants=tuple(Grant.parse(*grant) for grant in grants),
        bounds=None if bounds is None else tuple(Grant.parse(*bound) for bound in bounds),
    )


def test_a_robot_may_do_what_its_token_grants() -> None:
    granted = robot([("zeta/*", ["push"])])
    decision = decide(TEAM, granted, Action.PUSH, "zeta/x")
    assert decision.allowed
    assert decision.reason == "the token of robot ci"
    assert not allowed(TEAM, granted, "pull", "zeta/x")
    assert not allowed(TEAM, granted, "push", None)
    assert allowed(TEAM, granted, "push", "acme/shop")  # by the policy, line 22


def test_nothing_extends_the_bounds_of_a_credential() -> None:
    bound = robot([("zeta/*", ["push"])], [("zeta/x", ["push"]), ("acme/*", ["pull"])])
    assert allowed(TEAM, bound, "push", "zeta/x")
    assert not allowed(TEAM, bound, "push", "zeta/y")
    assert allowed(TEAM, bound, "pull", "acme/shop")
    assert not allowed(TEAM, bound, "push", "acme/shop")
    assert not allowed(TEAM, bound, "delete", "acme/other")
    assert not decide(TEAM, robot([("**", ["admin"])], []), Action.PULL, "zeta/x").allowed


def test_bounds_hold_for_admins_owners_and_anybody() -> None:
    pull = (Grant.parse("acme/shop", ["pull"]),)
    for kind, name in ((Kind.USER, "root"), (Kind.USER, "owner"), (Kind.ANYBODY, "")):
        principal = Principal(kind, name, bounds=pull)
        assert allowed(TEAM, principal, "pull", "acme/shop")
        assert not allowed(TEAM, principal, "push", "acme/shop")
        assert not allowed(TEAM, principal, "pull", None)


def test_a_bound_allows_nothing_by_itself() -> None:
    bound = Principal(Kind.USER, "bob", bounds=(Grant.parse("**", ["admin"]),))
    assert not any(allowed(TEAM, bound, action, "acme/shop") for action in Action)


def test_anybody_may_do_everything() -> None:
    assert all(allowed(TEAM, ANYBODY, action, None) for action in Action)


# Claims

CLAIMS = policy(
    allow(
        '["claims"]',
        '["acme/*"]',
        '["push"]',
        '{ issuer = "github", repository = "acme/*", ref = "refs/heads/main" }',
    )
)


@pytest.mark.parametrize(
    ("claims", "fit"),
    [
        ({"repository": "acme/shop", "ref": "refs/heads/main"}, True),
        ({"repository": "acme/shop", "ref": "refs/heads/main", "more": "x"}, True),
        ({"repository": "acme/", "ref": "refs/heads/main"}, True),
        ({"repository": "acme/shop"}, False),
        ({"repository": "acme/shop", "ref": ""}, False),
        ({"repository": "acme/shop", "ref": "refs/heads/main\n"}, False),
        ({"repository": "acme/shop", "ref": "refs/heads/Main"}, False),
        ({"repository": "xacme/shop", "ref": "refs/heads/main"}, False),
        ({"ref": "refs/heads/main", "issuer": "github"}, False),
        ({}, False),
    ],
)
def test_every_claim_has_to_fit(claims: dict[str, str], fit: bool) -> None:
    workload = Principal(Kind.WORKLOAD, "github:whatever", claims)
    assert allowed(CLAIMS, workload, "push", "acme/x") == fit


@pytest.mark.parametrize(
    ("text", "fitting", "others"),
    [
        ("main", ["main"], ["", "Main", "main2", "xmain"]),
        ("*", ["", "a", "a/b:c\n"], []),
        ("ma*ain", ["maain", "ma/ain"], ["main", "ain", "ma"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("*a*b*", ["ab", "xaxbx"], ["ba", "a", ""]),
        ("a*bc*c", ["abcc", "abxbcc"], ["abc", "abcx"]),
        ("a**b", ["ab", "axb"], ["a"]),
        ("[a]?", ["[a]?"], ["ab"]),
    ],
)
def test_a_star_stands_for_any_characters(text: str, fitting: list[str], others: list[str]) -> None:
    assert [one for one in fitting + others if Wildcard(text).fits(one)] == fitting


def test_the_issuer_is_who_vouches_and_not_what_a_token_says_of_itself() -> None:
    said = {**MAIN.claims, "issuer": "github"}
    assert not allowed(CLAIMS, Principal(Kind.WORKLOAD, "evil:github", said), "push", "acme/x")


def test_only_workloads_have_claims() -> None:
    for kind in (Kind.USER, Kind.ROBOT, Kind.ANONYMOUS):
        claimed = Principal(kind, "github:x", MAIN.claims)
        assert not allowed(CLAIMS, claimed, "push", "acme/x")


@pytest.mark.parametrize("who", ['["everyone"]', '["claims"]', '["group:ci"]', None])
def test_who_and_claims_both_have_to_fit(who: str | None) -> None:
    line = allow(who or "", '["**"]', '["pull"]', '{ issuer = "*", ref = "*" }')
    if who is None:
        line = line.replace("who = \n", "")
    both = policy('[groups]\nci = ["workload:github:repo:acme/*", "user:ada"]', line)
    assert allowed(both, MAIN, "pull", "x")
    assert not allowed(both, ADA, "pull", "x")
    other = Principal(Kind.WORKLOAD, "github:repo:zeta/x", {"ref": "x"})
    assert allowed(both, other, "pull", "x") == (who != '["group:ci"]')


def test_what_is_remembered_of_one_is_not_told_of_another() -> None:
    """The same name with other claims, or of another kind, is asked anew."""
    assert allowed(CLAIMS, MAIN, "push", "acme/x")
    assert not allowed(CLAIMS, Principal(Kind.WORKLOAD, MAIN.name), "push", "acme/x")
    assert not allowed(CLAIMS, Principal(Kind.USER, MAIN.name, MAIN.claims), "push", "acme/x")
    assert allowed(CLAIMS, MAIN, "push", "acme/x")
    assert not allowed(CLAIMS, MAIN, "pull", "acme/x")


def test_of_many_principals_few_are_remembered() -> None:
    team = policy(allow('["user:u7"]', '["acme/**"]', '["pull"]'))
    for _ in range(2):
        for number in range(3000):
            principal = Principal(Kind.USER, f"u{number}")
            assert allowed(team, principal, "pull", "acme") == (number == 7)
    assert len(team._known) <= 1024


# Without a file


def test_without_a_file_only_user_admin_may_anything() -> None:
    admin = Principal(Kind.USER, "admin")
    assert all(allowed(Policy.DEFAULT, admin, action, None) for action in Action)
    assert all(allowed(Policy.DEFAULT, admin, action, "acme/x") for action in Action)
    assert "no policy file" in decide(Policy.DEFAULT, admin, Action.PUSH, "x").reason
    assert Policy.DEFAULT.groups_of(admin) == ["admins"]
    for other in (ANONYMOUS, ADA, Principal(Kind.ROBOT, "admin"), Principal(Kind.USER, "Admin")):
        assert not any(allowed(Policy.DEFAULT, other, action, "acme/x") for action in Action)
        assert not any(allowed(Policy.DEFAULT, other, action, None) for action in Action)
