"""A client that calls an ASGI application in this process, as a server would; and a registry.

Every answer is held to what is true of all of them: lengths that agree, JSON errors with codes of
the specification, the headers that no answer under /v2 lacks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message

from registry.v2 import V2
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.records.sqlite import SQLite
from storage.store import Store

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID"),
    *("MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID"),
    *("NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
}


class Gone:
    """In the place of a piece of a body: here the client vanishes."""


GONE = Gone()


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    reads: int = 0
    """How often the application asked for the request's body."""

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the only error."""
        assert self.status >= 400, f"answered with {self.status}, which is no error"
        [error] = self.json["errors"]
        return str(error["code"])


@dataclass
class Client:
    """`await client("GET", "/v2/")`. None is answered when the request was cut off."""

    app: ASGIApp
    chunked: bool = field(default=False)
    """Send bodies in chunks, without a Content-Length, as many clients do."""

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes | Iterable[bytes | Gone] | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> Answer | None:
        pieces = [body] if isinstance(body, bytes) else list(body or ())
        sent = [(b"host", b"registry.test")]
        given = headers.items() if isinstance(headers, Mapping) else headers
        sent += [(name.lower().encode(), value.encode("latin-1")) for name, value in given]
        if body is not None and not any(name == b"content-length" for name, _ in sent):
            if self.chunked or not isinstance(body, bytes):
                sent.append((b"transfer-encoding", b"chunked"))
            else:
                sent.append((b"content-length", str(len(body)).encode()))
        path, _, query = target.partition("?")
        answer: Answer | None = None
        reads, complete, left, over = 0, False, iter(pieces), asyncio.Event()

        async def receive() -> Message:
            nonlocal reads
            reads += 1
            if reads > max(len(pieces), 1):
                await over.wait()
                return {"type": "http.disconnect"}
            piece = next(left, b"")
            if isinstance(piece, Gone):
                return {"type": "http.disconnect"}
            more = reads < len(pieces)
            return {"type": "http.request", "body": piece, "more_body": more}

        async def send(message: Message) -> None:
            nonlocal answer, complete
            if message["type"] == "http.response.start":
                assert answer is None, "two answers to one request"
                found = [(name.decode(), value.decode()) for name, value in message["headers"]]
                answer = Answer(message["status"], found)
                return
            assert answer is not None, "a body before its head"
            assert not complete, "a body after the end"
            answer.body += message.get("body", b"")
            complete = not message.get("more_body", False)
            if complete:
                over.set()

        await self.app(
            {
                "type": "http",
                "http_version": "1.1",
                "method": method,
                "path": path,
                "raw_path": path.encode("latin-1"),
                "query_string": query.encode("latin-1"),
                "root_path": "",
                "headers": sent,
                "state": {},
            },
            receive,
            send,
        )
        if answer is None:
            return None
        answer.reads = reads
        if complete:
            _check(method, answer)
        return answer

    async def __call__(self, method: str, target: str, **request: Any) -> Answer:
        answer = await self.ask(method, target, **request)
        assert answer is not None, "the request was not answered"
        return answer


def _check(method: str, answer: Answer) -> None:
    assert answer.header("docker-distribution-api-version") == "registry/2.0"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("warning") is None
    length = answer.header("content-length")
    if answer.status in (204, 304):
        assert length is None
        assert answer.body == b""
    elif method == "HEAD":
        assert length is not None
        answer.body = b""  # as the server does
    else:
        assert length == str(len(answer.body))
    if answer.status >= 400 and method != "HEAD":
        assert answer.header("content-type") == "application/json"
        assert answer.json["errors"]
        for error in answer.json["errors"]:
            assert set(error) <= {"code", "message", "detail"}
            assert error["message"]
            if answer.status < 500:
                assert error["code"] in CODES


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Registry(Client):
    """A V2 application over a store on disk, and shorthands to fill it."""

    store: Store
    moves: int
    """How often it told that a tag was moved."""

    def __init__(self, store: Store, **limits: Any) -> None:
        self.store, self.moves = store, 0
        super().__init__(V2(store, moved=self._moved, **limits))

    def _moved(self) -> None:
        self.moves += 1

    async def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        """Returns the digest."""
        digest = digest_of(data, algorithm)
        answer = await self("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", body=data)
        assert answer.status == 201, answer.body
        return digest

    async def push_manifest(
        self, name: str, reference: str, body: bytes, media_type: str = IMAGE
    ) -> Answer:
        return await self(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            body=body,
            headers={"Content-Type": media_type},
        )

    async def push_image(self, name: str, tag: str | None = "latest", **fields: Any) -> bytes:
        """An image of two blobs, tagged or only by digest; returns the manifest."""
        body = image(**fields)
        await self.push_blob(name, b"{}")
        answer = await self.push_manifest(name, tag or digest_of(body), body)
        assert answer.status == 201, answer.body
        return body

    async def start_upload(self, name: str, query: str = "") -> str:
        """Returns the Location of a new session."""
        answer = await self("POST", f"/v2/{name}/blobs/uploads/{query}")
        assert answer.status == 202, answer.body
        location = answer.header("location")
        assert location is not None
        return location


def image(**fields: Any) -> bytes:
    """An image manifest whose config is the empty object, with more fields or other ones."""
    config = {"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2}
    content = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [], **fields}
    return json.dumps(content).encode()


def index(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], **fields}).encode()


def descriptor(body: bytes, media_type: str = IMAGE) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}


@asynccontextmanager
async def open_store(root: Path) -> AsyncIterator[Store]:
    """A store in files, as in production."""
    layout = Layout.open(root)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    try:
        yield store
    finally:
        await store.close()
