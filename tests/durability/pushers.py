"""One blob, eight clients who push it at once, and a server that is killed after the first 201.

All have sent their bytes, or all but the last of them, when all close together; who gets the first
201 kills every process of the server. It starts again, and whoever got a 201 must find the blob.

Run as a program: `python -m tests.durability.pushers --seconds 600`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storage.digest import SHA256
from tests.durability.wire import Broken, ask
from tests.durability.workers import Workers
from tests.servers import Spindle

CLIENTS: Final = 8
SIZE: Final = 10 << 20  # bytes
LAST: Final = 1 << 20  # bytes that some send with the closing request only
REPOSITORIES: Final = ("acme/one", "acme/two")
SECONDS: Final = 600.0
# So that the blob of one round is gone some rounds later, and the disk never full.
SETTINGS: Final = (
    *("--workers", "2", "--set", "log.level=warning"),
    *("--set", "collect.quarantine=0.5", "--set", "collect.interval=1"),
)


@dataclass(slots=True)
class Push:
    """What became of one client's."""

    repository: str
    session: str
    sent_before: int
    """Bytes that were sent before the closing request."""
    status: int | None = None
    """Of the closing request; None where its answer never came."""


@dataclass
class Rounds:
    """`with` a server; `wrong` are the sentences that should not be."""

    server: Spindle
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._workers = Workers(self.server)
        self._noise = random.Random(0).randbytes(SIZE)

    def go(self, seed: int) -> None:
        chance = random.Random(seed)
        start = b"%016d" % seed
        blob = start + self._noise[len(start) :]
        digest = SHA256.digest(blob).text
        pushes = [self._begin(blob, chance, number) for number in range(CLIENTS)]
        self._close_together(pushes, blob, digest)
        self._workers.bury()
        self.server.start()
        self._workers = Workers(self.server)
        wrong = list(self._look(pushes, blob, digest))
        self._clear(pushes, digest)
        self.wrong += [f"round {seed}: {sentence}" for sentence in wrong]
        self.done["rounds"] += 1

    def _begin(self, blob: bytes, chance: random.Random, number: int) -> Push:
        repository = REPOSITORIES[number % len(REPOSITORIES)]
        session = ask(
            self.server.registry, "POST", f"/v2/{repository}/blobs/uploads/", b""
        ).headers["location"]
        push = Push(repository, session, SIZE - chance.choice([0, 0, LAST]))
        answer = ask(self.server.registry, "PATCH", session, blob[: push.sent_before])
        if answer.status != 202:
            self.wrong.append(f"PATCH: {answer.status} {answer.body!r}")
        return push

    def _close_together(self, pushes: list[Push], blob: bytes, digest: str) -> None:
        together = threading.Barrier(CLIENTS)
        first = threading.Lock()

        def close(push: Push) -> None:
            rest = blob[push.sent_before :]
            place = {"Content-Range": f"{push.sent_before}-{SIZE - 1}"} if rest else None
            together.wait()
            try:
                path = f"{push.session}?digest={digest}"
                push.status = ask(self.server.registry, "PUT", path, rest, place).status
            except Broken:
                return
            if push.status == 201 and first.acquire(blocking=False):
                self._workers.kill_all()

        threads = [threading.Thread(target=close, args=(push,)) for push in pushes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if first.acquire(blocking=False):
            self.wrong.append("nobody got a 201")
            self._workers.kill_all()

    def _look(self, pushes: list[Push], blob: bytes, digest: str) -> Iterator[str]:
        for push in pushes:
            self.done[f"closed with {push.status}"] += 1
            path = f"/v2/{push.repository}/blobs/{digest}"
            match push.status:
                case 201:
                    found = ask(self.server.registry, "GET", path)
                    if (found.status, found.body) != (200, blob):
                        yield f"201, and then {found.status} of {len(found.body)} bytes"
                case None:
                    yield from self._again(push, blob, digest)
                case status:
                    yield f"closing together got {status}"
        files = [path for path in self.server.data.glob("blobs/*/*/*") if path.name in digest]
        if len(files) != 1 or files[0].read_bytes() != blob:
            yield f"the blob has {len(files)} files"

    def _again(self, push: Push, blob: bytes, digest: str) -> Iterator[str]:
        """Whose answer never came finds a blob that is whole, or goes on, or begins anew."""
        registry = self.server.registry
        path = f"/v2/{push.repository}/blobs/{digest}"
        found = ask(registry, "GET", path)
        if found.status not in (200, 404) or (found.status == 200 and found.body != blob):
            yield f"no answer, and then {found.status} of {len(found.body)} bytes"
        # Nobody writes to it, so what is kept can be asked for.
        told = ask(registry, "PATCH", push.session, b"?", {"Content-Range": f"{SIZE}0-{SIZE}0"})
        if told.status == 404:
            self.done["sessions ended"] += 1
            told = ask(registry, "POST", f"/v2/{push.repository}/blobs/uploads/", b"")
            push.session = told.headers["location"]
            rest, place = blob, {"Content-Range": f"0-{SIZE - 1}"}
        elif told.status == 416 and told.kept >= push.sent_before:
            self.done["sessions gone on with"] += 1
            rest = blob[told.kept :]
            place = {"Content-Range": f"{told.kept}-{SIZE - 1}"} if rest else {}
        else:
            yield f"of {push.sent_before} bytes {told.kept} are kept, says {told.status}"
            return
        answer = ask(registry, "PUT", f"{push.session}?digest={digest}", rest, place)
        if answer.status != 201:
            yield f"the push again: {answer.status} {answer.body!r}"

    def _clear(self, pushes: list[Push], digest: str) -> None:
        for repository in REPOSITORIES:
            ask(self.server.registry, "DELETE", f"/v2/{repository}/blobs/{digest}")
        for push in pushes:
            ask(self.server.registry, "DELETE", push.session)


@contextmanager
def rounds(data: Path) -> Iterator[Rounds]:
    with Spindle(data, *SETTINGS) as server:
        yield Rounds(server)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--full", action="store_true", help=f"{SECONDS:g} seconds")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    end = time.monotonic() + (given.seconds or (SECONDS if given.full else 20))
    seed = given.seed
    with tempfile.TemporaryDirectory() as scratch, rounds(Path(scratch) / "data") as going:
        while time.monotonic() < end:
            going.go(seed)
            seed += 1
    figures = ", ".join(f"{what} {count}" for what, count in sorted(going.done.items()))
    print(f"pushers: {figures}, violations {len(going.wrong)}")
    print(*going.wrong[:20], sep="\n", end="\n" if going.wrong else "")
    return 1 if going.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
