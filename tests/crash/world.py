"""A registry as it is served, but for its sockets, and the clients of it that keep a journal."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry import app
from registry.collecting import collector
from registry.settings import Age, Bytes, CollectSettings, Config, LimitSettings, Seconds
from storage.collect import Collected
from tests import asgi
from tests.asgi import IMAGE, Answer, digest_of
from tests.crash.journal import Kind, Request, Writer

GRACE: Final = 100.0  # seconds, as all of these
QUARANTINE: Final = 10.0
UNTAGGED: Final = 400.0
UPLOAD_AGE: Final = 1000.0
COLLECT: Final = CollectSettings(
    grace=Seconds(GRACE),
    quarantine=Seconds(QUARANTINE),
    untagged=Age(UNTAGGED),
    upload_age=Seconds(UPLOAD_AGE),
)
LIMITS: Final = LimitSettings(reserve=Bytes(64 << 10))


@dataclass
class Clock:
    """The time of day, and what was added to it. Files have the real one."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class World:
    """An open data directory and its registry."""

    client: asgi.Client
    records: app.Records
    config: Config
    clock: Clock = field(default_factory=Clock)

    async def collect(self) -> Collected:
        return await collector(self.records.store, self.config.collect).cycle()

    async def look_for_strays(self) -> int:
        return await collector(self.records.store, self.config.collect).strays()


@asynccontextmanager
async def opened(root: Path, *, ahead: float = 0.0) -> AsyncIterator[World]:
    config = Config(data=root, collect=COLLECT, limits=LIMITS)
    clock = Clock(ahead)
    async with app.open_records(config) as records:
        records.store.now = clock
        served = app.create_app(config, records, gateway_port=80, wake=app.nobody_to_wake)
        yield World(asgi.Client(served), records, config, clock)


class Pusher:
    """A client: every request is in the journal before it is sent, and its end when it is heard."""

    def __init__(self, world: World, journal: Writer) -> None:
        self._world = world
        self._journal = journal

    async def post_blob(self, repository: str, data: bytes, algorithm: str = "sha256") -> None:
        """All in one request."""
        request = _blob(repository, data, algorithm)
        number = self._journal.begin(request)
        target = f"/v2/{repository}/blobs/uploads/?digest={request.digest}"
        answer = await self._ask("POST", target, data, expect=[201], heard=self._ends(number, 201))
        self._names(answer, request)

    async def put_blob(
        self, repository: str, *pieces: bytes, last: bytes = b"", algorithm: str = "sha256"
    ) -> None:
        """POST, a PATCH for every piece, and PUT with the last one."""
        request = _blob(repository, b"".join(pieces) + last, algorithm)
        number = self._journal.begin(request)
        query = "" if algorithm == "sha256" else f"?digest-algorithm={algorithm}"
        answer = await self._ask("POST", f"/v2/{repository}/blobs/uploads/{query}", expect=[202])
        session, at = location(answer), 0
        self._journal.session(number, session, at)
        for piece in pieces:
            end = at + len(piece)

            def kept(status: int, end: int = end) -> None:
                if status == 202:
                    self._journal.session(number, session, end)

            answer = await self._ask(
                *("PATCH", location(answer), piece),
                headers={"Content-Range": f"{at}-{end - 1}"},
                expect=[202],
                heard=kept,
            )
            at = end
        target = f"{location(answer)}?digest={request.digest}"
        ends = self._ends(number, 201)
        self._names(await self._ask("PUT", target, last or None, expect=[201], heard=ends), request)

    async def leave_upload(self, repository: str, data: bytes) -> None:
        """Begin one and never come back: nobody is promised anything."""
        self._journal.end(self._journal.begin(Request(Kind.LEAVE, repository)), done=True)
        answer = await self._ask("POST", f"/v2/{repository}/blobs/uploads/", expect=[202])
        await self._ask("PATCH", location(answer), data, expect=[202])

    async def mount(self, repository: str, source: str, data: bytes) -> bool:
        """False when it is not there; the upload that is offered then is cancelled."""
        request = Request(Kind.MOUNT, repository, digest_of(data), data.decode("latin-1"))
        number = self._journal.begin(request)
        target = f"/v2/{repository}/blobs/uploads/?mount={request.digest}&from={source}"
        answer = await self._ask("POST", target, expect=[201, 202], heard=self._ends(number, 201))
        if answer.status == 202:
            self._journal.end(self._journal.begin(Request(Kind.LEAVE, repository)), done=True)
            await self._ask("DELETE", location(answer), expect=[204])
        return answer.status == 201

    async def has_blob(self, repository: str, data: bytes) -> bool:
        target = f"/v2/{repository}/blobs/{digest_of(data)}"
        return (await self._ask("HEAD", target, expect=[200, 404])).status == 200

    async def put_manifest(
        self, repository: str, body: bytes, *tags: str, by_digest: bool = False
    ) -> None:
        """By its tag; with several tags, or where asked for, by its digest."""
        content = json.loads(body)
        subject = content.get("subject", {}).get("digest", "")
        kind = content.get("mediaType", IMAGE)
        request = Request(
            *(Kind.MANIFEST, repository, digest_of(body), body.decode("latin-1")),
            media_type=kind,
            tags=tags,
            subject=subject,
        )
        number = self._journal.begin(request)
        answer = await self._ask(
            *("PUT", manifest_target(request, by_digest=by_digest), body),
            headers={"Content-Type": kind},
            expect=[201],
            heard=self._ends(number, 201),
        )
        if answer.header("oci-subject") != (subject or None):
            self._journal.wrong(f"a subject was not acknowledged: {answer.headers}")
        self._names(answer, request)

    async def delete_tag(self, repository: str, tag: str) -> None:
        request = Request(Kind.DELETE_TAG, repository, tags=(tag,))
        await self._delete(request, f"/v2/{repository}/manifests/{tag}")

    async def delete_manifest(self, repository: str, body: bytes) -> None:
        request = Request(Kind.DELETE_MANIFEST, repository, digest_of(body))
        await self._delete(request, f"/v2/{repository}/manifests/{request.digest}")

    async def delete_blob(self, repository: str, data: bytes) -> None:
        request = Request(Kind.DELETE_BLOB, repository, digest_of(data))
        await self._delete(request, f"/v2/{repository}/blobs/{request.digest}")

    async def collect(self, repository: str, may: Iterable[bytes]) -> None:
        """A cycle, by which nothing goes but `may`."""
        digests = tuple(map(digest_of, may))
        number = self._journal.begin(Request(Kind.COLLECT, repository, may=digests))
        await self._world.collect()
        self._journal.end(number, done=True)

    async def _delete(self, request: Request, target: str) -> None:
        number = self._journal.begin(request)
        await self._ask("DELETE", target, expect=[202, 404], heard=self._ends(number, 202))

    async def _ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        expect: Sequence[int],
        heard: Callable[[int], None] = lambda _: None,
    ) -> Answer:
        """`heard` is given the status when the answer was sent, whatever the handler does then."""
        client = asgi.Client(_overheard(self._world.client.app, heard))
        answer = await client(method, target, body=body, headers=headers or {})
        if answer.status not in expect:
            self._journal.wrong(f"{method} {target} was answered with {answer.status}")
            raise AssertionError(answer)
        return answer

    def _ends(self, number: int, acknowledges: int) -> Callable[[int], None]:
        """The answer to the last request of something."""
        return lambda status: self._journal.end(number, done=status == acknowledges)

    def _names(self, answer: Answer, request: Request) -> None:
        if answer.header("docker-content-digest") != request.digest:
            self._journal.wrong(f"another digest was acknowledged: {answer.headers}")


def _overheard(served: ASGIApp, heard: Callable[[int], None]) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                heard(status)

        await served(scope, receive, sending)

    return answer


def location(answer: Answer) -> str:
    found = answer.header("location")
    assert found is not None
    return found


def manifest_target(request: Request, *, by_digest: bool = False) -> str:
    tags = request.tags
    many = "&".join(f"tag={tag}" for tag in tags)
    by_digest = by_digest or len(tags) != 1
    reference = request.digest + (f"?{many}" if many else "") if by_digest else tags[0]
    return f"/v2/{request.repository}/manifests/{reference}"


def _blob(repository: str, data: bytes, algorithm: str) -> Request:
    return Request(Kind.BLOB, repository, digest_of(data, algorithm), data.decode("latin-1"))


def layered(note: str, *layers: bytes, **fields: Any) -> bytes:
    """An image manifest with these layers; another one for each note."""
    described = [asgi.descriptor(layer, asgi.LAYER) for layer in layers]
    return asgi.image(layers=described, annotations={"note": note}, **fields)
