"""One tag, six clients and two workers: is there one order in which it all happened?

Each client puts, gets, deletes and swaps (If-Match, If-None-Match: *) the same tag, now through one
worker and now through the other. Every manifest is unique, so a read tells which write it saw, and
the whole history must be that of a register (tests.durability.register).

Run as a program: `python -m tests.durability.tags --full`, 200 histories of 300 calls, in every
other of which a worker is killed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.digest import SHA256
from tests.durability.register import NEVER, Call, Kind, Result, Verdict, check
from tests.durability.wire import Answer, Broken, Line
from tests.durability.workers import Workers
from tests.servers import Spindle

CLIENTS: Final = 6
HISTORIES: Final = 200
CALLS: Final = 300
INDEX: Final = "application/vnd.oci.image.index.v1+json"
_KINDS: Final = (Kind.WRITE,) * 3 + (Kind.READ,) * 4 + (Kind.DELETE,) + (Kind.SWAP,) * 2


class Client(threading.Thread):
    """Makes some calls to one tag; `history` is what it saw, `error` what it cannot have seen."""

    def __init__(
        self,
        name: str,
        path: str,
        lines: list[Line],
        chance: random.Random,
        together: threading.Barrier,
        turns: Iterator[int],
    ) -> None:
        super().__init__(name=name)
        self.history: list[Call] = []
        self.error: Exception | None = None
        self._path = path
        self._lines = lines
        self._chance = chance
        self._together = together
        self._turns = turns
        self._last: str | None = None
        """What the tag was when this client last knew."""

    def run(self) -> None:
        try:
            self._together.wait()
            for number in self._turns:
                self._call(number)
        except Exception as error:  # a thread's own would be lost
            self.error = error
        finally:
            for line in self._lines:
                line.close()

    def _call(self, number: int) -> None:
        kind = self._chance.choice(_KINDS)
        line = self._chance.choice(self._lines)
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [],
                "annotations": {"is": f"{self._path} {self.name} {number}"},
            }
        ).encode()
        value = None if kind is Kind.DELETE else SHA256.digest(body).text
        expected = self._last if kind is Kind.SWAP else None
        start = time.monotonic()
        try:
            match kind:
                case Kind.READ:
                    answer = line.ask("GET", self._path)
                case Kind.DELETE:
                    answer = line.ask("DELETE", self._path)
                case Kind.WRITE:
                    answer = line.ask("PUT", self._path, body, {"Content-Type": INDEX})
                case Kind.SWAP:
                    condition = (
                        {"If-None-Match": "*"}
                        if expected is None
                        else {"If-Match": f'"{expected}"'}
                    )
                    answer = line.ask("PUT", self._path, body, {"Content-Type": INDEX, **condition})
        except Broken:
            if kind is not Kind.READ:
                self.history.append(Call(kind, start, NEVER, value, expected, Result.UNKNOWN))
            return
        end = time.monotonic()
        if kind is Kind.READ:
            value = _read(answer)
            self._last = value
            self.history.append(Call(kind, start, end, value))
            return
        result = _RESULTS[kind].get(answer.status)
        if result is None:
            raise AssertionError(f"{kind.value}: {answer.status} {answer.body!r}")
        if result is Result.DONE:
            self._last = value
        self.history.append(Call(kind, start, end, value, expected, result))


_RESULTS: Final = {
    Kind.WRITE: {201: Result.DONE},
    Kind.DELETE: {202: Result.DONE, 404: Result.REFUSED},
    Kind.SWAP: {201: Result.DONE, 412: Result.REFUSED},
}


def _read(answer: Answer) -> str | None:
    """The digest of what is there. Raises AssertionError for an answer that is none."""
    if answer.status == 404:
        return None
    digest = answer.headers.get("docker-content-digest")
    if answer.status != 200 or digest != SHA256.digest(answer.body).text:
        raise AssertionError(f"GET: {answer.status} of {digest} with {answer.body!r}")
    return digest


def record(server: Spindle, workers: Workers, *, seed: int, calls: int, kill: bool) -> list[Call]:
    """The history of a new tag. Raises AssertionError for an answer that cannot be.

    With `kill`, a worker is killed on the way.
    """
    workers.wait()
    chance = random.Random(seed)
    together = threading.Barrier(CLIENTS)
    numbers = itertools.count()
    fatal = chance.randrange(calls // 4, calls // 2) if kill else -1

    def turns() -> Iterator[int]:
        while (number := next(numbers)) < calls:
            if number == fatal:
                workers.kill_one(chance)
            yield number

    clients = [
        Client(
            f"client {number}",
            f"/v2/acme/tags/manifests/t{seed}",
            [workers.line(pid) for pid in workers.registry],
            random.Random(f"{seed}/{number}"),
            together,
            turns(),
        )
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for client in clients:
        if client.error is not None:
            raise AssertionError(f"{client.name}: {client.error!r}")
    return [call for client in clients for call in client.history]


def explained(verdict: Verdict) -> str:
    told = [f"the tag is {verdict.value}, and none of these can be next:"]
    told += [
        f"  {call.kind.value} {call.result.value} {call.value} (expected {call.expected})"
        f" {call.start:.4f}-{call.end:.4f}"
        for call in verdict.stuck
    ]
    return "\n".join(told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10)
    parser.add_argument("--calls", type=int, default=150)
    parser.add_argument("--full", action="store_true", help=f"{HISTORIES} of {CALLS} calls")
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    histories, calls = (HISTORIES, CALLS) if given.full else (given.histories, given.calls)
    end = time.monotonic() + given.seconds
    recorded = 0
    wrong = []
    done = Counter[str]()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Spindle(Path(scratch) / "data", "--workers", "2", "--set", "log.level=warning") as server,
    ):
        workers = Workers(server)
        for number in range(histories):
            if time.monotonic() > end:
                break
            recorded += 1
            seed = given.seed * HISTORIES + number
            try:
                history = record(server, workers, seed=seed, calls=calls, kill=number % 2 == 1)
            except AssertionError as error:
                wrong.append(f"history {seed}: {error}")
                continue
            done.update(f"{call.kind.value} {call.result.value}" for call in history)
            verdict = check(history)
            if not verdict.linearizable:
                wrong.append(f"history {seed}: {explained(verdict)}")
    figures = ", ".join(f"{what} {count}" for what, count in sorted(done.items()))
    print(f"tags: {recorded} histories of {calls} calls ({figures}), violations {len(wrong)}")
    print(*wrong[:20], sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
