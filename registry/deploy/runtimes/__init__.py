"""What runs an application: the seam between the deployer and its runtimes.

A workload is one staged revision. A runtime turns it into an instance: something that answers HTTP
at an address until it is stopped, or until it cannot be kept alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from storage.digest import Digest

__all__ = [
    *("CLIENT_ADDRESS", "CLIENT_SCHEME"),
    *("Address", "Instance", "Limits", "Runtime", "StartFailed", "Workload"),
]

CLIENT_ADDRESS = "x-spindle-client-addr"
"""The request header in which the gateway tells an instance who the client is. No guest sees it."""
CLIENT_SCHEME = "x-forwarded-proto"
"""The one that tells by which scheme the client came. Guests see it too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and one worker, may use."""

    memory: int = 256 << 20
    """Bytes of linear memory of an instance; each request has an instance of its own."""
    cpu: float = 10.0
    """Seconds of guest CPU per request."""
    wall: float = 30.0
    """Seconds per request from its first byte to its last, enforced from outside the guest."""
    concurrency: int = 16
    """Requests at once in a worker."""
    body: int = 1 << 20
    """Bytes of a response that wait in the host for a slow client. Not a limit of the total."""


@dataclass(frozen=True, slots=True)
class Workload:
    app: str
    """The app's id, which never changes."""
    name: str
    """The name that the application gives itself, shown to people."""
    revision: int
    digest: Digest
    lock: Path
    """The staged `spin.lock`: a locked app whose sources are file URLs."""
    variables: Mapping[str, str]
    """Values of the application's variables, defaults already filled in."""
    limits: Limits
    workers: int
    log: Path
    """Where the guest's output goes, as JSON lines."""


@dataclass(frozen=True, slots=True)
class Address:
    """Exactly one of the two is set."""

    unix: Path | None = None
    tcp: tuple[str, int] | None = None


class StartFailed(Exception):
    """The workload does not come up; `reason` is for the person who pushed it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Instance(Protocol):
    @property
    def address(self) -> Address: ...

    async def stop(self, grace: float) -> None:
        """End it: no new connections, `grace` seconds for requests under way, then by force.

        Returns when no process is left. Stopping twice is harmless.
        """

    async def wait(self) -> str:
        """Return why, when the instance has died for good (a stop included)."""


class Runtime(Protocol):
    @property
    def name(self) -> str: ...

    async def refuse(self, locked: Mapping[str, Any], wasm: Mapping[str, Path]) -> str | None:
        """Say in one sentence why this app cannot run here, or return None.

        `wasm` maps a component's id to its staged file. Cheap: nothing is compiled.
        """

    async def prepare(self, workload: Workload) -> None:
        """Do once per revision what would make every start slow. Idempotent. StartFailed."""

    async def start(self, workload: Workload) -> Instance:
        """Bring up an instance that is ready to answer on return. StartFailed."""

    async def close(self) -> None:
        """Stop every instance that is left and release what the runtime holds."""
