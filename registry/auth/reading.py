"""The policy file, read key by key: what it says, or a sentence for what it cannot say. Pure."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, NoReturn

from registry.auth import places
from registry.auth.scope import Action, parse_action
from registry.auth.who import CLAIMS, ISSUER, Claims, Who
from registry.auth.wildcard import Wildcard
from storage.errors import NameInvalid
from storage.names import RepositoryName
from storage.patterns import Pattern

_TABLES: Final = ("groups", "accounts", "allow")
_KEYS: Final = ("who", CLAIMS, "repository", "actions")
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_ALONE: Final = {"anonymous": Who(anonymous=True), "everyone": Who(everyone=True)}


class PolicyInvalid(ValueError):
    """One sentence, with the file and the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One `[[allow]]`."""

    who: Who
    claims: Claims | None
    patterns: tuple[Pattern, ...]
    actions: frozenset[Action]
    reason: str
    """Where it stands."""


@dataclass(frozen=True, slots=True)
class Owners:
    who: Who
    reason: str


@dataclass(frozen=True, slots=True)
class Document:
    groups: Mapping[str, Who]
    """Each with the members of its groups."""
    accounts: Mapping[str, Owners]
    lines: tuple[Line, ...]


def read(text: str, name: str) -> Document:
    """Raises PolicyInvalid. `name` is that of the file, as people are to see it."""
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        raise PolicyInvalid(_not_toml(error, text, name)) from None
    except RecursionError:
        raise PolicyInvalid(f"{name}: nothing in a policy is nested that deep") from None
    return _Reader(name, places.lines(text)).document(tree)


def _not_toml(error: ValueError, text: str, name: str) -> str:
    message = str(error).replace("Cannot overwrite a value", "the same key is there twice")
    if match := re.search(r" \(at line (\d+), column (\d+)\)$", message):
        return f"{name}, line {match[1]}: {message[: match.start()]} (column {match[2]})"
    line = text.count("\n") + (not text.endswith("\n"))
    return f"{name}, line {line}: {message}"


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    lines: Mapping[places.Keys, int]

    def document(self, tree: Mapping[str, Any]) -> Document:
        for key in tree:
            self.known((key,), _TABLES, "table")
        groups = self.groups(self.table(("groups",), tree.get("groups", {})))
        accounts = {
            account: self.owners(account, members, groups)
            for account, members in self.table(("accounts",), tree.get("accounts", {})).items()
        }
        tables = tree.get("allow", [])
        # An array of inline tables would be the same TOML, but have no line for each.
        if not isinstance(tables, list) or any(
            ("allow", at) not in self.lines for at in range(len(tables))
        ):
            self.fail(("allow",), "write a table for each rule, begun by [[allow]]")
        lines = tuple(self.allow(at, table, groups) for at, table in enumerate(tables))
        if not lines and not accounts:
            self.fail((), "nobody is allowed anything; write at least one [[allow]]")
        return Document(groups, accounts, lines)

    def at(self, path: places.Keys) -> str:
        """Where a key stands; of what is within a value, where that begins."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}, line {self.lines.get(path, 1)}"

    def fail(self, path: places.Keys, reason: str) -> NoReturn:
        raise PolicyInvalid(f"{self.at(path)}: {reason}")

    def known(self, path: places.Keys, names: Collection[str], what: str) -> None:
        key = str(path[-1])
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            there_are = f"there are {', '.join(names)}" if names else "there are none"
            hint = f"did you mean {close[0]}?" if close else there_are
            self.fail(path, f"there is no {what} {key[:140]!r}; {hint}")

    def table(self, path: places.Keys, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.fail(path, f"{path[0]} is a table, begun by [{path[0]}]")
        return value

    def texts(self, path: places.Keys, value: Any, example: str) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.fail(path, f"{path[-1]} takes a list of texts, such as {example}")
        if not value:
            self.fail(path, f"{path[-1]} is empty; write such as {example}, or leave it out")
        return value

    def groups(self, tables: Mapping[str, Any]) -> Mapping[str, Who]:
        members: dict[str, list[str]] = {}
        for group, value in tables.items():
            path = ("groups", group)
            if not _GROUP.fullmatch(group):
                self.fail(path, f"{group[:140]!r} is no name of a group: use letters and digits")
            members[group] = self.texts(path, value, '["user:ada"]')
        inner = {
            group: [text[6:] for text in texts if text.startswith("group:")]
            for group, texts in members.items()
        }
        for group, names in inner.items():
            for name in names:
                if name not in members:
                    self.unknown_group(("groups", group), name, members)
        try:
            order = tuple(TopologicalSorter(inner).static_order())
        except CycleError as error:
            circle: list[str] = error.args[1]
            self.fail(("groups", circle[0]), f"a group is in itself: {' in '.join(circle)}")
        flat: dict[str, Who] = {}
        for group in order:
            flat[group] = self.members(("groups", group), members[group], flat)
        return flat

    def unknown_group(self, path: places.Keys, name: str, groups: Collection[str]) -> NoReturn:
        close = difflib.get_close_matches(name, groups, n=1)
        hint = f"did you mean group:{close[0]}?" if close else "write it into [groups]"
        self.fail(path, f"there is no group {name[:140]!r}; {hint}")

    def members(
        self,
        path: places.Keys,
        texts: Collection[str],
        groups: Mapping[str, Who],
        alone: Mapping[str, Who] = {},
    ) -> Who:
        """`alone`: words that stand for somebody here, without a name behind them."""
        whos = []
        for text in texts:
            if text.startswith("group:"):
                if text[6:] not in groups:
                    self.unknown_group(path, text[6:], groups)
                whos.append(groups[text[6:]])
            elif text in alone:
                whos.append(alone[text])
            elif text in (*_ALONE, CLAIMS):
                self.fail(path, f"{text!r} cannot be here: name whom you mean")
            else:
                try:
                    whos.append(Who.member(text))
                except ValueError as error:
                    self.fail(
                        path, f"{error}{''.join(f', or {word}' for word in ('group:NAME', *alone))}"
                    )
        return Who.all(whos)

    def owners(self, account: str, value: Any, groups: Mapping[str, Who]) -> Owners:
        path = ("accounts", account)
        if isinstance(value, dict):
            self.fail(path, f'takes a list; a name with dots wants quotes: "{account}.…" = [...]')
        try:
            name = RepositoryName.parse(account)
        except NameInvalid as error:
            self.fail(path, str(error))
        if name.account != account:
            self.fail(path, f"{account!r} is a repository; its account is {name.account!r}")
        texts = self.texts(path, value, '["user:ada"]')
        who = self.members(path, texts, groups)
        return Owners(who, f"{self.at(path)}: an owner of {account}")

    def allow(self, at: int, table: Any, groups: Mapping[str, Who]) -> Line:
        path = ("allow", at)
        for key in table:
            self.known((*path, key), _KEYS, "key")
        for key in _KEYS[2:]:
            if key not in table:
                self.fail(path, f"this [[allow]] has no {key}")
        claims = self.claims((*path, CLAIMS), table[CLAIMS]) if CLAIMS in table else None
        return Line(
            self.who((*path, "who"), table, groups),
            claims,
            self.patterns((*path, "repository"), table["repository"]),
            self.actions((*path, "actions"), table["actions"]),
            self.at(path),
        )

    def who(self, path: places.Keys, table: Mapping[str, Any], groups: Mapping[str, Who]) -> Who:
        """Of a line with claims: those whose claims are looked at."""
        if CLAIMS not in table:
            if "who" not in table:
                self.fail(path, "this [[allow]] has no who")
            texts = self.texts(path, table["who"], '["user:ada"]')
            if CLAIMS in texts:
                self.fail(path, f"{CLAIMS!r} is nobody without claims = {{ … }} in the same table")
            return self.members(path, texts, groups, _ALONE)
        texts = self.texts(path, table.get("who", [CLAIMS]), '["everyone"]')
        for text in texts:
            if text == "anonymous" or text.startswith(("user:", "robot:")):
                self.fail(path, f"{text!r} has no claims, so this [[allow]] would never fit it")
        everyone = Who(everyone=True)
        return self.members(path, texts, groups, {"everyone": everyone, CLAIMS: everyone})

    def claims(self, path: places.Keys, value: Any) -> Claims:
        example = '{ issuer = "github", ref = "refs/heads/main" }'
        if not isinstance(value, dict) or not value:
            self.fail(path, f"claims takes a table of texts, such as {example}")
        for claim, wanted in value.items():
            if not isinstance(wanted, str) or not wanted:
                self.fail((*path, claim), f"the claim {claim} takes one text, such as in {example}")
        if ISSUER not in value:
            # Anybody who runs an issuer could say the rest.
            self.fail(path, f"claims mean nothing without who says so; add issuer, as in {example}")
        return Claims({claim: Wildcard(wanted) for claim, wanted in value.items()})

    def patterns(self, path: places.Keys, value: Any) -> tuple[Pattern, ...]:
        try:
            return tuple(map(Pattern.repository, self.texts(path, value, '["acme/**"]')))
        except PolicyInvalid:
            raise
        except ValueError as error:
            self.fail(path, str(error))

    def actions(self, path: places.Keys, value: Any) -> frozenset[Action]:
        try:
            return frozenset(map(parse_action, self.texts(path, value, '["pull"]')))
        except PolicyInvalid:
            raise
        except ValueError as error:
            self.fail(path, str(error))
