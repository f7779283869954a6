"""The one way to say that an application cannot run here, and the readers that say it."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from storage.document import Object

REBUILD: Final = "build it again with a released version of Spin and push it again"


class NotRunnable(Exception):
    """It is a Spin application, and cannot run here. `reason` is one sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def object_of(value: Object, key: str, who: str) -> Object:
    """An optional object; absent and null are empty."""
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        refuse(f"{key} of {who} is not an object")
    return found


def list_of(value: Object, key: str, who: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        refuse(f"{key} of {who} is not a list")
    return found


def refuse(what: str) -> NoReturn:
    raise NotRunnable(f"{what}; {REBUILD}")


def listed(words: list[str]) -> str:
    return ", ".join(word[:80] for word in words[:10])
