"""One request passed to an instance and its answer passed back, with the connections to do it.

Bodies stream both ways, no faster than the slower side reads. Nothing is decompressed, followed,
or remembered, and nothing added but what `forwarding` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate

import aiohttp
import structlog
from starlette.types import Receive, Scope, Send

from registry.deploy import forwarding
from registry.deploy.runtimes import Address

READ_SIZE = 1 << 18  # bytes of an answer that wait here for the client, before the instance waits
FIELD_SIZE = 1 << 16  # bytes of one header field; the instance bounds what a guest may send
FIELD_COUNT = 512

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, 9.2.2

log = structlog.get_logger()


def date() -> tuple[bytes, bytes]:
    """For an answer that has none (RFC 9110, section 6.6.1).

    Our server adds none itself, since it would double an application's own.
    """
    return b"date", formatdate(usegmt=True).encode()


class Unanswered(Exception):
    """The instance broke off before it answered. `sent`: it may have begun to work on it."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class TooSlow(Exception):
    """The instance was not reached, or did not begin to answer, in time."""


class Pool:
    """Connections to one target.

    An idle connection may be closed by the instance in the very moment it is used again. Requests
    that can be sent twice do not mind, and share kept connections; every other gets a connection
    of its own (some 0.1 ms on a unix socket), and never meets that race.
    """

    def __init__(self, address: Address, connect: float) -> None:
        """`connect` in seconds."""
        self.host, self.port = address.tcp or ("instance", 80)
        self._kept = _session(_connector(address, keep=True), connect)
        self._fresh = _session(_connector(address, keep=False), connect)

    def session(self, *, fresh: bool) -> aiohttp.ClientSession:
        return self._fresh if fresh else self._kept

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()


class Exchange:
    """What is read from the client exists once; instances can be asked in turn."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, first_byte: float) -> None:
        """Raises RequestInvalid."""
        request = forwarding.Request.parse(scope)
        self.host = request.host
        self._request = request
        self._receive = receive
        self._send = send
        self._first_byte = first_byte
        self._limit: asyncio.Timeout | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        self._body_begun = False
        self._gone = False

    def repeatable(self, *, sent: bool) -> bool:
        """Whether an instance may be asked after one that broke off."""
        return not self._body_begun and (not sent or self._request.method in IDEMPOTENT)

    async def run(self, pool: Pool, *, fresh: bool) -> None:
        """Ask, and pass the answer on. Returns at once when the client goes away.

        Raises Unanswered or TooSlow. An instance that breaks off in the middle of its answer
        makes this return without ending the answer: the server closes the connection then, so
        that the client does not take what it has for the whole.
        """
        try:
            await self._run(pool, fresh)
        except asyncio.CancelledError:
            if not self._gone or self._task is None:
                raise
            self._task.uncancel()  # our own, from _lose
        except Unanswered:
            if not self._gone:
                raise
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None

    async def _run(self, pool: Pool, fresh: bool) -> None:
        request = self._request
        if not request.has_body:
            self._watch()
        alone = fresh or request.has_body or request.method not in IDEMPOTENT
        try:
            async with asyncio.timeout(self._first_byte) as self._limit:
                response = await pool.session(fresh=alone).request(
                    request.method,
                    request.url(pool.host, pool.port),
                    headers=request.fields,
                    data=self._body() if request.has_body else None,
                    allow_redirects=False,
                )
        except TimeoutError:
            raise TooSlow(f"no answer within {self._first_byte} s") from None
        finally:
            self._limit = None
        try:
            await self._relay(response)
        finally:
            response.close()

    async def _body(self) -> AsyncIterator[bytes]:
        """The request's body; runs beside the reading of the answer."""
        more = True
        while more:
            self._allow(None)  # the time until the next piece is the client's
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._lose()
                return
            self._body_begun = True
            more = message.get("more_body", False)
            if not more:
                self._watch()
            self._allow(self._first_byte)
            yield message.get("body", b"")

    def _allow(self, seconds: float | None) -> None:
        """Give the instance so much time from now; None: until further notice."""
        if self._limit is not None and not self._limit.expired():
            now = asyncio.get_running_loop().time()
            self._limit.reschedule(None if seconds is None else now + seconds)

    def _watch(self) -> None:
        """From here on nothing but the end of the connection is expected from the client."""
        self._watcher = asyncio.get_running_loop().create_task(self._await_end())

    async def _await_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._lose()

    def _lose(self) -> None:
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    async def _relay(self, response: aiohttp.ClientResponse) -> None:
        if not 200 <= response.status <= 599:
            raise Unanswered(f"status {response.status} is not HTTP", sent=True)
        fields = forwarding.downwards(response.raw_headers, response.status)
        if not any(name == b"date" for name, _ in fields):
            fields.append(date())
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": fields}
        )
        more = True
        while more:
            try:
                piece = await response.content.readany()
            except (aiohttp.ClientError, OSError) as error:
                log.warning(
                    "the answer of an instance broke off", host=self.host, reason=str(error)
                )
                return
            more = not response.content.at_eof()
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})


def _connector(address: Address, *, keep: bool) -> aiohttp.BaseConnector:
    # limit=0: a bound here would be a second queue; the server already bounds the clients.
    if address.unix is not None:
        return aiohttp.UnixConnector(str(address.unix), limit=0, force_close=not keep)
    return aiohttp.TCPConnector(limit=0, force_close=not keep)


def _session(connector: aiohttp.BaseConnector, connect: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect),
        read_bufsize=READ_SIZE,
        max_line_size=FIELD_SIZE,
        max_field_size=FIELD_SIZE,
        max_headers=FIELD_COUNT,
        middlewares=(_once,),
    )


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Translate errors, and keep the library from sending a request again: the gateway decides."""
    try:
        return await handler(request)
    except aiohttp.ConnectionTimeoutError as error:
        raise TooSlow(str(error)) from None
    except aiohttp.ClientConnectorError as error:
        raise Unanswered(str(error), sent=False) from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}", sent=True) from None
