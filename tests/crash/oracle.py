"""What may be there, given what the clients know: the promises D1, D2, D4 and D5 as one rule.

A thing (a blob or a manifest in a repository, a tag) is written by requests. Its state is that of
one of them: of one that was not certainly followed by another that was acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.crash.journal import Event, Kind

NEVER: Final = 1 << 60  # the end of a request that was not answered


class Thing(NamedTuple):
    kind: str
    """blob, manifest or tag."""
    repository: str
    name: str
    """A digest or a tag."""


@dataclass(frozen=True)
class Write:
    """`value` is a digest, or None for: not there."""

    value: str | None
    began: int = -NEVER
    ended: int = -NEVER
    done: bool = True
    only: str | None = None
    """Changes the thing only where it has this value."""
    gently: bool = False
    """A collection: takes nothing that was pushed since it began."""


def possible(events: Iterable[Event]) -> dict[Thing, set[str | None]]:
    """The states in which each thing may be. What is no key was never there."""
    events = list(events)
    found: dict[Thing, list[Write]] = defaultdict(lambda: [Write(None)])
    for event in events:
        if event.open or event.done:
            for thing, write in _writes(event, events):
                found[thing].append(write)
    return {thing: _states(writes) for thing, writes in found.items()}


def _writes(event: Event, events: list[Event]) -> Iterable[tuple[Thing, Write]]:
    request = event.request
    where, digest = request.repository, request.digest
    when = (event.began, NEVER if event.ended is None else event.ended, event.done)
    match request.kind:
        case Kind.BLOB | Kind.MOUNT:
            yield Thing("blob", where, digest), Write(digest, *when)
        case Kind.DELETE_BLOB:
            yield Thing("blob", where, digest), Write(None, *when)
        case Kind.MANIFEST:
            yield Thing("manifest", where, digest), Write(digest, *when)
            for tag in request.tags:
                yield Thing("tag", where, tag), Write(digest, *when)
        case Kind.DELETE_TAG:
            for tag in request.tags:
                yield Thing("tag", where, tag), Write(None, *when)
        case Kind.DELETE_MANIFEST:
            yield Thing("manifest", where, digest), Write(None, *when)
            for tag in {tag for each in events for tag in tags_of(each, where, digest)}:
                yield Thing("tag", where, tag), Write(None, *when, only=digest)
        case Kind.COLLECT:
            for each in request.may:
                for kind in ("blob", "manifest"):
                    yield Thing(kind, where, each), Write(None, *when, gently=True)


def tags_of(event: Event, repository: str, digest: str) -> tuple[str, ...]:
    """The tags that a request gives to a manifest."""
    request = event.request
    fits = (request.kind, request.repository, request.digest) == (Kind.MANIFEST, repository, digest)
    return request.tags if fits else ()


def _states(writes: list[Write]) -> set[str | None]:
    return {write.value for write in writes if _may_be_last(write, writes)}


def _may_be_last(write: Write, writes: list[Write]) -> bool:
    if write.only is not None and not any(_finds(write, each, writes) for each in writes):
        return False
    if write.gently:
        return not any(
            each.value is not None and each.done and each.ended > write.began for each in writes
        )
    return not any(_follows(each, write) for each in writes)


def _follows(later: Write, earlier: Write) -> bool:
    """Whether it certainly was done after the other, and to what that left."""
    return (
        later.done
        and not later.gently
        and later.began > earlier.ended
        and later.only in (None, earlier.value)
    )


def _finds(conditional: Write, pushed: Write, writes: list[Write]) -> bool:
    """Whether it may have found the value that a write left."""
    return (
        pushed.value == conditional.only
        and pushed.began < conditional.ended
        and not any(
            _follows(between, pushed) and between.ended < conditional.began for between in writes
        )
    )
