"""Answers that no application gives, and what uvicorn's lack of those that one does.

Only the requests that need it have something between their application and uvicorn's
RequestResponseCycle. What is relied on of that is said in `registry.connections`.
"""

from __future__ import annotations

import asyncio
import http
import json
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httptools
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from registry.heads import Field, Refused

log = structlog.get_logger(__name__)


def reason(error: httptools.HttpParserError) -> Refused:
    """What the client is told of what the parser said, or of what ended the parser."""
    match error:
        case httptools.HttpParserInvalidMethodError():
            return Refused(501, "no such method is known here")
        case httptools.HttpParserCallbackError():
            match error.__context__:
                case Refused() as refused:
                    return refused
                case httptools.HttpParserInvalidURLError() | UnicodeDecodeError():
                    return Refused(400, "the target of a request cannot be read")
                case unforeseen:
                    log.error("request.failed", exc_info=unforeseen)
                    return Refused(500, "the server failed to read the request; its log tells why")
        case _:
            return Refused(400, f"this is not HTTP/1.1: {error}")


@dataclass(frozen=True, slots=True)
class Manner:
    """In what the listeners differ."""

    code: str
    """Of the errors in the answers that no application gives."""
    fields: Sequence[Field]
    """Of the same."""
    literal: bool
    """Whether every target that can be parsed is the application's business."""
    patient: bool
    """Whether a body may come at any rate, if it comes at all."""

    def answer(self, refused: Refused, fields: Sequence[Field]) -> tuple[bytes, bytes]:
        """Head and body."""
        body = json.dumps({"errors": [{"code": self.code, "message": str(refused)}]}).encode()
        phrase = http.HTTPStatus(refused.status).phrase
        head = b"HTTP/1.1 %d %s\r\n" % (refused.status, phrase.encode())
        for field in (
            *fields,
            *self.fields,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ):
            head += b"%s: %s\r\n" % field
        return head + b"\r\n", body


class Closing:
    """What the answer to a request with a body is written to: to close it may take a while."""

    __slots__ = ("abort", "close", "get_extra_info", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def reset(transport: asyncio.Transport | Closing) -> None:
    """End a connection so that the client cannot take it for the end of what was sent.

    And without what the kernel still holds for it, which a client that reads nothing would keep
    there after we are gone.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Unchunked:
    """Answers HTTP/1.0, which knows no chunks: what has no length ends with the connection."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle
        self._measured = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                self._measured = b"content-length" in names
                if not self._measured:
                    self._cycle.chunked_encoding = False
            elif not self._measured:
                self._cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            cycle = self._cycle
            if not self._measured and not cycle.response_complete and not cycle.disconnected:
                reset(cycle.transport)  # an end in good order would make it look whole


class Asked:
    """Answers `Expect: 100-continue`; a final answer in its place makes the next bytes unclear."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if self._cycle.waiting_for_100_continue:
                self._cycle.keep_alive = False
            await send(message)

        await self._app(scope, receive, answer)
