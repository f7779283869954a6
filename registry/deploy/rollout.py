"""The life of a revision: phases, what can be observed of it, and what follows from what.

    received → validated → staged → starting → checking → live → draining → retired

and, before it is live, failed or superseded. One table; whatever is not in it is a mistake of ours.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias


class Phase(enum.Enum):
    RECEIVED = "received"
    """A tag was moved to it."""
    VALIDATED = "validated"
    """It is an application that can run here, and has the variables it requires."""
    STAGED = "staged"
    """Its files are on the disk, whole."""
    STARTING = "starting"
    """An instance may exist."""
    CHECKING = "checking"
    """The instance answers; whether it is healthy is being asked."""
    LIVE = "live"
    """Traffic goes to it. One revision of an app at most."""
    DRAINING = "draining"
    """Another one is live; it ends what it is answering."""
    RETIRED = "retired"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """A newer one was pushed before it was live."""

    @property
    def final(self) -> bool:
        return self in _FINAL

    @property
    def coming(self) -> bool:
        """On its way to be live."""
        return self in _COMING


_COMING = frozenset({Phase.RECEIVED, Phase.VALIDATED, Phase.STAGED, Phase.STARTING, Phase.CHECKING})
_FINAL = frozenset({Phase.RETIRED, Phase.FAILED, Phase.SUPERSEDED})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The manifest and its locked app were read and can run here."""

    name: str
    """What the application calls itself."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The directory of the revision is complete."""


@dataclass(frozen=True, slots=True)
class Launched:
    """It is prepared, and an instance is about to be started."""


@dataclass(frozen=True, slots=True)
class Answering:
    """The instance is up."""


@dataclass(frozen=True, slots=True)
class Proven:
    """The instance is healthy, and is the digest that was pushed."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """Something showed that it cannot run."""

    reason: str
    """One sentence for a person, perhaps followed by a transcript."""


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A newer revision was admitted."""

    by: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """A newer revision is live."""

    by: int


@dataclass(frozen=True, slots=True)
class Died:
    """The instance of a live revision ended, and another one is started."""

    reason: str


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing is left of the instance."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A deployer took over from another one, whose instances are gone."""


Observation: TypeAlias = (
    Accepted
    | Staged
    | Launched
    | Answering
    | Proven
    | Faulty
    | Overtaken
    | Replaced
    | Died
    | Drained
    | Resumed
)

OBSERVATIONS: tuple[type[Observation], ...] = (
    *(Accepted, Staged, Launched, Answering, Proven),
    *(Faulty, Overtaken, Replaced, Died, Drained, Resumed),
)

TRANSITIONS: Mapping[tuple[Phase, type[Observation]], Phase] = MappingProxyType(
    {
        (Phase.RECEIVED, Accepted): Phase.VALIDATED,
        (Phase.VALIDATED, Staged): Phase.STAGED,
        (Phase.STAGED, Launched): Phase.STARTING,
        (Phase.STARTING, Answering): Phase.CHECKING,
        (Phase.CHECKING, Proven): Phase.LIVE,
        (Phase.LIVE, Died): Phase.LIVE,
        (Phase.LIVE, Replaced): Phase.DRAINING,
        (Phase.DRAINING, Drained): Phase.RETIRED,
        **{(phase, Faulty): Phase.FAILED for phase in _COMING},
        **{(phase, Overtaken): Phase.SUPERSEDED for phase in _COMING},
        # What a phase promises must be true of this deployer: an instance is not, a directory is.
        (Phase.RECEIVED, Resumed): Phase.RECEIVED,
        (Phase.VALIDATED, Resumed): Phase.VALIDATED,
        (Phase.STAGED, Resumed): Phase.STAGED,
        (Phase.STARTING, Resumed): Phase.STAGED,
        (Phase.CHECKING, Resumed): Phase.STAGED,
        (Phase.LIVE, Resumed): Phase.LIVE,
        (Phase.DRAINING, Resumed): Phase.RETIRED,
    }
)


class Impossible(ValueError):
    """An observation that cannot be made in this phase."""


def next_step(phase: Phase, observation: Observation) -> Phase:
    """The phase that follows. Raises Impossible."""
    try:
        return TRANSITIONS[phase, type(observation)]
    except KeyError:
        raise Impossible(
            f"a revision that is {phase.value} cannot be {type(observation).__name__.lower()}"
        ) from None
