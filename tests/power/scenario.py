"""A client that pushes, moves, mounts and deletes, and notes how far the disk is at each answer."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage.digest import SHA256
from tests.asgi import CONFIG, IMAGE, INDEX, LAYER
from tests.power.history import History, Key, Step
from tests.servers import Spindle

SHOP: Final = "acme/shop"
SITE: Final = "team/site"
TOGETHER: Final = 3  # clients that push the same blob at once
# After as much, SQLite writes its log from the beginning again: from then on it does not grow, and
# a commit makes nothing durable but itself.
WARM: Final = 5 << 20  # bytes of manifests
_IDLE: Final = ("--set", "deploy.enabled=false", "--set", "collect.enabled=false")
_AT_ONCE: Final = (
    *("--set", "collect.grace=0.001", "--set", "collect.quarantine=0.001"),
    *("--set", "collect.untagged=0.001"),
)


class Inside(Spindle):
    """A server on the disk; its log is elsewhere."""

    def __init__(self, data: Path, log: Path, mode: str) -> None:
        super().__init__(data, *_IDLE)
        self.command = (sys.executable, "-m", "tests.power.served", mode)
        self.log = log

    def kill(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)


class Client:
    """Asks one thing after another; `length` is that of the disk's log, in bytes."""

    def __init__(self, history: History, length: Callable[[], int], chance: random.Random) -> None:
        self._history = history
        self._length = length
        self._chance = chance
        self._connection = http.client.HTTPConnection("")
        self._tags: dict[Key, str] = {}
        self._registry = ""

    def connect(self, registry: str) -> None:
        self._connection.close()
        self._registry = registry
        self._connection = http.client.HTTPConnection(registry, timeout=60)

    def close(self) -> None:
        self._connection.close()

    # Requests

    def answer(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        """Status, Location and body."""
        self._connection.request(method, path, body, dict(headers or {}))
        answer = self._connection.getresponse()
        return answer.status, answer.getheader("Location", ""), answer.read()

    def ask(self, method: str, path: str, *request: Any, expect: int, **more: Any) -> str:
        """What must be answered so; returns the Location."""
        status, location, body = self.answer(method, path, *request, **more)
        if status != expect:
            raise AssertionError(f"{method} {path}: {status} {body[:300]!r}")
        return location

    def step(
        self, method: str, path: str, changes: Mapping[Key, str | None], **request: Any
    ) -> str:
        """A request that changes something."""
        began = self._length()
        found = self.ask(method, path, **request)
        self._history.steps.append(Step(f"{method} {path}", began, self._length(), dict(changes)))
        return found

    # Blobs

    def noise(self, least: int, most: int) -> bytes:
        """So many bytes that nobody pushed before."""
        data = self._chance.randbytes(self._chance.randint(least, most))
        self._history.contents[SHA256.digest(data).text] = data
        return data

    def blob(self, repository: str, data: bytes) -> dict[str, Any]:
        """In one POST; returns a descriptor."""
        digest = SHA256.digest(data).text
        path = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        changes = {Key("blobs", repository, digest): digest}
        self.step("POST", path, changes, body=data, expect=201)
        return {"mediaType": LAYER, "digest": digest, "size": len(data)}

    def start(self, repository: str, digest: str) -> str:
        began = self._length()
        location = self.ask("POST", f"/v2/{repository}/blobs/uploads/", b"", expect=202)
        self._history.uploads[location] = (began, digest)
        return location

    def blob_in_chunks(self, repository: str, data: bytes, chunks: int) -> dict[str, Any]:
        digest = SHA256.digest(data).text
        location = self.start(repository, digest)
        size = len(data) // (chunks + 1)
        for at in range(0, size * chunks, size):
            self.chunk(location, at, data[at : at + size])
        changes = {Key("blobs", repository, digest): digest}
        rest = data[size * chunks :]
        self.step("PUT", f"{location}?digest={digest}", changes, body=rest, expect=201)
        return {"mediaType": LAYER, "digest": digest, "size": len(data)}

    def chunk(self, location: str, at: int, data: bytes) -> None:
        headers = {"Content-Range": f"{at}-{at + len(data) - 1}"}
        self.ask("PATCH", location, data, headers, expect=202)

    def mount(self, repository: str, digest: str, source: str) -> None:
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        changes = {Key("blobs", repository, digest): digest}
        self.step("POST", path, changes, body=b"", expect=201)

    def delete_blob(self, repository: str, digest: str) -> None:
        changes = {Key("blobs", repository, digest): None}
        self.step("DELETE", f"/v2/{repository}/blobs/{digest}", changes, expect=202)

    def blob_together(self, repository: str, data: bytes) -> dict[str, Any]:
        """By several clients at once: each that is told so may rely on it."""
        wrong: list[BaseException] = []

        def push() -> None:
            other = Client(self._history, self._length, self._chance)
            other.connect(self._registry)
            try:
                other.blob(repository, data)
            except BaseException as error:
                wrong.append(error)
            finally:
                other.close()

        threads = [threading.Thread(target=push) for _ in range(TOGETHER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]
        return {"mediaType": LAYER, "digest": SHA256.digest(data).text, "size": len(data)}

    # Manifests and tags

    def manifest(
        self, repository: str, content: Mapping[str, Any], tags: Sequence[str] = (), by: str = ""
    ) -> dict[str, Any]:
        """By digest with tags, or by one tag; returns a descriptor."""
        body = json.dumps(content).encode()
        digest = SHA256.digest(body).text
        self._history.contents[digest] = body
        reference = by or digest + "?" + "&".join(f"tag={tag}" for tag in tags)
        names = [Key("manifests", repository, tag) for tag in ([by] if by else tags)]
        self.step(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            dict.fromkeys((Key("manifests", repository, digest), *names), digest),
            body=body,
            headers={"Content-Type": content["mediaType"]},
            expect=201,
        )
        self._tags |= dict.fromkeys(names, digest)
        return {"mediaType": content["mediaType"], "digest": digest, "size": len(body)}

    def delete_tag(self, repository: str, tag: str) -> None:
        key = Key("manifests", repository, tag)
        self.step("DELETE", f"/v2/{repository}/manifests/{tag}", {key: None}, expect=202)
        del self._tags[key]

    def delete_manifest(self, repository: str, digest: str) -> None:
        gone = [
            key
            for key, found in self._tags.items()
            if key.repository == repository and found == digest
        ]
        keys = [Key("manifests", repository, digest), *gone]
        path = f"/v2/{repository}/manifests/{digest}"
        self.step("DELETE", path, dict.fromkeys(keys), expect=202)
        for key in gone:
            del self._tags[key]


def image(config: Mapping[str, Any], *layers: Mapping[str, Any], note: str = "") -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {**config, "mediaType": CONFIG},
        "layers": list(layers),
        "annotations": {"note": note},
    }


def index(*manifests: Mapping[str, Any], note: str) -> dict[str, Any]:
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
    return {**content, "annotations": {"note": note}}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Runs a server on a mounted disk: `rounds` of changes, a stop and a start between them."""

    seed: str
    rounds: int

    def run(self, data: Path, log: Path, mode: str, length: Callable[[], int]) -> History:
        history = History()
        chance = random.Random(self.seed)
        client = Client(history, length, chance)
        server = Inside(data, log, mode)
        try:
            for number in range(self.rounds):
                server.start()
                client.connect(server.registry)
                _warm(client)
                _change(client, chance, number)
                for _ in range(2):  # the bytes go when the rows have been gone for a while
                    _collect(server, history, length)
                _change(client, chance, number)
                if number + 1 < self.rounds:
                    server.stop()
            client.close()
        finally:
            server.kill()
        return history


def _warm(client: Client) -> None:
    config = client.blob(SHOP, client.noise(50, 100))
    for number in range(2):
        content = image(config, note=f"{number}" + "x" * (WARM // 2))
        large = client.manifest(SHOP, content, by="warm")
        client.delete_manifest(SHOP, large["digest"])


def _change(client: Client, chance: random.Random, number: int) -> None:
    config = client.blob(SHOP, client.noise(20, 3000))
    small = client.blob_in_chunks(SHOP, client.noise(10_000, 40_000), 0)
    large = client.blob_in_chunks(SHOP, client.noise(100_000, 300_000), 3)
    client.mount(SITE, large["digest"], SHOP)
    loose = client.blob(SITE, client.noise(1000, 20_000))
    first = client.manifest(SHOP, image(config, small, note="first"), by="latest")
    second = client.manifest(SHOP, image(config, small, large), ["latest", "1.0", "1"])
    shared = client.blob_together(SITE, client.noise(20_000, 100_000))
    client.manifest(SITE, image(shared, large, note="site"), by="latest")
    client.manifest(SHOP, index(first, second, note=f"{number}"), ["all", "1"])
    client.delete_tag(SHOP, "1.0")
    client.delete_blob(SITE, loose["digest"])
    third = client.manifest(SHOP, image(config, large, note="third"), ["old", "older"])
    client.delete_manifest(SHOP, third["digest"])
    again = client.noise(5000, 50_000)
    client.blob(SITE, again)
    client.blob(SITE, again)
    client.manifest(SHOP, image(config, small, note="moved"), by="latest")
    unfinished = client.noise(3000, 30_000)
    location = client.start(SHOP, SHA256.digest(unfinished).text)
    client.chunk(location, 0, unfinished[: len(unfinished) // 2 + 1])


_LINE: Final = re.compile(r"(manifest|blob) +(\S+?)@(\S+)$", re.MULTILINE)


def _collect(server: Inside, history: History, length: Callable[[], int]) -> None:
    """As `spindle collect` does beside the server. What it says is gone must be gone for good."""
    began = length()
    done = subprocess.run(
        [*server.command, "collect", "--data", str(server.data), *_AT_ONCE],
        capture_output=True,
        text=True,
        check=True,
    )
    gone = {
        Key(f"{kind}s", name, digest): None for kind, name, digest in _LINE.findall(done.stdout)
    }
    history.steps.append(Step("collect", began, length(), gone, whole=False))
