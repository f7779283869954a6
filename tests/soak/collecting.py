"""Pushers that share their blobs, and a collector that never rests: is anything lost?

Eight clients push images made of the same blobs to a few repositories, asking first what is there,
as clients do (HEAD, mount, upload what is missing): alone, two in an index, or with a referrer that
comes before or after them. They pull each push back whole, move tags, and delete most of it again,
by tag or by digest; the collector looks for garbage ten times a second. Then all rest, and what is
left on the disk and in the records is compared with what the clients have kept.

Run as a program: `python -m tests.soak.collecting --seconds 600 --workers 2`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage.digest import SHA256
from tests.servers import Spindle
from tests.tally import Tally

PUSHERS: Final = 8
BLOBS: Final = 400  # some are in use at any time, and some have just become garbage
REPOSITORIES: Final = ("one", "two/three", "four")
GRACE: Final = 4.0  # seconds; a push here takes some milliseconds
SETTINGS: Final = (
    *("--set", f"collect.grace={GRACE}"),
    *("--set", "collect.quarantine=0.5"),
    *("--set", "collect.untagged=1"),
    *("--set", "collect.interval=0.1"),
    # And everything is verified all the time, which must find nothing wrong in what is pushed.
    *("--set", "verify.interval=0.1"),
    *("--set", "verify.rate=0"),
    *("--set", "log.level=warning"),
)
OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Push:
    """What came under one tag: an image, or an index of two; and a referrer of it, or none."""

    repository: str
    tag: str
    manifests: tuple[bytes, ...]
    """All of them, what is tagged first."""
    blobs: frozenset[int]


class Pusher(threading.Thread):
    """Pushes, pulls and deletes until `until`; `kept` are the pushes it left."""

    def __init__(
        self, number: int, seed: int, registry: str, blobs: list[bytes], tally: Tally, until: float
    ) -> None:
        super().__init__(name=f"pusher {number}")
        self._random = random.Random(f"{seed}/{number}")
        self._connection = http.client.HTTPConnection(registry, timeout=30)
        self._blobs = blobs
        self._digests = [SHA256.digest(blob).text for blob in blobs]
        self._tally = tally
        self._until = until
        self._tags = 0
        self.kept: list[Push] = []

    def run(self) -> None:
        try:
            while time.monotonic() < self._until:
                self._push()
                while len(self.kept) > 3:
                    self._remove(self.kept.pop(self._random.randrange(len(self.kept))))
                self.pull(self.kept[-1])
        except Exception as error:  # a thread's own would be lost
            self._tally.complain(f"{self.name}: {error!r}")
        finally:
            self._connection.close()

    def _push(self) -> None:
        repository, tag = self._where()
        blobs: set[int] = set()
        parts: list[bytes] = []
        if self._random.random() < 0.3:
            children = [self._image(repository, blobs) for _ in range(2)]
            for child in children:
                self._put(repository, SHA256.digest(child).text, child)
            self._dawdle()
            parts = [self._content(manifests=list(map(_described, children))), *children]
            self._tally.count("index")
        else:
            parts = [self._image(repository, blobs)]
        first = self._random.random() < 0.3
        referrer = None
        if self._random.random() < 0.3:
            referrer = self._image(repository, blobs, subject=_described(parts[0]))
            self._tally.count("referrer")
        if referrer and first:
            self._put(repository, SHA256.digest(referrer).text, referrer)
            self._dawdle()
        self._put(repository, tag, parts[0])
        # What the tag was on before is nobody's now.
        self.kept = [push for push in self.kept if (push.repository, push.tag) != (repository, tag)]
        if referrer and not first:
            self._put(repository, SHA256.digest(referrer).text, referrer)
        if referrer:
            parts.append(referrer)
        self.kept.append(Push(repository, tag, tuple(parts), frozenset(blobs)))
        self._tally.count("pushed")

    def _where(self) -> tuple[str, str]:
        """A repository and a tag: a new one, or one to be moved."""
        if self.kept and self._random.random() < 0.2:
            moved = self._random.choice(self.kept)
            self._tally.count("tag moved")
            return moved.repository, moved.tag
        self._tags += 1
        return self._random.choice(REPOSITORIES), f"{self.name.replace(' ', '-')}-{self._tags}"

    def _image(self, repository: str, blobs: set[int], **fields: Any) -> bytes:
        """The body of an image whose blobs are there now; their numbers are added to `blobs`."""
        wanted = self._random.sample(range(len(self._blobs)), self._random.randint(1, 4))
        for number in wanted:
            self._ensure(repository, number)
        self._dawdle()
        blobs.update(wanted)
        config, *layers = (
            {"mediaType": "a/b", "digest": self._digests[n], "size": len(self._blobs[n])}
            for n in wanted
        )
        return self._content(config=config, layers=layers, **fields)

    def _content(self, **fields: Any) -> bytes:
        content = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX if "manifests" in fields else OCI_IMAGE,
            "annotations": {"is": f"{self.name} {self._random.random()}"},
        }
        return json.dumps(content | fields).encode()

    def _put(self, repository: str, reference: str, body: bytes) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        kind = json.loads(body)["mediaType"]
        self._ask("PUT", path, body, {"Content-Type": kind}, expect=(201,))

    def _dawdle(self) -> None:
        """Some clients are slow: their leases must hold."""
        if self._random.random() < 0.1:
            time.sleep(self._random.random() * GRACE / 3)

    def _ensure(self, repository: str, number: int) -> None:
        """As clients do: ask, mount or upload."""
        digest = self._digests[number]
        status, _ = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", expect=(200, 404))
        if status == 200:
            self._tally.count("already there")
            return
        query = f"?mount={digest}"
        if self._random.random() < 0.5:
            query += f"&from={self._random.choice(REPOSITORIES)}"
        status, location = self._ask(
            "POST", f"/v2/{repository}/blobs/uploads/{query}", b"", expect=(201, 202)
        )
        if status == 201:
            self._tally.count("mounted")
            return
        self._ask("PUT", f"{location}?digest={digest}", self._blobs[number], expect=(201,))
        self._tally.count("uploaded")

    def pull(self, push: Push) -> None:
        """All of it, byte for byte."""
        base = f"/v2/{push.repository}"
        self._ask("GET", f"{base}/manifests/{push.tag}", expect=(200,), body_is=push.manifests[0])
        for body in push.manifests:
            path = f"{base}/manifests/{SHA256.digest(body)}"
            self._ask("GET", path, expect=(200,), body_is=body)
        for number in push.blobs:
            path = f"{base}/blobs/{self._digests[number]}"
            self._ask("GET", path, expect=(200,), body_is=self._blobs[number])
        self._tally.count("pulled")

    def _remove(self, push: Push) -> None:
        """Its tag, or what is tagged; the rest is for the collector to find."""
        by = push.tag if self._random.random() < 0.5 else SHA256.digest(push.manifests[0]).text
        self._ask("DELETE", f"/v2/{push.repository}/manifests/{by}", expect=(202,))
        self._tally.count("deleted")

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        expect: tuple[int, ...],
        body_is: bytes | None = None,
    ) -> tuple[int, str]:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status not in expect:
            self._tally.complain(f"{method} {path}: {answer.status} {content[:200]!r}")
        elif body_is is not None and content != body_is:
            self._tally.complain(f"{method} {path}: other bytes")
        return answer.status, answer.getheader("Location", "")


@dataclass(frozen=True)
class Outcome:
    done: Counter[str]
    wrong: list[str]
    left: int
    """Blobs on the disk and manifests in the records that no push has."""
    lost: int
    """Those of pushes that are not there."""

    @property
    def collected(self) -> float:
        """The share of all blobs ever garbage that is gone; each upload made one anew."""
        garbage = self.done["uploaded"]
        return 1 - self.left / garbage if garbage else 1.0


def soak(data: Path, *, seconds: float, seed: int = 0, workers: int = 1) -> Outcome:
    noise = random.Random(seed)
    blobs = [noise.randbytes(noise.randrange(1, 1 << 16)) for _ in range(BLOBS)]
    tally = Tally()
    with Spindle(data, "--workers", str(workers), *SETTINGS) as server:
        until = time.monotonic() + seconds
        pushers = [
            Pusher(number, seed, server.registry, blobs, tally, until) for number in range(PUSHERS)
        ]
        for pusher in pushers:
            pusher.start()
        for pusher in pushers:
            pusher.join()
        pushes = [push for pusher in pushers for push in pusher.kept]
        needed = {SHA256.digest(blobs[n]).text for push in pushes for n in push.blobs}
        needed |= {SHA256.digest(body).text for push in pushes for body in push.manifests}
        # The collector takes an index, its images and their blobs one after the other.
        end = time.monotonic() + 10 * GRACE
        while (there := _there(data)) != needed and time.monotonic() < end:
            time.sleep(0.1)
        last = Pusher(PUSHERS, seed, server.registry, blobs, tally, 0)
        for push in pushes:
            last.pull(push)
        last._connection.close()
        if "is wrong" in (log := server.log.read_text()) or "failed" in log:
            tally.complain(log[-2000:])
    return Outcome(tally.done, tally.wrong, len(there - needed), len(needed - there))


def _there(data: Path) -> set[str]:
    """The digests of the blobs on the disk, and of the manifests in the records."""
    blobs = {f"sha256:{path.name}" for path in data.glob("blobs/sha256/??/*")}
    with closing(sqlite3.connect(data / "records.db", timeout=60)) as records:
        return blobs | {digest for (digest,) in records.execute("SELECT digest FROM manifests")}


def _described(body: bytes) -> dict[str, Any]:
    kind = json.loads(body)["mediaType"]
    return {"mediaType": kind, "digest": SHA256.digest(body).text, "size": len(body)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = soak(
            Path(scratch) / "data", seconds=given.seconds, seed=given.seed, workers=given.workers
        )
    print(dict(outcome.done))
    print(f"left {outcome.left}, lost {outcome.lost}, collected {outcome.collected:.2%}")
    print(*outcome.wrong[:20], sep="\n")
    return 1 if outcome.wrong or outcome.lost or outcome.collected < 0.99 else 0


if __name__ == "__main__":
    sys.exit(main())
