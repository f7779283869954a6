"""The outermost layer: every request gets an id and, when it is answered, one line in the log."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final
from urllib.parse import unquote_to_bytes

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID: Final = b"x-request-id"

# What a proxy in front may hand us to find its requests again in our log.
_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_SESSION = re.compile(rb"(.*/blobs/uploads/+.{8}).", re.DOTALL)
_LONGEST_LOGGED = 512  # characters of a path or user agent


class AccessLog:
    """ASGI middleware. `service` is the name of the listener in the log."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._log = structlog.get_logger().bind(service=service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id, host, agent = _of_interest(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        status, sent, ended = 0, 0, 0.0

        async def answer(message: Message) -> None:
            nonlocal status, sent, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, request_id)]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
                if not message.get("more_body", False):
                    # What is done afterwards, the answer did not wait for.
                    ended = time.perf_counter()
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            client = scope.get("client")
            self._log.info(
                "request",
                id=request_id.decode("ascii"),
                method=scope["method"],
                host=_shown(host),
                path=shown_path(scope.get("raw_path", b"")),
                status=status or None,  # None: the client left, or the answer failed, before it
                bytes=sent,
                ms=round(((ended or time.perf_counter()) - started) * 1000, 2),
                client=client[0] if client else None,
                agent=_shown(agent),
            )


def _of_interest(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes, bytes]:
    request_id, host, agent = b"", b"", b""
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"user-agent":
            agent = value
        elif name == REQUEST_ID and _ACCEPTED.fullmatch(value):
            request_id = value
    return request_id or secrets.token_hex(8).encode(), host, agent


def request_id(scope: Scope) -> str:
    """What the log calls this request; empty for one that did not pass through it."""
    given = scope.get("state", {}).get("request_id", b"")
    return given.decode("latin-1") if isinstance(given, bytes) else str(given)


def address(scope: Scope) -> str:
    """IP address of the client; empty on a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


def shown_path(raw: bytes) -> str:
    """A path for the log: of the id of an upload only the beginning.

    Whoever knows all of it can go on with the upload.
    """
    plain = unquote_to_bytes(raw) if b"%" in raw else raw
    found = _SESSION.match(plain)
    return _shown(raw) if found is None else _shown(found[1]) + "..."


def _shown(text: bytes) -> str:
    return text[:_LONGEST_LOGGED].decode("latin-1")
