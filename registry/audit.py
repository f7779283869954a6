"""What happened, for whoever has to know later: changes, refusals, sign-ins, tokens."""

from __future__ import annotations

import os
import pwd
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol


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

    async def ready(self) -> None:
        """Before a change: raises OSError if it could not be recorded, as far as is known.

        Costs nothing, unless a record failed before: then what was missed is written first.
        """
        ...


class NoAudit:
    async def record(self, event: Event) -> None:
        pass

    async def ready(self) -> None:
        pass


# Who acts where nobody asked for it.
SERVER: Final = "system:server"
COLLECTOR: Final = "system:collector"
RETENTION: Final = "system:retention"
DEPLOYER: Final = "system:deployer"


def at_the_terminal() -> str:
    """Who runs a command, as the system calls them: `local:ada`."""
    try:
        return f"local:{pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:  # a user without a name, as in many containers
        return f"local:{os.geteuid()}"


def done_at_the_terminal(action: str, *, reference: str = "", detail: str = "") -> Event:
    """Of a command, after it did it."""
    return Event(action, Outcome.DONE, at_the_terminal(), reference=reference, detail=detail)


def token_issued(
    principal: str, *, address: str, request: str, life: int, scope: str = "", repository: str = ""
) -> Event:
    """A bearer token for `life` seconds; `scope` as it was granted. To be recorded before it is
    answered.
    """
    detail = f"for {life} s" + (f": {scope}" if scope else "")
    return Event(
        *("token.issue", Outcome.DONE, principal, address, request, repository), detail=detail
    )


class SignIns:
    """Who signed in, from where: each principal and address once a minute, and each failure."""

    QUIET: Final = 60.0  # seconds
    KNOWN: Final = 10_000  # pairs that are remembered; then the oldest one is told again

    def __init__(self, audit: Audit, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def succeeded(self, principal: str, address: str, request: str, how: str) -> None:
        """`how` is basic, robot, token, oidc or certificate. Raises OSError.

        Whoever only reads may go on where this raises, as pulls do on a full disk.
        """
        now = self._clock()
        key = (principal, address)
        seen = self._seen.get(key)
        if seen is not None and now - seen < self.QUIET:
            return
        self._seen[key] = now
        self._seen.move_to_end(key)
        while len(self._seen) > self.KNOWN:
            self._seen.popitem(last=False)
        event = Event("sign-in", Outcome.DONE, principal, address, request, detail=how)
        try:
            await self._audit.record(event)
        except OSError:
            self._seen.pop(key, None)
            raise

    async def failed(self, known: str | None, address: str, request: str, why: str) -> None:
        """`known` is the principal whom somebody claimed to be, if there is one of that name.

        Else None, and not what was sent: people type passwords into the field above. `why` is in
        our own words. Raises OSError.
        """
        principal = known or "anonymous"
        detail = why if known else f"{why}; of a name that is not known here"
        event = Event(
            *("sign-in", Outcome.REFUSED, principal, address, request), status=401, detail=detail
        )
        await self._audit.record(event)
