"""Whole requests, to the real application over a store on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.asgi import GONE, IMAGE, Gone, Registry, open_store
from tests.fuzzing.corpus import (
    CONTENT_RANGES,
    CONTENT_TYPES,
    DIGESTS,
    NAMES,
    PATHS,
    QUERIES,
    RANGES,
    TAGS,
    Mutator,
    manifest,
)

FILL_AGAIN: Final = 2000  # requests after which what they deleted is pushed again
PATIENCE: Final = 20  # seconds after which a request counts as stuck

_METHODS: Final = ("GET", "GET", "HEAD", "POST", "PUT", "PUT", "PATCH", "DELETE", "OPTIONS", "get")
_REPOSITORIES: Final = ("acme/shop", "acme/other", "blobs/uploads", "nobody")
_HEADERS: Final = {
    "range": RANGES,
    "if-range": [f'"{digest}"' for digest in DIGESTS],
    "if-match": ["*", *(f'"{digest}"' for digest in DIGESTS)],
    "if-none-match": ["*", 'W/"x", *', *(f'"{digest}"' for digest in DIGESTS)],
    "content-range": CONTENT_RANGES,
    "content-type": CONTENT_TYPES,
    "content-encoding": ["identity", "gzip", " Identity "],
    "accept": ["*/*", IMAGE, "text/html;q=0"],
    "accept-encoding": ["gzip", "br;q=1"],
}
_NO_HEADER_HAS: Final = str.maketrans("", "", "\r\n\0")  # the server sees to that


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | tuple[bytes | Gone, ...] | None
    chunked: bool


class Requests:
    """Makes requests, and checks what is true of every answer."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._closing = AsyncExitStack()
        self._sessions: deque[str] = deque(maxlen=40)
        self._asked = 0

    async def open(self, data: Path) -> None:
        store = await self._closing.enter_async_context(open_store(data))
        self._registry = Registry(store, page_limit=100)
        await self._fill()

    async def close(self) -> None:
        await self._closing.aclose()

    async def _fill(self) -> None:
        for name in _REPOSITORIES[:3]:
            for data in (b"", b"x", b"0123456789" * 10):
                await self._registry.push_blob(name, data)
            await self._registry.push_blob(name, b"", "sha512")
            await self._registry.push_image(name)
            self._sessions.append(await self._registry.start_upload(name))

    def make(self, m: Mutator) -> Request:
        draw = m.random
        target, methods = self._target(m)
        if draw.random() < 0.1:
            target = m.text([target])
        if draw.random() < 0.4:
            target += "?" + (m.text(QUERIES) if draw.random() < 0.7 else draw.choice(QUERIES))
        names = draw.choices(tuple(_HEADERS), k=draw.choice((0, 0, 1, 1, 2, 3)))
        headers = tuple((name, _latin(m.text(_HEADERS[name])[:8000])) for name in names)
        return Request(
            draw.choice(methods if draw.random() < 0.8 else _METHODS),
            _latin(target.replace("\0", "%00")),
            tuple((name, value.translate(_NO_HEADER_HAS)) for name, value in headers),
            _body(m),
            draw.random() < 0.5,
        )

    def _target(self, m: Mutator) -> tuple[str, tuple[str, ...]]:
        """A target, and the methods that it would take."""
        draw = m.random
        name = draw.choice(_REPOSITORIES) if draw.random() < 0.8 else m.text(NAMES)
        digest = draw.choice(DIGESTS) if draw.random() < 0.8 else m.text(DIGESTS)
        tag = draw.choice(TAGS) if draw.random() < 0.8 else m.text(TAGS)
        match draw.randrange(9):
            case 0 | 1:
                return draw.choice(self._sessions), ("GET", "PATCH", "PATCH", "PUT", "DELETE")
            case 2:
                return f"/v2/{name}/blobs/uploads/", ("POST",)
            case 3:
                return f"/v2/{name}/blobs/{digest}", ("GET", "GET", "HEAD", "DELETE")
            case 4:
                return f"/v2/{name}/manifests/{digest}", ("GET", "HEAD", "PUT", "DELETE")
            case 5:
                return f"/v2/{name}/manifests/{tag}", ("GET", "HEAD", "PUT", "PUT", "DELETE")
            case 6:
                return f"/v2/{name}/tags/list", ("GET",)
            case 7:
                return f"/v2/{name}/referrers/{digest}", ("GET",)
            case _:
                return m.text(PATHS), _METHODS

    def check(self, request: Request) -> bool:
        return self._runner.run(self._check(request))

    async def _check(self, request: Request) -> bool:
        self._asked += 1
        if self._asked % FILL_AGAIN == 0:
            await self._fill()
        self._registry.chunked = request.chunked
        async with asyncio.timeout(PATIENCE):
            answer = await self._registry.ask(
                request.method, request.target, body=request.body, headers=request.headers
            )
        if answer is None:
            assert isinstance(request.body, tuple), "no answer to a client that was there"
            return False
        assert answer.status < 500, f"answered with {answer.status}: {answer.body!r}"
        for name, value in answer.headers:
            assert value.isprintable(), f"{name}: {value!r}"
        location = answer.header("location")
        if answer.status == 202 and location:
            self._sessions.append(location)
        return answer.status < 400


def _latin(text: str) -> str:
    """As the bytes of a request are: each of them one character."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _body(m: Mutator) -> bytes | tuple[bytes | Gone, ...] | None:
    draw = m.random
    match draw.randrange(6):
        case 0 | 1:
            return None
        case 2:
            return draw.choice((b"", b"{}", b"x", b"0123456789" * 10))
        case 3 | 4:
            return manifest(m)
        case _:
            whole = manifest(m)
            at = draw.randrange(len(whole) + 1)
            return (whole[:at], GONE) if draw.random() < 0.5 else (whole[:at], whole[at:])
