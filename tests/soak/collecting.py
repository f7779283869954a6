"""Pushers that share their blobs, and a collector that never rests: is anything lost?

Eight clients push images made of the same blobs to a few repositories, asking first what is there,
as clients do (HEAD, mount, upload what is missing), pull each image back whole, and delete most of
them again; the collector looks for garbage ten times a second. Then all rest, and what is left on
the disk is compared with what is left in the repositories.

Run as a program: `python -m tests.soak.collecting --seconds 600 --workers 2`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storage.digest import SHA256
from tests.servers import Spindle

PUSHERS: Final = 8
BLOBS: Final = 400  # some are in use at any time, and some have just become garbage
REPOSITORIES: Final = ("one", "two/three", "four")
GRACE: Final = 2.0  # seconds; a push here takes some milliseconds
SETTINGS: Final = (
    *("--set", f"collect.grace={GRACE}"),
    *("--set", "collect.quarantine=0.5"),
    *("--set", "collect.interval=0.1"),
    # And everything is verified all the time, which must find nothing wrong in what is pushed.
    *("--set", "verify.interval=0.1"),
    *("--set", "verify.rate=0"),
    *("--set", "log.level=warning"),
)
OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Tally:
    """What the pushers did and saw; shared by them."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.done[what] += 1

    def complain(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)


@dataclass(frozen=True)
class Image:
    repository: str
    body: bytes
    blobs: tuple[int, ...]

    @property
    def digest(self) -> str:
        return SHA256.digest(self.body).text


class Pusher(threading.Thread):
    """Pushes, pulls and deletes until `until`; `kept` are the images it left."""

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
        self.kept: list[Image] = []

    def run(self) -> None:
        try:
            while time.monotonic() < self._until:
                image = self._push()
                self._pull(image)
                self.kept.append(image)
                while len(self.kept) > 3:
                    self._remove(self.kept.pop(self._random.randrange(len(self.kept))))
        except Exception as error:  # a thread's own would be lost
            self._tally.complain(f"{self.name}: {error!r}")
        finally:
            self._connection.close()

    def _push(self) -> Image:
        repository = self._random.choice(REPOSITORIES)
        wanted = self._random.sample(range(len(self._blobs)), self._random.randint(1, 4))
        for number in wanted:
            self._ensure(repository, number)
        if self._random.random() < 0.2:
            time.sleep(self._random.random() * GRACE / 2)  # a slow client: its lease must hold
        described = [
            {"mediaType": "a/b", "digest": self._digests[n], "size": len(self._blobs[n])}
            for n in wanted
        ]
        content = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described[0],
            "layers": described[1:],
            "annotations": {"is": f"{self.name} {self._random.random()}"},
        }
        image = Image(repository, json.dumps(content).encode(), tuple(wanted))
        reference = image.digest
        if self._random.random() < 0.5:
            reference += f"?tag={self.name.replace(' ', '-')}-{self._random.randrange(3)}"
        path = f"/v2/{repository}/manifests/{reference}"
        self._ask("PUT", path, image.body, {"Content-Type": OCI_IMAGE}, expect=(201,))
        self._tally.count("pushed")
        return image

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

    def _pull(self, image: Image) -> None:
        path = f"/v2/{image.repository}/manifests/{image.digest}"
        self._ask("GET", path, expect=(200,), body_is=image.body)
        for number in image.blobs:
            path = f"/v2/{image.repository}/blobs/{self._digests[number]}"
            self._ask("GET", path, expect=(200,), body_is=self._blobs[number])
        self._tally.count("pulled")

    def _remove(self, image: Image) -> None:
        path = f"/v2/{image.repository}/manifests/{image.digest}"
        self._ask("DELETE", path, expect=(202,))
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
    """Blobs on the disk that no image has."""
    lost: int
    """Blobs of images that are not on the disk."""

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
        images = [image for pusher in pushers for image in pusher.kept]
        needed = {SHA256.digest(blobs[n]).encoded for image in images for n in image.blobs}
        end = time.monotonic() + 10 * GRACE
        while (there := _on_disk(data)) != needed and time.monotonic() < end:
            time.sleep(0.1)  # for the collector
        last = Pusher(PUSHERS, seed, server.registry, blobs, tally, 0)
        for image in images:
            last._pull(image)
        last._connection.close()
        if "is wrong" in (log := server.log.read_text()) or "failed" in log:
            tally.complain(log[-2000:])
    return Outcome(tally.done, tally.wrong, len(there - needed), len(needed - there))


def _on_disk(data: Path) -> set[str]:
    return {path.name for path in data.glob("blobs/sha256/??/*")}


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
