"""Application traffic: the Host of a request decides which running instance answers it.

A plain ASGI application for a listener of its own. A request is counted on its target from the
moment the target is chosen until its last byte was handed over, so that `Routes.drained` can be
believed.
"""

from __future__ import annotations

import asyncio
import json

import structlog
from starlette.types import Receive, Scope, Send

from registry.deploy.exchange import Exchange, Pool, TooSlow, Unanswered, date
from registry.deploy.forwarding import Fields, RequestInvalid
from registry.deploy.routes import HostUnknown, Routes, Target

RETRY_AFTER = 1  # seconds; a switch or a restart takes about that long

log = structlog.get_logger()


class Refused(Exception):
    """Answered by the gateway itself; the message is for the person who sees it."""

    def __init__(self, status: int, code: str, message: str, fields: Fields | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.fields = fields or []


class Gateway:
    """Use between `open` and `close`, on the event loop of its routes."""

    def __init__(
        self, routes: Routes, *, connect_timeout: float = 5.0, first_byte_timeout: float = 60.0
    ) -> None:
        """Seconds to reach an instance, and seconds until it must begin its answer, not counting
        those in which the client's body is waited for."""
        self._routes = routes
        self._connect = connect_timeout
        self._first_byte = first_byte_timeout
        self._pools: dict[Target, Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Nothing is connected before there is a request for it."""

    async def close(self) -> None:
        """Close every connection to an instance; requests in flight break."""
        pools = list(self._pools.values())
        self._pools.clear()
        await asyncio.gather(*self._closing, *(pool.close() for pool in pools))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError("the gateway speaks HTTP only")
        try:
            if scope["method"] == "CONNECT":
                raise Refused(405, "UNSUPPORTED", "This is not a proxy: CONNECT is not answered.")
            await self._serve(Exchange(scope, receive, send, self._first_byte))
        except RequestInvalid as error:
            # What follows a request that makes no sense is not read.
            closing = [(b"connection", b"close")]
            await _refuse(send, Refused(error.status, "REQUEST_INVALID", str(error), closing))
        except Refused as refused:
            await _refuse(send, refused)

    async def _serve(self, exchange: Exchange) -> None:
        again = False
        while True:
            target = self._resolve(exchange.host)
            target.begin()
            try:
                await exchange.run(self._pool(target), fresh=again)
                return
            except Unanswered as broken:
                if again or not exchange.repeatable(sent=broken.sent):
                    _warn("the instance did not answer", target, broken)
                    raise Refused(
                        502,
                        "INSTANCE_FAILED",
                        "The application broke off before it answered. Try again; if that does"
                        " not help, look at its log.",
                    ) from None
                again = True  # the host may lead to another instance by now
            except TooSlow as slow:
                _warn("the instance is too slow", target, slow)
                raise Refused(
                    504,
                    "INSTANCE_TIMEOUT",
                    "The application did not begin to answer in time. Try again; if that does"
                    " not help, look at its log.",
                ) from None
            finally:
                target.end()

    def _resolve(self, host: str) -> Target:
        try:
            target = self._routes.resolve(host)
        except HostUnknown:
            raise Refused(404, "HOST_UNKNOWN", "No application lives at this host.") from None
        if target is None:
            raise Refused(
                503,
                "NOT_RUNNING",
                "The application is not running at the moment. Try again shortly.",
                [(b"retry-after", b"%d" % RETRY_AFTER)],
            )
        return target

    def _pool(self, target: Target) -> Pool:
        pool = self._pools.get(target)
        if pool is None:
            pool = self._pools[target] = Pool(target.address, self._connect)
            target.when_over(lambda: self._drop(target))
        return pool

    def _drop(self, target: Target) -> None:
        pool = self._pools.pop(target, None)
        if pool is not None:
            task = asyncio.get_running_loop().create_task(pool.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _warn(event: str, target: Target, error: Exception) -> None:
    log.warning(event, app=target.app, revision=target.revision, reason=str(error)[:500])


async def _refuse(send: Send, refused: Refused) -> None:
    body = json.dumps({"errors": [{"code": refused.code, "message": str(refused)}]}).encode()
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        date(),
        *refused.fields,
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
