"""One request and its answer: a thin layer over the three arguments of ASGI.

Starlette's Request and Response halve the rate of the hot routes, and know nothing of what matters
here: a body is read only when all else was found good, since a client that sent `Expect:
100-continue` is told to go on by the first read; and what was refused without reading it ends the
connection, since the server would go on swallowing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope, Send

from registry import access, auditing
from registry.audit import Audit, NoAudit
from registry.auth.doorman import Caller
from registry.auth.gate import Gate, Open
from registry.auth.identity import ANONYMOUS, ANYBODY, Kind, Principal
from registry.auth.scope import Action
from registry.errors import (
    BodyTooLarge,
    ClientDisconnect,
    EncodingRefused,
    Header,
    QueryInvalid,
)
from storage.freed import Forecast
from storage.names import RepositoryName
from storage.repository import Repository
from storage.store import Store

ALWAYS: Final[tuple[Header, ...]] = (
    (b"docker-distribution-api-version", b"registry/2.0"),
    (b"x-content-type-options", b"nosniff"),
)
JSON: Final[Header] = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Registry:
    """What a handler may reach: the store, the limits, and the one signal to the outside."""

    store: Store
    moved: Callable[[], None]
    """Called when a tag was set or deleted, after the answer was sent."""
    manifest_limit: int
    """Bytes of a manifest; also of a page of referrers, which is a manifest."""
    blob_limit: int | None
    """Bytes of a blob, or None for no limit."""
    page_limit: int
    """Entries of a list in one answer."""
    forecast: Forecast | None = None
    """Tells, for the log, what a deletion will free; None: that is not logged."""
    gate: Gate = field(default_factory=Open)
    audit: Audit = field(default_factory=NoAudit)


class Exchange:
    """What a handler is given, and all it is given."""

    __slots__ = (
        "_headers",
        "_more",
        "_query",
        "_receive",
        "_scope",
        "_send",
        "caller",
        "changes",
        "last",
        "method",
        "name",
        "path",
        "registry",
        "started",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, registry: Registry) -> None:
        self.registry = registry
        self.method: str = scope["method"]
        self.path = ""
        """The path, decoded and without its query."""
        self.name = ""
        """The part of the path where a repository's name has to be."""
        self.last = ""
        """The last segment: a digest, a reference, the id of an upload session."""
        self.caller: Caller | None = None
        """Who asks; None where nobody has to sign in."""
        self.changes: list[auditing.Change] = []
        """What was done already, for the audit; told when the answer begins."""
        self.started = False
        """Whether an answer was begun."""
        self._scope, self._receive, self._send = scope, receive, send
        self._headers = _by_name(scope["headers"])
        self._query: list[tuple[str, str]] | None = None
        self._more = True

    @property
    def is_head(self) -> bool:
        """For a handler to save itself the work; the server sends a HEAD no body anyway."""
        return self.method == "HEAD"

    @property
    def repository(self) -> Repository:
        """The repository that the path names. Raises NameInvalid."""
        return self.registry.store.repository(RepositoryName.parse(self.name))

    # Who asks

    @property
    def principal(self) -> Principal:
        """Also of a request that was refused; anonymous if its credentials were wrong."""
        if self.caller is not None:
            return self.caller.principal
        return ANYBODY if isinstance(self.registry.gate, Open) else ANONYMOUS

    @property
    def owner(self) -> str:
        """Whose the upload sessions of this request are. Empty where everything is everybody's."""
        principal = self.principal
        return "" if principal.kind is Kind.ANYBODY else principal.text

    def may(self, action: Action, repository: RepositoryName) -> bool:
        return self.caller is None or self.caller.may(action, repository.text)

    # What was asked

    def meter(self, seen: Callable[[int], None]) -> None:
        """Tell `seen` how many bytes each piece of the body has, as it is read."""
        receive = self._receive

        async def counted() -> Message:
            message = await receive()
            seen(len(message.get("body", b"")))
            return message

        self._receive = counted

    @property
    def request_id(self) -> str | None:
        """What the log of requests calls this one."""
        return access.request_id(self._scope) or None

    @property
    def address(self) -> str:
        """IP address of the client; empty on a Unix socket."""
        return access.address(self._scope)

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name; repeated ones joined, as RFC 9110 section 5.3 reads."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query(self, name: str) -> str | None:
        """A query parameter; the last one if repeated, for clients append theirs to a Location."""
        values = self.queries(name)
        return values[-1] if values else None

    def queries(self, name: str) -> list[str]:
        """A query parameter that may be repeated. Raises QueryInvalid."""
        if self._query is None:
            self._query = _parse_query(self._scope["query_string"])
        return [value for key, value in self._query if key == name]

    @property
    def length(self) -> int | None:
        """Bytes of the body, before it is read; None when the client will tell by chunks."""
        if b"transfer-encoding" in self._headers:
            return None
        return int(self._headers.get(b"content-length", 0))

    def check_body(self, limit: int | None) -> None:
        """Refuse what can be refused of a body without reading it.

        Raises EncodingRefused, or BodyTooLarge when more than `limit` bytes are announced.
        """
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() != "identity":
            raise EncodingRefused(
                f"Content-Encoding {encoding[:40]!r} is not taken: send the bytes that the digest"
                " names, as they are"
            )
        if limit is not None and (self.length or 0) > limit:
            raise _too_large(limit)

    async def body(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """The body's pieces as they arrive.

        Raises ClientDisconnect, and BodyTooLarge instead of the piece that exceeds the limit.
        """
        left = limit
        while self._more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            piece = message.get("body", b"")
            if left is not None:
                left -= len(piece)
                if left < 0:
                    assert limit is not None
                    raise _too_large(limit)
            if piece:
                yield piece

    def changed(
        self, action: str, *, reference: str = "", digest: str = "", detail: str = ""
    ) -> None:
        """To be called when it is durable and before it is answered; see registry.audit.Event."""
        self.changes.append(auditing.Change(action, reference, digest, detail))

    # What is answered

    async def reply(
        self,
        status: int,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        *,
        length: int | None = None,
    ) -> None:
        """Answer at once. `length` is that of the body a HEAD is not sent.

        What was changed is in the audit then; raises OSError if that cannot be, and nothing is
        sent.
        """
        await auditing.tell(self, status)
        await self._send(self._head(status, headers, len(body) if length is None else length))
        await self._send({"type": "http.response.body", "body": body})

    async def stream(
        self, status: int, headers: Iterable[Header], length: int, pieces: AsyncIterator[bytes]
    ) -> None:
        """Answer with pieces of `length` bytes together, for as long as there is a client.

        Nothing is sent before the first piece is there: if it cannot be read, the answer is an
        error and not a 200 that breaks off. Afterwards breaking off is all that is left.
        """
        sent = 0
        watch: asyncio.Task[bool] | None = None
        try:
            async for piece in pieces:
                if not self.started:
                    await self._send(self._head(status, headers, length))
                sent += len(piece)
                more = sent < length
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
                # uvicorn's send says nothing when the client is gone. To be told costs a task, so
                # only those pay who have more to send: a blob of one piece does not.
                if more and watch is None:
                    watch = asyncio.create_task(self._leaves())
                elif watch is not None and watch.done() and watch.result():
                    break
        finally:
            if watch is not None:
                watch.cancel()
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _leaves(self) -> bool:
        """Wait until the client is gone. False, soon, if it sends a body that nobody asked for."""
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("body"):
            message = await self._receive()
        return bool(message["type"] == "http.disconnect")

    def _head(self, status: int, headers: Iterable[Header], length: int) -> Message:
        head = [*ALWAYS, *headers]
        if status not in (204, 304):
            head.append((b"content-length", b"%d" % length))
        if self._more and self.length != 0:
            head.append((b"connection", b"close"))
        self.started = True
        return {"type": "http.response.start", "status": status, "headers": head}


def _by_name(headers: Sequence[Header]) -> dict[bytes, bytes]:
    joined = dict(headers)
    if len(joined) != len(headers):
        joined = {}
        for name, value in headers:
            joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _parse_query(raw: bytes) -> list[tuple[str, str]]:
    if not raw:
        return []
    pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True)
    if any("\0" in value for _, value in pairs):
        raise QueryInvalid("a query parameter contains a NUL, which nothing here does")
    return pairs


def _too_large(limit: int) -> BodyTooLarge:
    # As a number: a limit from the settings writes itself as 4MiB.
    return BodyTooLarge(f"the body is larger than the {limit:d} bytes that are taken here")
