"""Opens what a power cut left, as the next start does, and compares it with what was promised.

The promises are those of the store: what was acknowledged is served with its bytes, a tag is not
older than its last acknowledged move, a manifest that is served is whole, what was deleted stays
away, a step under way happened wholly or not at all, and nobody has to mend anything.
"""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from registry.app import open_records
from registry.collecting import collector
from registry.config import load
from registry.v2 import V2
from storage.digest import SHA256
from storage.store import Store
from tests.asgi import IMAGE, Client
from tests.power.filesystems import ROOM
from tests.power.history import History, Key

MISSING: Final = "missing"
CORRUPT: Final = "corrupt"
OTHER: Final = "other"
BROKEN: Final = "an error"  # in the place of a digest
_LONG: Final = 10 * 24 * 3600.0  # seconds, after which nothing has a lease


@dataclass(frozen=True, slots=True)
class Violation:
    kind: str
    sentence: str


@dataclass(slots=True)
class Checked:
    promises: int = 0
    """How much was acknowledged."""
    wrong: list[Violation] = field(default_factory=list)

    def add(self, kind: str, sentence: str) -> None:
        self.wrong.append(Violation(kind, sentence))


def quiet() -> None:
    """Errors are what is looked for: nobody needs the server's opinion of them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


async def look(data: Path, history: History, cut: int, *, collect: bool) -> Checked:
    """With `collect`, garbage is collected in the end: it takes what is garbage, and only that."""
    checked = Checked()
    try:
        async with open_records(load(flags={"data": str(data), **ROOM})) as records:
            check = _Check(data, records.store, history, cut, checked)
            await check.promises()
            await check.uploads()
            await check.works()
            if collect:
                await check.collects()
    except Exception as error:
        checked.add(OTHER, f"it does not start or stop: {error!r}")
    gc.collect()  # what failed half-way may have left files open, which hold up the unmounting
    return checked


class _Check:
    def __init__(
        self, data: Path, store: Store, history: History, cut: int, checked: Checked
    ) -> None:
        self._data = data
        self._store = store
        self._history = history
        self._cut = cut
        self._checked = checked
        self._client = Client(V2(store, moved=lambda: None))
        self._found: dict[Key, str | None] = {}

    async def promises(self) -> None:
        expected = self._history.at(self._cut)
        for key in expected.sought():
            digest = await self._ask(key)
            allowed = expected.allowed(key)
            self._checked.promises += None not in allowed
            if digest in allowed or digest == BROKEN:
                continue
            if digest is None:
                self._checked.add(MISSING, f"{key} is not there")
            elif allowed == {None}:
                self._checked.add(OTHER, f"{key} came back")
            else:
                self._checked.add(OTHER, f"{key} is {digest} and not {allowed}")
        for name in expected.halves(self._found):
            self._checked.add(OTHER, f"{name} happened in part")
        await self._closures()
        await self._listings()

    async def _ask(self, key: Key) -> str | None:
        """The digest of what is served, None if nothing is, or BROKEN."""
        if key not in self._found:
            self._found[key] = await self._get(key)
        return self._found[key]

    async def _get(self, key: Key) -> str | None:
        path = f"/v2/{key.repository}/{key.kind}/{key.reference}"
        try:
            answer = await self._client("GET", path)
        except Exception as error:  # broken off before its end
            self._checked.add(CORRUPT, f"{key}: {error!r}")
            return BROKEN
        if answer.status == 404:
            return None
        digest = SHA256.digest(answer.body).text
        if answer.status != 200:
            kind = CORRUPT if self._on_disk(key.reference) else MISSING
            self._checked.add(kind, f"{key}: {answer.status} {answer.body[:200]!r}")
            return BROKEN
        named = key.reference if ":" in key.reference else answer.header("docker-content-digest")
        if digest != named or answer.body != self._history.contents.get(digest):
            self._checked.add(CORRUPT, f"{key} has other bytes")
            return BROKEN
        return digest

    def _on_disk(self, reference: str) -> bool:
        return any(self._data.glob(f"blobs/*/??/{reference.partition(':')[2] or '-'}"))

    async def _closures(self) -> None:
        for key, digest in list(self._found.items()):
            if key.kind == "manifests" and digest not in (None, BROKEN):
                for child in self._children(key.repository, str(digest)):
                    if await self._ask(child) is None:
                        self._checked.add(OTHER, f"{key} is there without {child}")

    def _children(self, repository: str, digest: str) -> Iterator[Key]:
        content: Mapping[str, Any] = json.loads(self._history.contents[digest])
        for descriptor in [content.get("config"), *content.get("layers", ())]:
            if descriptor is not None:
                yield Key("blobs", repository, descriptor["digest"])
        for descriptor in content.get("manifests", ()):
            yield Key("manifests", repository, descriptor["digest"])

    async def _listings(self) -> None:
        for repository in {key.repository for key in self._found}:
            answer = await self._client("GET", f"/v2/{repository}/tags/list")
            listed = set(answer.json["tags"]) if answer.status == 200 else set()
            served = {
                key.reference
                for key, digest in self._found.items()
                if key[:2] == ("manifests", repository)
                and ":" not in key.reference
                and digest is not None
            }
            if listed != served:
                self._checked.add(OTHER, f"{repository} lists {listed} and serves {served}")

    async def uploads(self) -> None:
        """What was on its way can be sent to its end, or begun again; never becomes other bytes."""
        for location, (opened, digest) in self._history.uploads.items():
            if opened > self._cut:
                continue
            answer = await self._client("GET", location)
            if answer.status == 404:
                continue
            size = int((answer.header("range") or "0-0").partition("-")[2]) + 1
            data = self._history.contents[digest]
            size = 0 if answer.header("range") in (None, "0-0") else size
            target = f"{location}?digest={digest}"
            answer = await self._client("PUT", target, body=data[size:])
            # Bytes that were not yet promised may be lost from its middle; then it is refused.
            if answer.status not in (201, 400):
                self._checked.add(OTHER, f"{location} ends with {answer.status} {answer.body!r}")
            if answer.status == 201:
                repository = location.removeprefix("/v2/").partition("/blobs/")[0]
                if await self._get(Key("blobs", repository, digest)) != digest:
                    self._checked.add(CORRUPT, f"{location} became something else")

    async def works(self) -> None:
        """A push works, whatever was pushed before."""
        name, data = "after/cut", b"{}"
        digest = SHA256.digest(data).text
        self._history.contents[digest] = data
        path = f"/v2/{name}/blobs/uploads/?digest={digest}"
        pushed = await self._client("POST", path, body=data)
        config = {"mediaType": "a/b", "digest": digest, "size": len(data)}
        body = json.dumps({"schemaVersion": 2, "config": config, "layers": []}).encode()
        self._history.contents[SHA256.digest(body).text] = body
        tagged = await self._client(
            "PUT", f"/v2/{name}/manifests/latest", body=body, headers={"Content-Type": IMAGE}
        )
        if (pushed.status, tagged.status) != (201, 201):
            self._checked.add(OTHER, f"a push fails: {pushed.body!r} {tagged.body!r}")
        await self._ask(Key("manifests", name, "latest"))

    async def collects(self) -> None:
        """When every lease is over, exactly the blobs stay that a manifest has."""
        settings = load().collect
        now = time.time()
        collecting = collector(self._store, settings)
        await collecting.strays()
        for later in (_LONG, 2 * _LONG):  # the links, then the bytes
            self._store.now = lambda later=later: now + later  # type: ignore[misc]
            await collecting.cycle()
        needed = {
            child.reference
            for key, digest in self._found.items()
            if key.kind == "manifests" and digest not in (None, BROKEN)
            for child in self._children(key.repository, str(digest))
            if child.kind == "blobs"
        }
        kept = {f"sha256:{path.name}" for path in self._data.glob("blobs/sha256/??/*")}
        for digest in kept - needed:
            self._checked.add(OTHER, f"{digest} is garbage, and stays")
        # What was lost before is told already.
        lost = {key.reference for key, found in self._found.items() if found in (None, BROKEN)}
        for digest in needed - kept - lost:
            self._checked.add(MISSING, f"{digest} was collected")
        for path in (self._data / "uploads").iterdir():
            self._checked.add(OTHER, f"the upload {path.name} stays")
