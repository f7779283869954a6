"""The composition root: which room gets which part. Only this and the commands know them all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.access import AccessLog
from registry.admission import Admission
from registry.audit import Audit
from registry.audit_log import open_audit
from registry.auditing import Audited
from registry.auth.gate import Gate
from registry.auth.robots import Robots
from registry.auth.service import TokenService
from registry.collecting import forecast
from registry.deploy import api
from registry.deploy.apps import App
from registry.deploy.gateway import Gateway
from registry.deploy.journal import Journal
from registry.deploy.reconciler import Deployer
from registry.deploy.routes import Routes
from registry.deploy.runtimes import Limits
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from registry.proxies import Proxied
from registry.rates import Rates
from registry.settings import Config
from registry.tls import of_gateway
from registry.v2 import V2
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.reserve import FilesystemReserve
from storage.records.sqlite import SQLite
from storage.reserve import afford
from storage.retention import immutable
from storage.store import Store


@dataclass(frozen=True, slots=True)
class Records:
    """What is kept: shared by everything that one process does."""

    layout: Layout
    store: Store
    journal: Journal
    robots: Robots
    audit: Audit


@asynccontextmanager
async def open_records(config: Config) -> AsyncIterator[Records]:
    """Open the data directory, making what is missing. Raises StorageError or OSError."""
    layout = Layout.open(config.data)
    reserve = FilesystemReserve(layout, config.limits.reserve)
    database = await afford(reserve, lambda: SQLite.open(layout))
    store = await Store.open(
        database,
        FilesystemBlobs(layout, reserve),
        grace=config.collect.grace,
        uploads=config.limits.uploads,
        upload_bytes=config.limits.upload_bytes,
        immutable=partial(immutable, config.immutable),
        reserve=reserve,
    )
    try:
        journal = Journal(store.database)
        await journal.open()
        robots = Robots(store.database)
        await robots.open()
        with suppress(OSError):  # without it pushes are refused, and all else works
            await reserve.fill()
        async with open_audit(config, reserve) as audit:
            yield Records(layout, store, journal, robots, audit)
    finally:
        await store.close()


def nobody_to_wake() -> None:
    """The deployer lives in another process; it looks by itself five times a second."""


def create_app(
    config: Config,
    records: Records,
    *,
    gateway_port: int,
    wake: Callable[[], None],
    gate: Gate | None = None,
    tokens: TokenService | None = None,
    going: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """What answers on the registry's listener: /v2 to the registry, the rest to the /v1 API.

    All ask the same `gate`; without one everybody may do everything. And /auth to the token
    service, if there is one. `going`: the server was told to stop.
    """
    url = config.registry.url
    scheme = "https" if of_gateway(config.tls) else "http"
    v2 = V2(
        records.store,
        moved=wake,
        manifest_limit=config.limits.manifest,
        page_limit=config.limits.page,
        blob_limit=config.limits.blob or None,
        forecast=forecast(records.store, config),
        gate=gate,
        url=url,
        audit=records.audit,
        admission=Admission(config.admission),
        rates=Rates(config.rates, clock=time.monotonic),
    )
    v1 = Starlette(
        routes=[
            *(tokens.routes() if tokens else ()),
            *api.routes(
                records.journal,
                url_for=lambda app: url_of(app, gateway_port, scheme),
                log_of=lambda app: records.layout.app(app.id) / "log",
                domain=config.gateway.domain,
                wake=wake,
                gate=gate,
                url=url,
                going=going,
            ),
        ],
        exception_handlers=api.EXCEPTION_HANDLERS,
    )
    v1.router.redirect_slashes = False  # it would redirect to whatever host the client named
    audited = Audited(v1, records.audit)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        await (v2 if path == "/v2" or path.startswith("/v2/") else audited)(scope, receive, send)

    return behind_proxies(AccessLog(answer, "registry"), config, "UNSUPPORTED", rename=True)


def behind_proxies(app: ASGIApp, config: Config, code: str, *, rename: bool) -> ASGIApp:
    trusted = config.registry.trusted_proxies
    if not trusted:
        return app
    return Proxied(app, trusted, config.registry.proxy_headers, code=code, rename=rename)


def port_of(scheme: str, port: int) -> str:
    """What follows the host in a URL."""
    return "" if port == {"http": 80, "https": 443}[scheme] else f":{port}"


def url_of(app: App, gateway_port: int, scheme: str = "http") -> str:
    return f"{scheme}://{app.host}{port_of(scheme, gateway_port)}/"


@dataclass(frozen=True, slots=True)
class Applications:
    gateway: ASGIApp
    deployer: Deployer


@asynccontextmanager
async def applications(config: Config, records: Records) -> AsyncIterator[Applications]:
    """What runs the applications: the deployer, its runtime, and the gateway in front."""
    routes = Routes()
    runtime = EmbeddedRuntime(
        records.layout.compiled, private_networks=config.runtime.private_networks
    )
    gateway = Gateway(routes, first_byte_timeout=config.gateway.first_byte_timeout)
    deployer = Deployer(
        records.store,
        records.journal,
        runtime,
        routes,
        directory=records.layout.apps,
        domain=config.gateway.domain,
        limits=Limits(
            memory=config.runtime.memory,
            cpu=config.runtime.cpu,
            wall=config.runtime.wall,
            concurrency=config.runtime.concurrency,
        ),
        workers=config.runtime.workers,
        health_timeout=config.deploy.health_timeout,
        drain_timeout=config.deploy.drain_timeout,
        audit=records.audit,
    )
    await gateway.open()
    try:
        logged = AccessLog(gateway, "gateway")
        answering = behind_proxies(logged, config, "REQUEST_INVALID", rename=False)
        yield Applications(answering, deployer)
    finally:
        await gateway.close()
        await runtime.close()
