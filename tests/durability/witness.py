"""Requests whose answers may never come, of which those that matter are written down."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Final

from storage.digest import SHA256
from tests.durability.journal import ABSENT, DONE, UNKNOWN, Entry, Journal
from tests.durability.wire import Answer, Broken, ask
from tests.tally import Tally

PATIENCE: Final = 30.0  # seconds, in which one of many tries has to be answered
NEVER: Final = math.inf
IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """Requests to it, each on a connection of its own."""

    def __init__(self, address: str, tally: Tally, journal: Journal) -> None:
        self.address = address
        self.tally = tally
        self.journal = journal

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        *,
        expect: tuple[int, ...],
    ) -> Answer:
        """Raises Broken, and that too for an answer that cannot be, which is complained of."""
        try:
            answer = ask(self.address, method, path, body, headers)
        except Broken:
            self.tally.count("broken")
            raise
        if answer.status not in expect:
            self.tally.complain(f"{method} {path}: {answer.status} {answer.body[:200]!r}")
            raise Broken
        return answer

    def surely(self, method: str, path: str, *, expect: tuple[int, ...]) -> Answer:
        """What may be asked again, until it is answered."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.ask(method, path, expect=expect)
            except Broken:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{method} {path} is never answered") from None

    def change(
        self,
        entry: Entry,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        until: float = NEVER,
    ) -> str:
        """A request that is written down; its outcome. Nothing is promised after `until`."""
        number = self.journal.begin(entry)
        try:
            headers = {"Content-Type": IMAGE} if method == "PUT" else {}
            answer = self.ask(method, path, body, headers, expect=(201, 202, 404))
        except Broken:
            return UNKNOWN
        outcome = ABSENT if answer.status == 404 else DONE
        self.journal.end(number, outcome, None, promised=time.monotonic() < until)
        return outcome

    def read(self, entry: Entry, path: str, *, until: float = NEVER) -> bytes | None:
        """What is there, written down with its digest."""
        number = self.journal.begin(entry)
        answer = self.surely("GET", path, expect=(200, 404))
        found = SHA256.digest(answer.body).text if answer.status == 200 else None
        promised = time.monotonic() < until
        self.journal.end(number, DONE if found else ABSENT, found, promised=promised)
        return answer.body if found else None

    def read_tag(self, repository: str, tag: str) -> bytes | None:
        entry = Entry("read tag", repository, None, (tag,))
        return self.read(entry, f"/v2/{repository}/manifests/{tag}")

    def read_manifest(self, repository: str, digest: str) -> bytes | None:
        return self.read(Entry("read", repository, digest), f"/v2/{repository}/manifests/{digest}")
