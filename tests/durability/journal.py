"""What clients did and were told, written down outside of the server; and what must hold of it.

A line is written before each request is sent and one after its answer, so that what was under way
when a connection broke is known: it may have happened or not. Every tag, manifest and blob that is
written down is changed by one client only, which waits for each answer; so what it may be at any
time is a small set. A process that is killed loses no page of the kernel's, so lines are not
synced: the journal outlives the server, not the machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

DONE: Final = "done"
ABSENT: Final = "absent"  # 404
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `what`: push, untag, delete, read tag; put blob, delete blob; read."""

    what: str
    repository: str
    digest: str | None = None
    """What was pushed or deleted, or asked for."""
    tags: tuple[str, ...] = ()
    outcome: str = UNKNOWN
    found: str | None = None
    """The digest of the bytes that a read brought."""
    promised: bool = True
    """That what is there must be found, for its lease is not over."""


class Journal:
    """A file of entries; shared by the clients."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a")
        self._lock = threading.Lock()
        self._count = 0

    def begin(self, entry: Entry) -> int:
        """Before it is sent; returns the number by which `end` knows it."""
        with self._lock:
            self._count += 1
            self._write({"begin": self._count, **asdict(entry)})
            return self._count

    def end(self, number: int, outcome: str, found: str | None, *, promised: bool = True) -> None:
        with self._lock:
            self._write({"end": number, "outcome": outcome, "found": found, "promised": promised})

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def entries(self) -> list[Entry]:
        """In the order in which they were begun."""
        found: dict[int, Entry] = {}
        for line in self._path.read_text().splitlines():
            row = json.loads(line)
            if "begin" in row:
                number = row.pop("begin")
                found[number] = Entry(**{**row, "tags": tuple(row["tags"])})
            else:
                number = row.pop("end")
                found[number] = replace(found[number], **row)
        return [found[number] for number in sorted(found)]


class Promises:
    """What each tag, manifest and blob may be; None: absent."""

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], set[str | None]] = {}
        self.kept: dict[tuple[str, str], set[str | None]] = {}
        """Manifests and blobs."""

    def see(self, entry: Entry) -> Iterator[str]:
        """The next entry; what of it breaks a promise."""
        match entry.what:
            case "push" | "put blob":
                assert entry.digest is not None
                self._change(self.kept, (entry.repository, entry.digest), entry.digest, entry)
                for tag in entry.tags:
                    self._change(self.tags, (entry.repository, tag), entry.digest, entry)
            case "untag":
                for tag in entry.tags:
                    yield from self._gone(self.tags, (entry.repository, tag), entry)
            case "delete" | "delete blob":
                assert entry.digest is not None
                yield from self._gone(self.kept, (entry.repository, entry.digest), entry)
                for key, possible in self.tags.items():
                    if key[0] == entry.repository and entry.digest in possible:
                        left = {None if value == entry.digest else value for value in possible}
                        self.tags[key] = possible | left if entry.outcome == UNKNOWN else left
            case "read tag":
                for tag in entry.tags:
                    yield from self._read(self.tags, (entry.repository, tag), entry)
            case "read":
                assert entry.digest is not None
                yield from self._read(self.kept, (entry.repository, entry.digest), entry)
            case what:
                raise LookupError(what)

    def _change(
        self,
        of: dict[tuple[str, str], set[str | None]],
        key: tuple[str, str],
        value: str | None,
        entry: Entry,
    ) -> None:
        if entry.outcome == DONE:
            of[key] = {value}
        else:
            of[key] = of.get(key, {None}) | {value}

    def _gone(
        self, of: dict[tuple[str, str], set[str | None]], key: tuple[str, str], entry: Entry
    ) -> Iterator[str]:
        possible = of.get(key, {None})
        if entry.outcome == ABSENT and None not in possible and entry.promised:
            yield f"D1: {key} was not there to be deleted, and was {possible}"
        if entry.outcome == DONE and possible == {None}:
            yield f"D4: {key} was deleted and was there to be deleted again"
        if entry.outcome == ABSENT:
            of[key] = {None}
        else:
            self._change(of, key, None, entry)

    def _read(
        self, of: dict[tuple[str, str], set[str | None]], key: tuple[str, str], entry: Entry
    ) -> Iterator[str]:
        possible = of.get(key, {None})
        if entry.outcome == UNKNOWN or entry.found in possible:
            return
        if entry.found is None:
            if entry.promised:
                yield f"D1: {key} is lost; it was {possible}"
        elif entry.digest is not None and entry.found != entry.digest:
            yield f"D6: {key} has the bytes of {entry.found}"
        elif possible == {None}:
            yield f"D4: {key} came back: {entry.found}"
        else:
            yield f"D2: {key} is {entry.found}, and can only be {possible}"


def broken(entries: Sequence[Entry]) -> list[str]:
    """The promises that the entries show to be broken."""
    promises = Promises()
    return [sentence for entry in entries for sentence in promises.see(entry)]
