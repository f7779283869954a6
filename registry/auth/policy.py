"""Who may do what: the one place that decides it. Pure.

A policy only ever allows; what no line of it allows is denied. `registry.auth.reading` knows the
file, `spindle policy explain` shows a decision.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import ClassVar, Final, TypeAlias

from registry.auth.gate import Decision
from registry.auth.identity import Kind, Principal
from registry.auth.reading import Line, Owners, PolicyInvalid, read
from registry.auth.scope import Action
from registry.auth.who import Who
from storage.errors import NameInvalid
from storage.names import RepositoryName
from storage.patterns import Pattern

__all__ = ["Policy", "PolicyInvalid", "decide"]

_REMEMBERED: Final = 1024
"""Principals of whom is known which lines are about them; then all are forgotten."""

_Entry: TypeAlias = tuple[int, Pattern, Decision]
"""A pattern of a line, with the line's place among all."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines by which one principal may do one action, in such a way that few are looked at."""

    of_account: Mapping[str, tuple[_Entry, ...]]
    """Where the pattern spells the account: no other repository could fit."""
    of_any: tuple[_Entry, ...]

    @staticmethod
    def sorted(entries: Iterable[_Entry]) -> _Lines:
        spelt: dict[str, list[_Entry]] = {}
        others: list[_Entry] = []
        for entry in entries:
            account = entry[1].text.partition("/")[0]
            wild = "*" in account or "?" in account
            (others if wild else spelt.setdefault(account, [])).append(entry)
        return _Lines({key: tuple(value) for key, value in spelt.items()}, tuple(others))

    def first(self, name: RepositoryName | None) -> Decision | None:
        if name is None:
            return next((found for _, one, found in self.of_any if one.text == "**"), None)
        spelt = _fitting(self.of_account.get(name.account, ()), name.text)
        other = _fitting(self.of_any, name.text)
        if spelt and other:
            return min(spelt, other, key=itemgetter(0))[2]
        found = spelt or other
        return found and found[2]


def _fitting(entries: tuple[_Entry, ...], name: str) -> _Entry | None:
    return next((entry for entry in entries if entry[1].fits(name)), None)


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    """Of the file."""
    lines: tuple[Line, ...]
    accounts: Mapping[str, Owners] = field(default_factory=dict)
    groups: Mapping[str, Who] = field(default_factory=dict)
    _claims: tuple[str, ...] = field(default=(), repr=False)
    """The names of all claims that any line asks for."""
    _known: dict[Hashable, dict[Action, _Lines]] = field(
        default_factory=dict, compare=False, repr=False
    )

    DEFAULT: ClassVar[Policy]
    """What holds where there is no policy file."""

    @staticmethod
    def parse(text: str, name: str) -> Policy:
        """Of a policy file (TOML); `name` is for people. Raises PolicyInvalid, one sentence."""
        document = read(text, name)
        claims = {claim for line in document.lines if line.claims for claim in line.claims.wanted}
        return Policy(
            name, document.lines, document.accounts, document.groups, tuple(sorted(claims))
        )

    def groups_of(self, principal: Principal) -> list[str]:
        return sorted(group for group, who in self.groups.items() if who.means(principal))

    def _lines(self, principal: Principal, action: Action) -> _Lines:
        # All that a line can ask of a principal; two of whom it is the same are told alike.
        key = (principal.kind, principal.name, *map(principal.claims.get, self._claims))
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = {}
        lines = known.get(action)
        if lines is None:
            lines = known[action] = _Lines.sorted(self._about(principal, action))
        return lines

    def _about(self, principal: Principal, action: Action) -> Iterator[_Entry]:
        for place, line in enumerate(self.lines):
            if (
                (action in line.actions or Action.ADMIN in line.actions)
                and (line.claims is None or line.claims.fit(principal))
                and line.who.means(principal)
            ):
                decision = Decision(True, line.reason)
                yield from ((place, pattern, decision) for pattern in line.patterns)


Policy.DEFAULT = Policy(
    "no policy file",
    (
        Line(
            Who.member("user:admin"),
            None,
            (Pattern.repository("**"),),
            frozenset({Action.ADMIN}),
            "there is no policy file, and without one user:admin may do everything",
        ),
    ),
    groups={"admins": Who.member("user:admin")},
)


def decide(
    policy: Policy, principal: Principal, action: Action, repository: str | None
) -> Decision:
    """`repository` is None for what belongs to none; what is no name of one belongs to none, too.

    In this order: the bounds of the credential, which nothing extends; a registry that asks nobody
    to sign in; the grants of the credential; the first line of the policy that fits; the owners of
    the account. Takes some microseconds.
    """
    try:
        name = None if repository is None else RepositoryName.parse(repository)
    except NameInvalid:
        name = None
    text = None if name is None else name.text
    if principal.bounds is not None and not any(
        grant.covers(action, text) for grant in principal.bounds
    ):
        return Decision(False, f"the token that was shown is not for {_what(action, text)}")
    if principal.kind is Kind.ANYBODY:
        return _NOBODY_ASKED
    if any(grant.covers(action, text) for grant in principal.grants):
        return Decision(True, f"the token of {principal.kind} {principal.name}")
    decision = policy._lines(principal, action).first(name)
    if decision is not None:
        return decision
    if name is not None:
        owners = policy.accounts.get(name.account)
        if owners is not None and owners.who.means(principal):
            return Decision(True, owners.reason)
    return Decision(
        False, f"nothing in {policy.name} allows {_what(action, text)} to {principal.text}"
    )


_NOBODY_ASKED: Final = Decision(True, "nobody has to sign in here (auth.enabled)")


def _what(action: Action, repository: str | None) -> str:
    return f'"{action}" on {repository or "what belongs to no repository"}'
