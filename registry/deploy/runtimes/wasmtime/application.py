"""An application inside a worker: which component gets a request, and what comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from registry.deploy.runtimes import CLIENT_ADDRESS, CLIENT_SCHEME
from registry.deploy.runtimes.wasmtime import routing
from registry.deploy.runtimes.wasmtime.call import Abandoned, Call, OutOfTime, Stopped
from registry.deploy.runtimes.wasmtime.engine import Ticker
from registry.deploy.runtimes.wasmtime.exchange import Exchange
from registry.deploy.runtimes.wasmtime.host.fields import FORBIDDEN
from registry.deploy.runtimes.wasmtime.host.http import IncomingRequest, Outparam
from registry.deploy.runtimes.wasmtime.logs import Lines, Log
from registry.deploy.runtimes.wasmtime.plan import Component, Plan
from registry.deploy.runtimes.wasmtime.program import Program, Trap
from registry.deploy.runtimes.wasmtime.turn import Turn

MOST_HEAD = 64 << 10  # bytes of a request's head


class Application:
    """Shared by the threads of a worker."""

    def __init__(
        self,
        plan: Plan,
        programs: Mapping[str, Program],
        *,
        ticker: Ticker,
        log: Log,
        own_socket: str,
    ) -> None:
        self._plan, self._programs, self._log = plan, programs, log
        self._ticker, self._turn = ticker, Turn()
        self._own_socket = own_socket
        self._components = {component.id: component for component in plan.components}
        self._outbound = {component.id: component.outbound() for component in plan.components}
        self._routes = routing.Routes.of(plan.triggers)
        self._info = json.dumps(
            {
                "name": plan.name,
                **({} if plan.version is None else {"version": plan.version}),
                **({} if plan.digest is None else {"oci_image_digest": plan.digest}),
            },
            indent=2,
        ).encode()

    def answer(self, exchange: Exchange, deadline: float) -> None:
        """Leave the answer in `exchange`, or abort it. `deadline` is a monotonic time."""
        request = exchange.request
        headers = [(name.decode("ascii"), value) for name, value in request.headers]
        given = {name: value.decode("latin-1") for name, value in headers}
        target = request.target.decode("latin-1")
        authority = given.get("host", "")
        if sum(len(name) + len(value) + 4 for name, value in headers) > MOST_HEAD:
            exchange.answer(431)
            return
        if not target.startswith("/"):
            try:
                parts = urlsplit(target)
            except ValueError:
                exchange.answer(400)
                return
            if parts.scheme not in ("http", "https"):
                exchange.answer(404)
                return
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            authority = parts.netloc or authority
        path = target.partition("?")[0]

        rest = routing.reserved(path)
        if rest is not None:
            self._reserved(exchange, rest)
            return
        match = self._routes.find(path)
        if match is None:
            exchange.answer(404)
            return
        if isinstance(match.route.target, routing.StaticResponse):
            static = match.route.target
            exchange.answer(
                static.status, [(name, v.encode()) for name, v in static.headers], static.body
            )
            return

        component = self._components[match.route.target]
        scheme = "https" if given.get(CLIENT_SCHEME) == "https" else "http"
        fields = [
            (name, value)
            for name, value in headers
            if name not in FORBIDDEN and name != "expect" and not routing.private(name)
        ]
        fields += routing.request_headers(
            match,
            scheme=scheme,
            authority=authority,
            target=target,
            client=given.get(CLIENT_ADDRESS, ""),
        )
        incoming = IncomingRequest(
            request.method.decode("ascii"), target, scheme, authority, fields, exchange.body
        )
        self._run(exchange, component, incoming, deadline)

    def _reserved(self, exchange: Exchange, rest: str) -> None:
        if rest == "health":
            exchange.answer(200, body=b"OK")
        elif rest == "info":
            exchange.answer(200, [("content-type", b"application/json")], self._info)
        else:
            exchange.answer(404)

    def _run(
        self, exchange: Exchange, component: Component, request: IncomingRequest, deadline: float
    ) -> None:
        if not self._turn.acquire(max(0.0, deadline - time.monotonic())):
            exchange.answer(504)
            return
        lines = Lines(self._log)
        outparam = Outparam()
        call = Call(
            component,
            turn=self._turn,
            client=exchange,
            output=lines,
            deadline=deadline,
            cpu=self._plan.limits.cpu,
            outbound=self._outbound[component.id],
            own_socket=self._own_socket,
        )
        failure, status = "", 500
        try:
            with self._ticker:
                self._programs[component.id].handle(call, request, outparam)
            if not outparam.used:
                failure = "it ended without a response"
        except Abandoned:
            exchange.abort()
        except OutOfTime as stop:
            failure, status = str(stop), 504
        except (Trap, Stopped) as stop:
            failure = str(stop)
        finally:
            call.close()  # a body that was not finished is aborted here
            self._turn.release()
            lines.close()
        if not failure and exchange.aborted and not exchange.gone():
            failure = "it did not finish the response that it began"
        if failure:
            text = f"{request.method} {request.path}: {failure}"
            self._log.line(component.id, "host", text.encode("utf-8", "replace"))
            exchange.abort()
            if not exchange.started:
                exchange.answer(status)
