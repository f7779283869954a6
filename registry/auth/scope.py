"""What can be allowed: actions on the repositories that a pattern fits. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from storage.patterns import Pattern


class Action(StrEnum):
    PULL = "pull"
    PUSH = "push"
    """New blobs, manifests and tags."""
    OVERWRITE = "overwrite"
    """Let a tag that is there point to something else."""
    DELETE = "delete"
    DEPLOY = "deploy"
    """Let what is pushed run; see, and change, the settings of the app."""
    ADMIN = "admin"
    """All of the above; on `**` also what belongs to no repository."""


@dataclass(frozen=True, slots=True)
class Grant:
    pattern: Pattern
    actions: frozenset[Action]

    def covers(self, action: Action, repository: str | None) -> bool:
        """`repository` is a name, or None for what belongs to none: then only `**` will do."""
        if action not in self.actions and Action.ADMIN not in self.actions:
            return False
        return self.pattern.text == "**" if repository is None else self.pattern.fits(repository)

    @staticmethod
    def parse(pattern: str, actions: Iterable[str]) -> Grant:
        """Raises ValueError for what is no pattern or no action."""
        return Grant(Pattern.repository(pattern), frozenset(map(parse_action, actions)))


def parse_action(text: str) -> Action:
    """Raises ValueError."""
    try:
        return Action(text)
    except ValueError:
        raise ValueError(f"{text!r} is no action; there are {', '.join(Action)}") from None
