"""From what a route needs to what the policy is asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from registry.auth.scope import Action
from registry.permissions import Need

_ACTIONS: Final[Mapping[Need, Action]] = {
    Need.PULL: Action.PULL,
    Need.PUSH: Action.PUSH,
    Need.DELETE: Action.DELETE,
    Need.DEPLOY: Action.DEPLOY,
    Need.ADMIN: Action.ADMIN,
}
"""The rest asks nothing of the policy by itself: a list leaves out what its reader may not see."""

_WORDS: Final[Mapping[Action, tuple[str, ...]]] = {
    Action.PULL: ("pull",),
    Action.PUSH: ("pull", "push"),  # what every client asks for when it pushes
    Action.OVERWRITE: ("pull", "push"),
    Action.DELETE: ("delete",),
    Action.DEPLOY: ("*",),  # no token scope has words for these
    Action.ADMIN: ("*",),
}


def required(need: Need, repository: str | None) -> tuple[tuple[Action, str | None], ...]:
    """All that must be allowed, in the order in which it is asked.

    What depends on more than the route is asked by its handler: `overwrite` by a push to a tag
    that is there, `pull` on the other repository by a mount.
    """
    action = _ACTIONS.get(need)
    return () if action is None else ((action, repository or None),)


def words(action: Action) -> tuple[str, ...]:
    """The same in the words of a token's scope (distribution, "Token Scope Documentation")."""
    return _WORDS[action]
