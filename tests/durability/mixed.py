"""Clients that do everything, and write it down: the load of tests.durability.storm.

Each request is made on a connection of its own, so that the pieces of an upload meet different
workers. What becomes of a request whose connection breaks is unknown; what was asked for only to
know is asked again.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from storage.digest import SHA256
from tests.durability.journal import UNKNOWN, Entry
from tests.durability.wire import Broken
from tests.durability.witness import IMAGE, PATIENCE, Registry

BLOBS: Final = 600  # some are needed at any time, some just garbage, and some pushed again
LARGEST: Final = 100_000  # bytes
IMAGES: Final = 4  # that each client leaves where they are
REPOSITORIES: Final = ("acme/one", "acme/two", "three")
GRACE: Final = 4.0  # seconds; a push takes tenths of one
PROMISED: Final = GRACE * 0.7  # seconds; the server promises three quarters
LOCKED: Final = 20.0  # seconds, after which an upload that is busy has lost its lock
PAUSE: Final = 0.5  # seconds
UPLOAD_AGE: Final = 60.0  # seconds; longer than it takes to see that a lock is lost


@dataclass(frozen=True, slots=True)
class Blobs:
    """What images are made of."""

    bodies: list[bytes]
    digests: list[str]

    @staticmethod
    def of(seed: int) -> Blobs:
        chance = random.Random(seed)
        bodies = [chance.randbytes(chance.randrange(1, LARGEST)) for _ in range(BLOBS)]
        return Blobs(bodies, [SHA256.digest(body).text for body in bodies])


@dataclass(frozen=True, slots=True)
class Image:
    repository: str
    body: bytes
    blobs: tuple[int, ...]
    tags: tuple[str, ...]

    @property
    def digest(self) -> str:
        return SHA256.digest(self.body).text


class Client(threading.Thread):
    """Works until `over`; its tags and manifests are its own, its blobs everybody's."""

    def __init__(
        self, number: int, seed: int, registry: Registry, blobs: Blobs, over: threading.Event
    ) -> None:
        super().__init__(name=f"client{number}")
        self.images: dict[tuple[str, str], Image] = {}
        """By repository and digest: those whose blobs were promised to stay."""
        self._chance = random.Random(f"{seed}/{number}")
        self._registry = registry
        self._tally = registry.tally
        self._blobs = blobs
        self._over = over
        self._count = 0

    @property
    def tags(self) -> list[tuple[str, ...]]:
        """Those of a pair only ever move together."""
        return [(f"{self.name}-a",), (f"{self.name}-b",), (f"{self.name}-l", f"{self.name}-r")]

    def run(self) -> None:
        kinds = [self._push] * 6 + [self._pull] * 3 + [self._untag, self._delete, self._scratch]
        try:
            while not self._over.is_set():
                try:
                    self._chance.choice(kinds)()
                except Broken:
                    self._tally.count("given up")
        except Exception as error:  # a thread's own would be lost
            self._tally.complain(f"{self.name}: {error!r}")

    def _push(self) -> None:
        began = time.monotonic()
        repository = self._chance.choice(REPOSITORIES)
        wanted = tuple(self._chance.sample(range(BLOBS), self._chance.randint(1, 4)))
        for number in wanted:
            self._ensure(repository, number)
        described = [
            {
                "mediaType": "a/b",
                "digest": self._blobs.digests[n],
                "size": len(self._blobs.bodies[n]),
            }
            for n in wanted
        ]
        self._count += 1
        content = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "config": described[0],
            "layers": described[1:],
            "annotations": {"is": f"{self.name} {self._count}"},
        }
        body = json.dumps(content).encode()
        image = Image(repository, body, wanted, self._chance.choice(self.tags))
        tags = "&".join(f"tag={tag}" for tag in image.tags)
        path = f"/v2/{repository}/manifests/{image.digest}?{tags}"
        entry = Entry("push", repository, image.digest, image.tags)
        outcome = self._registry.change(entry, "PUT", path, body)
        # Later than that its blobs may have been garbage before they were named.
        if time.monotonic() - began < PROMISED:
            self.images[repository, image.digest] = image
        else:
            self._tally.count("too slow")
        self._tally.count(f"pushed: {outcome}")
        while len(self.images) > IMAGES:
            self._delete()

    def _ensure(self, repository: str, number: int) -> None:
        """As clients do: ask, mount or upload."""
        digest = self._blobs.digests[number]
        path = f"/v2/{repository}/blobs/{digest}"
        if self._registry.surely("HEAD", path, expect=(200, 404)).status == 200:
            self._tally.count("already there")
            return
        answer = self._registry.ask(
            "POST", f"/v2/{repository}/blobs/uploads/?mount={digest}", b"", expect=(201, 202)
        )
        if answer.status == 201:
            self._tally.count("mounted")
            return
        self._upload(repository, answer.headers["location"], self._blobs.bodies[number])

    def _upload(self, repository: str, session: str, blob: bytes) -> None:
        """In pieces; what breaks is gone on with. Raises Broken when the end of it is unknown."""
        began = busy_since = time.monotonic()
        size, kept = len(blob), 0
        while kept < size:
            end = min(size, kept + self._chance.randint(1, max(size // 2, 1)))
            place = {"Content-Range": f"{kept}-{end - 1}", "Content-Length": f"{end - kept}"}
            piece = self._slowly(blob[kept:end])
            try:
                answer = self._registry.ask("PATCH", session, piece, place, expect=(202, 404, 416))
            except Broken:
                answer = None
            if answer is not None and answer.status == 202:
                if answer.kept != end:
                    self._tally.complain(f"{answer.kept} bytes of {end} after a PATCH")
                self._tally.count("chunks")
                kept, busy_since = end, time.monotonic()
                continue
            if answer is not None and answer.status == 404:
                self._gone(session, began)
            # Nobody but us writes, so it is busy only until the server has noticed the break.
            if time.monotonic() - busy_since > LOCKED:
                raise AssertionError("an upload is busy for ever: its lock is lost")
            told = self._told(session, began)
            if not kept <= told <= size:
                self._tally.complain(f"{told} bytes are kept, and {kept} were acknowledged")
            kept = told
            self._tally.count("gone on")
        digest = SHA256.digest(blob).text
        self._registry.ask("PUT", f"{session}?digest={digest}", b"", expect=(201,))
        self._tally.count("uploaded")

    def _slowly(self, piece: bytes) -> Iterator[bytes]:
        """Now and then with a pause, in which a worker may be killed that holds the upload."""
        yield piece[:1]
        if self._chance.random() < 0.05:
            time.sleep(PAUSE)
        yield piece[1:]

    def _told(self, session: str, began: float) -> int:
        """How many bytes are kept; GET says the same of none and of one."""
        far = {"Content-Range": f"{LARGEST * 9}-{LARGEST * 9}"}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = self._registry.ask("PATCH", session, b"?", far, expect=(404, 416))
            except Broken:
                continue
            if answer.status == 404:
                self._gone(session, began)
            return answer.kept
        raise AssertionError("how far an upload is, is never answered")

    def _gone(self, session: str, began: float) -> NoReturn:
        """It may be only when nobody has sent anything for long."""
        if time.monotonic() - began < UPLOAD_AGE:
            self._tally.complain(f"{session} is gone, and was not closed")
        raise Broken

    def _pull(self) -> None:
        tags = self._chance.choice(self.tags)
        repository = self._chance.choice(REPOSITORIES)
        found = {self._registry.read_tag(repository, tag) for tag in tags}
        if len(found) > 1:
            self._tally.complain(f"D5: {tags} differ, and always moved together")
        self.whole(repository, found.pop())

    def whole(self, repository: str, body: bytes | None) -> None:
        """Every blob of a manifest that was found is there, if that was promised."""
        image = self.images.get((repository, SHA256.digest(body or b"").text))
        if image is None:
            return
        for number in image.blobs:
            self.has(repository, number)
        self._tally.count("pulled")

    def has(self, repository: str, number: int) -> None:
        path = f"/v2/{repository}/blobs/{self._blobs.digests[number]}"
        answer = self._registry.surely("GET", path, expect=(200, 404))
        if answer.status != 200:
            self._tally.complain(f"D3: {path} of a manifest that is there: {answer.status}")
        elif answer.body != self._blobs.bodies[number]:
            self._tally.complain(f"D6: {path} has other bytes")

    def _untag(self) -> None:
        (tag,) = self._chance.choice([tags for tags in self.tags if len(tags) == 1])
        repository = self._chance.choice(REPOSITORIES)
        entry = Entry("untag", repository, None, (tag,))
        outcome = self._registry.change(entry, "DELETE", f"/v2/{repository}/manifests/{tag}")
        self._tally.count(f"untagged: {outcome}")
        self._registry.read_tag(repository, tag)

    def _delete(self) -> None:
        if not self.images:
            return
        repository, digest = self._chance.choice(list(self.images))
        entry = Entry("delete", repository, digest)
        outcome = self._registry.change(entry, "DELETE", f"/v2/{repository}/manifests/{digest}")
        self._tally.count(f"deleted: {outcome}")
        if outcome != UNKNOWN:  # else it is deleted again, until it is known
            del self.images[repository, digest]
        self._registry.read_manifest(repository, digest)

    def _scratch(self) -> None:
        """A blob that nobody else has and no manifest names: pushed, pulled, deleted."""
        self._count += 1
        blob = f"{self.name} {self._count}".encode() * self._chance.randint(1, 2000)
        digest = SHA256.digest(blob).text
        uploads, path = f"/v2/{self.name}/blobs/uploads/", f"/v2/{self.name}/blobs/{digest}"
        until = time.monotonic() + PROMISED
        put, read = Entry("put blob", self.name, digest), Entry("read", self.name, digest)
        self._registry.change(put, "POST", f"{uploads}?digest={digest}", blob)
        self._registry.read(read, path, until=until)
        delete = Entry("delete blob", self.name, digest)
        self._registry.change(delete, "DELETE", path, until=until)
        self._registry.read(read, path, until=until)
        self._tally.count("blobs alone")
