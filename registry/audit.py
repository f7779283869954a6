"""What happened, for whoever has to know later: changes, refusals, sign-ins, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """Never holds a secret: no header, no token, no query of a URL."""

    action: str
    """Such as blob.push, manifest.push, tag.delete, app.configure, sign-in, token.issue."""
    outcome: Outcome
    principal: str
    """Principal.text."""
    address: str = ""
    request: str = ""
    """The id that the log of requests has, too."""
    repository: str = ""
    reference: str = ""
    digest: str = ""
    status: int = 0
    """Of the answer; 0 if it was no request."""
    detail: str = ""


class Audit(Protocol):
    async def record(self, event: Event) -> None:
        """Durable on return. Raises OSError."""
        ...


class NoAudit:
    async def record(self, event: Event) -> None:
        pass
