"""What the clients know: written down before they send, and when they were answered.

The journal is a pipe to the parent, which a killed process cannot take back. A request without an
answer may have happened or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    BLOB = "push a blob"
    MOUNT = "mount a blob"
    MANIFEST = "push a manifest"
    DELETE_BLOB = "delete a blob"
    DELETE_MANIFEST = "delete a manifest"
    DELETE_TAG = "delete a tag"
    COLLECT = "collect"
    START = "start"
    LEAVE = "leave an upload"


@dataclass(frozen=True)
class Request:
    """What a client wants, in one request or in several that end with an acknowledgement."""

    kind: Kind
    repository: str = ""
    digest: str = ""
    content: str = ""
    """The bytes, each a character."""
    media_type: str = ""
    tags: tuple[str, ...] = ()
    subject: str = ""
    may: tuple[str, ...] = ()
    """For a collection: the digests that may go from `repository`."""

    @property
    def body(self) -> bytes:
        return self.content.encode("latin-1")


@dataclass
class Event:
    """A request and what is known of it. Times are lines of the journal; 0: before its first."""

    request: Request
    began: int = 0
    ended: int | None = 0
    done: bool = True
    """Acknowledged. An answer that says no has `ended` and is not done."""
    session: str = ""
    """Where an upload goes on that was begun for it."""
    kept: int = 0
    """Bytes of that upload that were acknowledged."""

    @property
    def open(self) -> bool:
        return self.ended is None


@dataclass
class Told:
    """The journal, read."""

    events: list[Event] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Answers that no client should get."""
    died: str = ""
    """Before or after what."""
    steps: list[str] = field(default_factory=list)
    """All of them, when it did not die."""


class Writer:
    """The end of the pipe at which the clients are."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._count = 0

    def begin(self, request: Request) -> int:
        """A number, for what follows."""
        self._count += 1
        self._write(begin=self._count, request=asdict(request))
        return self._count

    def session(self, number: int, location: str, kept: int) -> None:
        self._write(session=location, kept=kept, number=number)

    def end(self, number: int, *, done: bool) -> None:
        self._write(end=number, done=done)

    def wrong(self, sentence: str) -> None:
        self._write(wrong=sentence)

    def dies(self, label: str) -> None:
        self._write(dies=label)

    def steps(self, labels: list[str]) -> None:
        self._write(steps=labels)

    def _write(self, **line: Any) -> None:
        # writev, since strace kills at the n-th write, and this is none of the store's.
        text = json.dumps(line).encode() + b"\n"
        while text:
            text = text[os.writev(self._pipe, [text]) :]


def read(lines: Iterable[str]) -> Told:
    """The journal of a process that was killed at any time. A line is short enough to be whole."""
    told = Told()
    events: dict[int, Event] = {}
    for at, line in enumerate(lines, 1):
        match json.loads(line):
            case {"begin": number, "request": request}:
                for several in ("tags", "may"):
                    request[several] = tuple(request[several])
                asked = Request(**{**request, "kind": Kind(request["kind"])})
                events[number] = Event(asked, began=at, ended=None, done=False)
            case {"end": number, "done": done}:
                events[number].ended, events[number].done = at, done
            case {"session": location, "kept": kept, "number": number}:
                events[number].session, events[number].kept = location, kept
            case {"wrong": sentence}:
                told.wrong.append(sentence)
            case {"dies": label}:
                told.died = label
            case {"steps": labels}:
                told.steps = labels
    told.events = list(events.values())
    return told
