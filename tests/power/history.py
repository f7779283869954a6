"""What a client was told, and what therefore must be found after a power cut. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Key(NamedTuple):
    """What can be asked for."""

    kind: str
    """"blobs" or "manifests", as in the path."""
    repository: str
    reference: str
    """A digest or a tag."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request that changes something. Times are lengths of the disk's log, in records."""

    name: str
    began: int
    acknowledged: int
    changes: Mapping[Key, str | None]
    """The digest that each is then answered with; None: it is not there."""
    whole: bool = True
    """Whether all changes come at once."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The state that was acknowledged, and the steps that were under way."""

    settled: Mapping[Key, str | None]
    pending: tuple[Step, ...] = ()

    def sought(self) -> Iterable[Key]:
        """All that can be asked for."""
        return dict.fromkeys([*self.settled, *(key for one in self.pending for key in one.changes)])

    def allowed(self, key: Key) -> set[str | None]:
        found = {self.settled.get(key)}
        return found | {one.changes[key] for one in self.pending if key in one.changes}

    def halves(self, found: Mapping[Key, str | None]) -> list[str]:
        """The steps that happened in part: "wholly or not at all" is what was promised."""
        return [
            one.name
            for one in self.pending
            if one.whole
            and len(
                {
                    found[key] == digest
                    for key, digest in one.changes.items()
                    if digest != self.settled.get(key)
                }
            )
            > 1
        ]


@dataclass(slots=True)
class History:
    steps: list[Step] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    """By digest."""
    uploads: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By location: the length of the log when it was opened, and the digest of what it is for."""

    def at(self, cut: int) -> Expected:
        settled: dict[Key, str | None] = {}
        pending = []
        for step in self.steps:
            if step.acknowledged <= cut:
                settled |= step.changes
            elif step.began <= cut:
                pending.append(step)
        return Expected(settled, tuple(pending))

    def counted(self, count: Callable[[int], int]) -> History:
        """The same in another measure of the log's length."""
        steps = [
            Step(one.name, count(one.began), count(one.acknowledged), one.changes, one.whole)
            for one in self.steps
        ]
        uploads = {where: (count(at), digest) for where, (at, digest) in self.uploads.items()}
        return History(steps, self.contents, uploads)
