"""Whom a list of the policy file means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from registry.auth.identity import Kind, Principal
from registry.auth.wildcard import Wildcard

CLAIMS: Final = "claims"
ISSUER: Final = "issuer"
"""Among claims: not what a token says of itself, but by which name its issuer is configured."""

_NAME: Final = re.compile(r"[^\s:*]{1,255}")
_ISSUER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Who:
    anonymous: bool = False
    """Whoever there is: who signs in loses nothing by it."""
    everyone: bool = False
    """Whoever signed in; never anonymous."""
    named: frozenset[str] = frozenset()
    """Users and robots, as Principal.text."""
    workloads: tuple[Wildcard, ...] = ()
    """Of the names of workloads."""

    @staticmethod
    def member(text: str) -> Who:
        """One of `user:NAME`, `robot:NAME`, `workload:ISSUER:SUBJECT`. Raises ValueError."""
        kind, _, name = text.partition(":")
        match kind:
            case Kind.USER | Kind.ROBOT if _NAME.fullmatch(name) and name.isprintable():
                return Who(named=frozenset({text}))
            case Kind.USER | Kind.ROBOT:
                hint = '; whoever signed in is "everyone"' if "*" in name else ""
                raise ValueError(f"{text!r} names no {kind}{hint}; write {kind}:NAME")
            case Kind.WORKLOAD:
                issuer, _, subject = name.partition(":")
                if not _ISSUER.fullmatch(issuer) or not subject:
                    raise ValueError(
                        f"{text!r} is not workload:ISSUER:SUBJECT, with the name of one issuer and"
                        " possibly * in the subject"
                    )
                return Who(workloads=(Wildcard(name),))
        raise ValueError(
            f"{text[:140]!r} is nobody; write user:NAME, robot:NAME or workload:ISSUER:SUBJECT"
        )

    @staticmethod
    def all(several: Iterable[Who]) -> Who:
        whos = tuple(several)
        return Who(
            any(who.anonymous for who in whos),
            any(who.everyone for who in whos),
            frozenset().union(*(who.named for who in whos)),
            tuple(dict.fromkeys(workload for who in whos for workload in who.workloads)),
        )

    def means(self, principal: Principal) -> bool:
        match principal.kind:
            case Kind.ANONYMOUS:
                return self.anonymous
            case Kind.USER | Kind.ROBOT | Kind.WORKLOAD if self.anonymous:
                return True
            case Kind.USER | Kind.ROBOT:
                return self.everyone or principal.text in self.named
            case Kind.WORKLOAD:
                return self.everyone or any(one.fits(principal.name) for one in self.workloads)
            case Kind.ANYBODY:  # may do everything before anybody looks here
                return False


@dataclass(frozen=True, slots=True)
class Claims:
    """What a workload's issuer has to say of it."""

    wanted: Mapping[str, Wildcard]

    def fit(self, principal: Principal) -> bool:
        """A claim that is absent never fits."""
        if principal.kind is not Kind.WORKLOAD:
            return False
        return all(
            (value := _claim(principal, name)) is not None and wanted.fits(value)
            for name, wanted in self.wanted.items()
        )


def _claim(principal: Principal, name: str) -> str | None:
    if name == ISSUER:  # whoever can have claims of his own may have one of this name, too
        return principal.name.partition(":")[0]
    return principal.claims.get(name)
