"""What a token is asked for, and what it says it may be used for. Pure.

Distribution's token specification, "Token Scope Documentation": a scope is
`repository:acme/shop:pull,push`, and a token's `access` is a list of the same as objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from registry.auth.scope import Action, Grant
from storage.errors import NameInvalid
from storage.names import RepositoryName
from storage.patterns import Pattern

MOST: Final = 64  # of one token: a push that mounts from many repositories names each
CATALOG: Final = ("registry", "catalog")
EVERYTHING: Final = "*"

WORDS: Final[Mapping[str, frozenset[Action]]] = MappingProxyType(
    {
        "pull": frozenset({Action.PULL}),
        # No client knows a word for moving a tag, so whoever asks to push means that, too.
        "push": frozenset({Action.PUSH, Action.OVERWRITE}),
        "delete": frozenset({Action.DELETE}),
        "deploy": frozenset({Action.DEPLOY}),  # ours, for /v1
        EVERYTHING: frozenset(Action),
    }
)
"""The actions that the words of a token stand for."""

ASKED: Final[Mapping[str, Action]] = MappingProxyType(
    {
        "pull": Action.PULL,
        "push": Action.PUSH,
        "delete": Action.DELETE,
        "deploy": Action.DEPLOY,
        EVERYTHING: Action.ADMIN,
    }
)
"""The one action that has to be allowed for a word to be granted."""


@dataclass(frozen=True, slots=True)
class Resource:
    """`actions` without repetition, in the order they were asked for."""

    type: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


class ResourceInvalid(ValueError):
    """An entry of a token's access that is not one."""


def parse_scopes(texts: Iterable[str]) -> tuple[Resource, ...]:
    """What of scopes can be granted at all; each may hold several, with spaces between.

    What has another form, another type, a name that no repository has or actions that are not known
    is left out, as all token services do: a client is not told no before it tries. One resource
    that is named twice is one. Raises ValueError when there are more than MOST.
    """
    asked: dict[tuple[str, str], dict[str, None]] = {}
    for text in texts:
        for scope in text.split():
            type, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            words = dict.fromkeys(word for word in actions.split(",") if word in WORDS)
            if words and _known(type, name):
                asked.setdefault((type, name), {}).update(words)
                if len(asked) > MOST:
                    raise ValueError(f"one token is for {MOST} repositories at most")
    return tuple(Resource(type, name, tuple(words)) for (type, name), words in asked.items())


def _known(type: str, name: str) -> bool:
    if type != "repository":
        return (type, name) == CATALOG
    try:
        RepositoryName.parse(name)
    except NameInvalid:
        return False
    return True


def parse_access(value: object) -> tuple[Resource, ...]:
    """The `access` of a token, from JSON. Raises ResourceInvalid for what we would not have made.

    Unlike with scopes nothing is left out: a token that says more than we understand is not ours.
    """
    if not isinstance(value, list) or len(value) > MOST:
        raise ResourceInvalid("access is no list, or too long")
    found = tuple(map(_entry, value))
    if len({(one.type, one.name) for one in found}) != len(found):
        raise ResourceInvalid("access names a resource twice")
    return found


def _entry(value: object) -> Resource:
    if not isinstance(value, dict) or value.keys() != {"type", "name", "actions"}:
        raise ResourceInvalid("an entry of access has other members")
    type, name, actions = value["type"], value["name"], value["actions"]
    if not isinstance(type, str) or not isinstance(name, str) or not _known(type, name):
        raise ResourceInvalid("an entry of access is for no resource")
    if (
        not isinstance(actions, list)
        or not all(isinstance(word, str) and word in WORDS for word in actions)
        or not 0 < len(set(actions)) == len(actions)
    ):
        raise ResourceInvalid("an entry of access has other actions")
    return Resource(type, name, tuple(actions))


def as_access(resources: Sequence[Resource]) -> list[dict[str, object]]:
    """For a token's `access`."""
    return [{"type": one.type, "name": one.name, "actions": list(one.actions)} for one in resources]


def as_grants(resources: Sequence[Resource]) -> tuple[Grant, ...]:
    """What a token may be used for at most, whatever its owner may do.

    The catalogue shows what its reader may pull, so a token for it is one for pulling anything.
    """
    return tuple(
        Grant(
            Pattern.repository("**"),
            frozenset({Action.PULL}),
        )
        if (one.type, one.name) == CATALOG
        else Grant(
            Pattern.repository(one.name), frozenset().union(*(WORDS[word] for word in one.actions))
        )
        for one in resources
    )
