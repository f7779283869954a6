"""Clients that vanish in the middle of an upload: what is kept, and is the truth told about it?

A client sends some bytes of a blob and goes, in one of the ways in which clients go. Then the
session must tell how many bytes are kept, refuse every other place with 416, go on from exactly
there, and make a blob of the right digest; and nothing may stay open or lie about.

Run as a program: `python -m tests.durability.cuts --full`, 5,000 cuts.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storage.digest import SHA256
from tests.durability.wire import Answer, Broken, Ending, Framing, Half, Line, ask
from tests.durability.workers import Workers
from tests.servers import Spindle, wait_for

KIB: Final = 1 << 10
MIB: Final = 1 << 20
SIZE: Final = MIB + 64 * KIB + 7  # bytes of each blob
PLACES: Final = (0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB + 1, SIZE - 1)
REQUESTS: Final = ("PATCH", "PATCH in place", "PUT", "PUT in place", "POST")
FULL: Final = 5000
UPLOADS: Final = "/v2/acme/shop/blobs/uploads/"


@dataclass(frozen=True, slots=True)
class Cut:
    """`in place`: with a Content-Range. `before`: bytes that an earlier PATCH brought."""

    request: str
    after: int
    """Bytes of the body that were sent."""
    ending: Ending
    framing: Framing
    before: int = 0

    def __str__(self) -> str:
        sent = f"{self.before}+{self.after}" if self.before else f"{self.after}"
        return f"{self.request} after {sent} bytes, {self.framing.value}, {self.ending.value}"


def every(ending: Ending, framing: Framing) -> Iterator[Cut]:
    for request, after in itertools.product(REQUESTS, PLACES):
        yield Cut(request, after, ending, framing)


def chosen(seed: int, count: int) -> Iterator[Cut]:
    """At random, but often near a border."""
    chance = random.Random(seed)
    for _ in range(count):
        request = chance.choice(REQUESTS)
        near = chance.choice(PLACES) + chance.randint(-9, 9)
        after = near if chance.random() < 0.5 else chance.randrange(SIZE)
        before = 0
        if request != "POST" and chance.random() < 0.4:
            before = chance.randrange(SIZE // 4)
        after = min(max(after, 0), SIZE - before - 1)
        yield Cut(request, after, chance.choice(list(Ending)), chance.choice(list(Framing)), before)


class Vanishing:
    """A server, and clients that leave it; `wrong` are the sentences that should not be."""

    def __init__(self, server: Spindle) -> None:
        self.wrong: list[str] = []
        self.kept = 0
        """Bytes of vanished clients that were kept."""
        self._registry = server.registry
        self._uploads = server.data / "uploads"
        self._workers = Workers(server)
        self._lines = [self._workers.line(pid) for pid in self._workers.registry]
        self._noise = random.Random(0).randbytes(SIZE)
        self._count = 0
        # Once through everything, so that what is opened only once is open.
        for line in self._lines:
            self._whole(line)
            line.ask("GET", "/v2/")  # answered when that is over, to the last close
        self._files = self._workers.files

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def go(self, cut: Cut) -> None:
        try:
            wrong = list(self._go(cut, self._new_blob()))
            # Of a POST that nobody can go on with, the file goes last of all.
            wait_for(lambda: not any(self._uploads.iterdir()), "the uploads to be gone")
        except (AssertionError, Broken) as error:
            wrong = [str(error)]
            for upload in self._uploads.iterdir():
                upload.unlink()  # or it would be held against those that follow
        self.wrong += [f"{cut}: {sentence}" for sentence in wrong]

    def _go(self, cut: Cut, blob: bytes) -> Iterator[str]:
        digest = SHA256.digest(blob)
        if cut.request == "POST":
            part = self._half(cut, "POST", f"{UPLOADS}?digest={digest}", blob)
            yield from self._leave(cut, part, None)
            status = self._ask("HEAD", f"/v2/acme/shop/blobs/{digest}").status
            if status != 404:
                yield f"there is a blob of a part: {status}"
            return
        session = self._ask("POST", UPLOADS, b"").headers["location"]
        if cut.before:
            answer = self._ask("PATCH", session, blob[: cut.before])
            if answer.status != 202 or answer.kept != cut.before:
                yield f"{answer.status} and {answer.kept} after {cut.before} bytes"
        method = cut.request.split()[0]
        path = f"{session}?digest={digest}" if method == "PUT" else session
        part = self._half(cut, method, path, blob)
        yield from self._leave(cut, part, session)
        yield from self._resume(cut, session, blob)

    def _half(self, cut: Cut, method: str, path: str, blob: bytes) -> Half:
        place = {"Content-Range": f"{cut.before}-{SIZE - 1}"} if "in place" in cut.request else {}
        return Half(
            self._registry,
            method,
            path,
            blob[cut.before : cut.before + cut.after],
            whole=SIZE - cut.before,
            framing=cut.framing,
            headers={**place, "Content-Type": "application/octet-stream"},
        )

    def _leave(self, cut: Cut, part: Half, session: str | None) -> Iterator[str]:
        """Go, and wait until the server is done with it."""
        try:
            if cut.ending is Ending.STALL:
                wait_for(lambda: self._workers.unread(part.port) == 0, "the server to read all")
                for line in self._lines:  # what was read before is with its handler after these
                    line.ask("GET", "/v2/")
                if session is not None:
                    yield from self._refuse(session, "while another is writing")
        finally:
            part.cut(cut.ending)
        wait_for(
            self._settled,
            lambda: f"{self._workers.files} open files to be {self._files} again",
        )

    def _settled(self) -> bool:
        if self._workers.waiting or self._workers.files > self._files:
            return False
        for line in self._lines:  # whatever was accepted before that is being handled after it
            line.ask("GET", "/v2/")
        return self._workers.files <= self._files

    def _refuse(self, session: str, when: str) -> Iterator[str]:
        for line in self._lines:
            answer = line.ask("PATCH", session, b"", {"Content-Type": "application/octet-stream"})
            if answer.status != 416:
                yield f"another writer got {answer.status} {when}"

    def _resume(self, cut: Cut, session: str, blob: bytes) -> Iterator[str]:
        told = self._ask("PATCH", session, b"?", {"Content-Range": f"{SIZE * 9}-{SIZE * 9}"})
        kept = told.kept
        if told.status != 416:
            yield f"{told.status} for bytes far behind the end"
        if not cut.before <= kept <= cut.before + cut.after:
            yield f"{kept} bytes kept"
        if cut.request == "PUT" and kept != cut.before:
            yield f"{kept} bytes kept of a PUT that has no place"
        arrived = cut.ending is Ending.STALL and cut.request != "PUT"
        if arrived and kept != cut.before + cut.after:
            yield f"only {kept} bytes kept of those that had arrived"
        self.kept += kept - cut.before
        for line in self._lines:
            answer = line.ask("GET", session)
            if (answer.status, answer.kept) != (204, max(kept, 1)):  # 0-0 is said of 0 bytes too
                yield f"GET: {answer.status} and {answer.headers.get('range')}, not {kept} bytes"
        for elsewhere in {max(kept - 1, 0), kept + 1} - {kept}:
            # One byte: what is refused unread ends the connection under those who send more.
            place = {"Content-Range": f"{elsewhere}-{elsewhere}"}
            answer = self._ask("PATCH", session, b"?", place)
            if (answer.status, answer.kept) != (416, kept):
                yield f"{answer.status} and {answer.kept} at {elsewhere}, where {kept} is right"
        answer = self._ask("PATCH", session, blob[kept:], {"Content-Range": f"{kept}-{SIZE - 1}"})
        if (answer.status, answer.kept) != (202, SIZE):
            yield f"going on at {kept}: {answer.status} and {answer.kept}"
        digest = SHA256.digest(blob)
        answer = self._ask("PUT", f"{session}?digest={digest}", b"")
        if answer.status != 201:
            yield f"closing: {answer.status} {answer.body!r}"
        pulled = self._ask("GET", f"/v2/acme/shop/blobs/{digest}")
        if (pulled.status, pulled.body) != (200, blob):
            yield f"the blob is {pulled.status} of {len(pulled.body)} bytes"

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Now from one worker and now from the other."""
        self._lines.reverse()
        return self._lines[0].ask(method, path, body, headers)

    def _whole(self, line: Line) -> None:
        blob = self._new_blob()
        digest = SHA256.digest(blob)
        session = line.ask("POST", UPLOADS, b"").headers["location"]
        line.ask("PATCH", session, blob)
        assert line.ask("PUT", f"{session}?digest={digest}", b"").status == 201
        assert line.ask("GET", f"/v2/acme/shop/blobs/{digest}").body == blob

    def _new_blob(self) -> bytes:
        self._count += 1
        start = b"%08d" % self._count
        return start + self._noise[len(start) :]


def hasty(registry: str, seed: int) -> list[str]:
    """A client whose connection breaks again and again, and who asks and goes on at once.

    It waits for nobody: the server may still be busy with what it sent before. What is wrong.
    """
    chance = random.Random(seed)
    blob = chance.randbytes(SIZE)
    digest = SHA256.digest(blob)
    session = ask(registry, "POST", UPLOADS, b"").headers["location"]
    breaks = 8
    while True:
        kept = ask(registry, "PATCH", session, b"?", {"Content-Range": f"{SIZE}0-{SIZE}0"}).kept
        if kept > SIZE:
            return [f"{kept} bytes kept of {SIZE}"]
        place = {"Content-Range": f"{kept}-{SIZE - 1}"}
        rest = blob[kept:]
        if kept == SIZE:
            break
        if breaks:
            breaks -= 1
            with suppress(Broken):  # refused unread, since the last one is not done yet
                Half(
                    registry,
                    "PATCH",
                    session,
                    rest[: chance.randrange(len(rest))],
                    whole=len(rest),
                    framing=chance.choice(list(Framing)),
                    headers=place,
                ).cut(chance.choice([Ending.FIN, Ending.RST]))
            continue
        with suppress(Broken):
            answer = ask(registry, "PATCH", session, rest, place)
            if answer.status not in (202, 416):
                return [f"going on at {kept}: {answer.status} {answer.body!r}"]
    answer = ask(registry, "PUT", f"{session}?digest={digest}", b"")
    if answer.status != 201:
        return [f"closing: {answer.status} {answer.body!r}"]
    pulled = ask(registry, "GET", f"/v2/acme/shop/blobs/{digest}")
    return [] if pulled.body == blob else [f"the blob is {pulled.status} and of other bytes"]


@contextmanager
def vanishing(data: Path) -> Iterator[Vanishing]:
    with Spindle(data, "--workers", "2", "--set", "log.level=warning") as server:
        clients = Vanishing(server)
        try:
            yield clients
        finally:
            clients.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--full", action="store_true", help=f"{FULL} cuts")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    count = FULL if given.full else given.count
    end = time.monotonic() + given.seconds
    cuts = 0
    with tempfile.TemporaryDirectory() as scratch, vanishing(Path(scratch) / "data") as clients:
        for cut in chosen(given.seed, count):
            if time.monotonic() > end:
                break
            clients.go(cut)
            cuts += 1
    print(f"cuts: {cuts}, bytes kept {clients.kept}, violations {len(clients.wrong)}")
    print(*clients.wrong[:20], sep="\n", end="\n" if clients.wrong else "")
    return 1 if clients.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
