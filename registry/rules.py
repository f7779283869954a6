"""The tables of the settings file: `[[retention]]`, `[[immutable]]` and `[[issuer]]`, each a list.

They are read and written here, key by key; what they mean is in storage.retention and
registry.auth.trust. There are no environment variables and no flags for them: a list of tables is
said in a file or not at all.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from registry.addresses import Network, too_wide
from registry.auth import trust
from registry.auth.trust import Issuer
from registry.auth.wildcard import Wildcard
from registry.settings import NEVER, Age, Count, Seconds
from storage.patterns import Pattern
from storage.retention import Rule, Scope

T = TypeVar("T")


class RuleInvalid(ValueError):
    """`name` tells the table, counted from 0, and the key, such as `retention[0].keep_last`."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One sort of tables."""

    name: str
    keys: Mapping[str, Callable[[Any], Any]]
    """How the value of each key is read. Raises ValueError."""
    make: Callable[[Mapping[str, Any]], T]
    """From the values that are there. Raises ValueError for a combination that means nothing."""
    values: Callable[[T], Mapping[str, Any]]
    """What `make` would be given to make the same."""
    unique: tuple[str, ...] = ()
    """Keys of which no two tables may have the same value."""

    def read(self, tables: Any) -> tuple[T, ...]:
        """Raises RuleInvalid."""
        if isinstance(tables, dict):
            raise RuleInvalid(self.name, f"is a list of tables: write [[{self.name}]]")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise RuleInvalid(self.name, f"takes tables, each begun by [[{self.name}]]")
        made = tuple(self._read(f"{self.name}[{at}]", table) for at, table in enumerate(tables))
        for key in self.unique:
            values = [self.values(one)[key] for one in made]
            for at, value in enumerate(values):
                if value in values[:at]:
                    raise RuleInvalid(f"{self.name}[{at}].{key}", f"{value!r} is there already")
        return made

    def _read(self, where: str, table: Mapping[str, Any]) -> T:
        values = {}
        for key, value in table.items():
            if key not in self.keys:
                close = difflib.get_close_matches(key, self.keys, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(self.keys)}"
                raise RuleInvalid(f"{where}.{key}", f"there is no such key; {hint}")
            try:
                values[key] = self.keys[key](value)
            except ValueError as error:
                raise RuleInvalid(f"{where}.{key}", str(error)) from None
        try:
            return self.make(values)
        except ValueError as error:
            raise RuleInvalid(where, str(error)) from None

    def write(self, made: T) -> Iterator[str]:
        """Lines of TOML that `read` makes the same of."""
        yield f"[[{self.name}]]"
        for key, value in self.values(made).items():
            yield f"{key} = {_written(value)}"


def _written(value: Any) -> str:
    match value:
        case tuple():
            return f"[{', '.join(map(_written, value))}]"
        case Count():
            return str(value)
        case Age():
            return f'"{value.in_units}"'
        case bool():
            return str(value).lower()
        case Mapping():
            return (
                f"{{ {', '.join(f'{_text(key)} = {_written(it)}' for key, it in value.items())} }}"
            )
        case _:
            return _text(str(value))


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are among TOML's, but DEL needs one there, too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _list(parse: Callable[[str], Pattern]) -> Callable[[Any], tuple[Pattern, ...]]:
    def read(value: Any) -> tuple[Pattern, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError('takes a list of patterns, such as ["v*"]')
        if not value:
            raise ValueError("is empty: name a pattern, or leave the key out")
        return tuple(map(parse, value))

    return read


_repositories = _list(Pattern.repository)
_tags = _list(Pattern.tag)


def _count(value: Any) -> Count:
    if type(value) is not int:
        raise ValueError("takes a whole number of 1 or more")
    return Count.parse(str(value))


def _age(value: Any) -> Age:
    if type(value) not in (int, float, str):
        raise ValueError('takes a time, such as "30d"')
    return Age.parse(str(value))


def _younger(value: Any) -> Age:
    age = _age(value)
    if age == NEVER:
        raise ValueError("takes a time: to keep every tag, leave the rule out")
    return age


_SCOPE: Final = {
    "repositories": _repositories,
    "except_repositories": _repositories,
    "tags": _tags,
    "except_tags": _tags,
}


def _scope(values: Mapping[str, Any]) -> Scope:
    if "repositories" not in values:
        raise ValueError('names no repositories; add repositories = ["acme/*"], or ["**"] for all')
    return Scope(**{key: value for key, value in values.items() if key in _SCOPE})


def _scope_values(scope: Scope) -> dict[str, Any]:
    return {key: value for key in _SCOPE if (value := getattr(scope, key))}


_SAYS: Final = ("keep_last", "keep_younger", "keep_tags", "protect", "untagged")


def _rule(values: Mapping[str, Any]) -> Rule:
    scope = _scope(values)
    said = {key: value for key, value in values.items() if key in _SAYS}
    if not said:
        raise ValueError(f"says nothing to keep; add one of {', '.join(_SAYS)}")
    rule = Rule(scope, **said)
    if not rule.removes and ("tags" in values or "except_tags" in values):
        raise ValueError(
            "has tags, but none of keep_last, keep_younger and keep_tags, so it looks at no tag"
        )
    return rule


def _rule_values(rule: Rule) -> dict[str, Any]:
    said = {key: value for key in _SAYS if (value := getattr(rule, key)) not in (None, ())}
    scope = _scope_values(rule.scope)
    if not rule.removes:
        scope.pop("tags")  # which has a default, and means nothing there
    return scope | said


def _immutable(values: Mapping[str, Any]) -> Scope:
    if "tags" not in values:
        raise ValueError('names no tags; add tags = ["v*"], or ["*"] for all')
    return _scope(values)


RETENTION: Final = Kind(
    "retention",
    {
        **_SCOPE,
        "keep_last": _count,
        "keep_younger": _younger,
        "keep_tags": _tags,
        "protect": _tags,
        "untagged": _age,
    },
    _rule,
    _rule_values,
)
IMMUTABLE: Final = Kind(
    "immutable",
    _SCOPE,
    _immutable,
    _scope_values,
)


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("takes a text")
    return value


def _string_of(parse: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: parse(_string(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("takes true or false")
    return value


def _path(value: Any) -> Path:
    return Path(_string(value))


def _networks(value: Any) -> tuple[Network, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('takes a list of networks, such as ["10.0.0.0/8"]')
    networks = []
    for one in value:
        try:
            network = ipaddress.ip_network(_string(one))
        except ValueError as error:
            raise ValueError(f"{error}; give networks such as 10.0.0.0/8") from None
        if too_wide(network):
            raise ValueError(
                f"{network} is not within one private network; public addresses need no entry, and"
                " for several private networks name each"
            )
        networks.append(network)
    return tuple(networks)


def _algorithms(value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or any(one not in trust.ALGORITHMS for one in value)
    ):
        raise ValueError(f"takes a list of {', '.join(trust.ALGORITHMS)}")
    return tuple(value)


def _claims(value: Any) -> Mapping[str, tuple[Wildcard, ...]]:
    if not isinstance(value, dict) or not value:
        raise ValueError('takes a table, such as { repository = "acme/*" }')
    claims = {}
    for name, patterns in value.items():
        listed = patterns if isinstance(patterns, list) else [patterns]
        if not listed or not all(isinstance(one, str) for one in listed):
            raise ValueError(
                f"{name} takes a text in which * stands for any characters, or a list of them; a"
                ' number is written as a text, such as "42"'
            )
        claims[name] = tuple(map(Wildcard, listed))
    return MappingProxyType(claims)


def _max_age(value: Any) -> Seconds:
    age = _age(value)
    if age > trust.OLDEST:
        raise ValueError("is more than a day: an identity token is for at once")
    return Age(age)


def _issuer(values: Mapping[str, Any]) -> Issuer:
    for key, example in (("name", "github"), ("url", "https://gitlab.example.org")):
        if key not in values:
            raise ValueError(f'has no {key}; add {key} = "{example}"')
    issuer = Issuer(**values)
    trust.check(issuer)
    return issuer


def _issuer_values(issuer: Issuer) -> Mapping[str, Any]:
    default = Issuer("", "")
    said = {
        key: value for key in _ISSUER if (value := getattr(issuer, key)) != getattr(default, key)
    }
    if "max_age" in said:
        said["max_age"] = Age(issuer.max_age)
    if "claims" in said:
        said["claims"] = {
            name: tuple(one.text for one in globs) for name, globs in issuer.claims.items()
        }
    return said


_ISSUER: Final[Mapping[str, Callable[[Any], Any]]] = {
    "name": _string_of(trust.parse_name),
    "url": _string_of(trust.parse_url),
    "audience": _string,
    "jwks_url": _string_of(trust.parse_keys_url),
    "jwks": _path,
    "authorities": _path,
    "networks": _networks,
    "insecure": _flag,
    "algorithms": _algorithms,
    "claims": _claims,
    "max_age": _max_age,
}
ISSUER: Final = Kind("issuer", _ISSUER, _issuer, _issuer_values, unique=("name", "url"))

KINDS: Final[Mapping[str, Kind[Any]]] = {kind.name: kind for kind in (RETENTION, IMMUTABLE, ISSUER)}
