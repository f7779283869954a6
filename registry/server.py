"""Listening sockets, and the processes that answer on them.

What one process does; `registry.supervisor` starts it, and tells it to go.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from typing import Any

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from registry import app, tls
from registry.answers import Manner
from registry.audit import SERVER, Audit, Event, Outcome
from registry.audit_log import keep_noting, note
from registry.auth import policyfile
from registry.auth.first import first_administrator
from registry.collecting import keep_collecting
from registry.connections import connected
from registry.crowd import Crowd
from registry.entrance import entrance, users_file
from registry.exchange import ALWAYS
from registry.handshakes import shaking
from registry.pulse import Pulse
from registry.reserve import NO_ROOM, keep_reserve
from registry.settings import Config, ConnectionSettings, Listen, Networks
from registry.tls import Certificates
from registry.verifying import keep_verifying

RETIRE = signal.SIGUSR1
"""Stop to accept, for others do, and let nobody notice."""
GRACE = 30  # seconds for answers in progress once the server was told to stop
_HURRY = 5 / 6  # of that have passed when what is left is broken off
_QUIET = 1 / 3  # of it, without a request, until a connection ends of a process that retires
_LATE = 1.0  # seconds for the request of a client that was accepted just before the stop

_SPARE = 256  # descriptors for everything but connections and what they lead to
_EACH = 2  # descriptors of a connection: its own, and a blob's or an instance's

# Linux hands them on to what is accepted, so that a connection costs no call. A client that is
# gone without a word is noticed after two minutes, or after one if something was sent to it.
_INHERITED = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds
    # Bytes that the kernel keeps beyond what is under way: else 2.5 MiB for each client that takes
    # nothing, since it would have grown the buffer for a fast one.
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 128 << 10),
)


REGISTRY = Manner("UNSUPPORTED", ALWAYS, literal=False, patient=False)
GATEWAY = Manner("REQUEST_INVALID", (), literal=True, patient=True)


class Role(enum.Flag):
    """What a process does."""

    REGISTRY = enum.auto()
    APPLICATIONS = enum.auto()


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound before anything else, so that a port in use is said at once and children inherit."""

    registry: socket.socket
    gateway: socket.socket

    @staticmethod
    def bind(config: Config) -> Sockets:
        """Raises OSError."""
        return Sockets(bind(config.registry.listen), bind(config.gateway.listen))

    def again(self, old: Config, new: Config) -> Sockets:
        """These, but for what the new settings say otherwise. Raises OSError."""
        registry, gateway = self.registry, self.gateway
        if new.registry.listen != old.registry.listen:
            registry = bind(new.registry.listen)
        if new.gateway.listen != old.gateway.listen:
            try:
                gateway = bind(new.gateway.listen)
            except OSError:
                if registry is not self.registry:
                    registry.close()
                raise
        return Sockets(registry, gateway)

    def close_but(self, kept: Sockets) -> None:
        """In this process: what others listen on is theirs."""
        for mine, theirs in ((self.registry, kept.registry), (self.gateway, kept.gateway)):
            if mine is not theirs:
                mine.close()


def address(listening: socket.socket) -> Listen:
    host, port = listening.getsockname()[:2]
    return Listen(host, port)


def bind(listen: Listen) -> socket.socket:
    """Raises OSError."""
    family, kind, protocol, _, where = socket.getaddrinfo(
        listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for level, option, value in _INHERITED:
        listening.setsockopt(level, option, value)
    try:
        listening.bind(where)
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {listen}: {error.strerror}") from None
    return listening


@dataclass(frozen=True, slots=True)
class Pair:
    """The certificates of the two listeners; None for one that speaks HTTP."""

    registry: Certificates | None
    gateway: Certificates | None

    @staticmethod
    def of(config: Config) -> Pair:
        """Raises CertificateInvalid."""
        registry, gateway = tls.of_registry(config.tls), tls.of_gateway(config.tls)
        return Pair(
            Certificates(registry, "registry") if registry else None,
            Certificates(gateway, "gateway") if gateway else None,
        )


class Listener(uvicorn.Server):
    """uvicorn without signal handlers: a process has two of these and decides when to stop."""

    def __init__(
        self,
        answering: ASGIApp,
        crowd: Crowd,
        manner: Manner,
        *,
        date_header: bool = True,
        grace: int = GRACE,
        certificates: Certificates | None = None,
    ) -> None:
        """`certificates`: then TLS is spoken, and nothing else."""
        config = uvicorn.Config(
            answering,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=date_header,
            proxy_headers=False,
            timeout_graceful_shutdown=grace,
        )
        config.load()
        protocol: Any = connected(crowd, manner)
        if certificates is not None:
            protocol = shaking(protocol, crowd, manner, certificates)
        config.http_protocol_class = protocol
        super().__init__(config)
        self.crowd = crowd
        self.grace = grace
        self.certificates = certificates
        self.up = asyncio.Event()
        self.kindly = False
        """Others accept in our place, and no client is to notice that this one stops."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.crowd.open()
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Idle connections end at once, and the others with their answers.

        Kindly, an idle one goes on to be read for a while: a client may have sent a request that
        we have not seen, and could only take our end for its failure. It is told in its answer that
        it was the last one.

        What takes too long is broken off rather than cancelled: an upload then keeps what it has,
        as whenever a client leaves.
        """
        loop = asyncio.get_running_loop()
        hurry = loop.call_later(self.grace * _HURRY, self.crowd.abort)
        try:
            await super().shutdown(sockets)
        finally:
            hurry.cancel()
            self.crowd.close()

    def leave(self, *, kindly: bool) -> None:
        """Tell `serve` to end; `kindly` as below."""
        self.kindly = kindly
        self.crowd.part(self.grace * _QUIET if kindly else _LATE, kindly=kindly)
        self.should_exit = True

    def hasten(self) -> None:
        """Idle connections end at once after all."""
        if self.kindly:
            self.kindly = False
            self.crowd.part(_LATE, kindly=False)
            for connection in list(self.server_state.connections):
                connection.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def room(wanted: int) -> int:
    """How many connections each of the two listeners can have.

    Takes as many descriptors as that needs, if we are let.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * _EACH * wanted + _SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(min(wanted, (soft - _SPARE) // (2 * _EACH)), 1)


def without_proxies(config: Config) -> ConnectionSettings:
    """The limits: none for a trusted proxy, which has the connections of all its clients."""
    exempt = Networks((*config.connections.exempt, *config.registry.trusted_proxies))
    return replace(config.connections, exempt=exempt)


def run(
    config: Config, sockets: Sockets, roles: Role, pulse: Pulse, successor: bool = False
) -> None:
    """Serve until SIGTERM or RETIRE, then finish what is being answered.

    `successor`: another process does the same until this one is ready.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(config, sockets, roles, pulse, successor))


async def prepare(config: Config) -> str | None:
    """Check the data directory and bring its records up to date.

    Returns the password of the first administrator if one was made, to be shown once. Raises
    StorageError, OSError, UsersInvalid, PolicyInvalid, FileRefused.
    """
    async with app.open_records(config) as records:
        await records.store.reserve.trim()
        if not records.store.reserve.whole:
            structlog.get_logger().warning(NO_ROOM, reserve=str(config.limits.reserve))
        if not config.auth.enabled:
            return None
        policyfile.load(config)  # what is wrong with it is told before anything is served
        return await first_administrator(users_file(config, records.layout), records.robots)


@contextlib.asynccontextmanager
async def told(audit: Audit, roles: Role) -> AsyncIterator[None]:
    """The audit says when a process began and ended; a disk that is full keeps it from neither."""
    names = " and ".join(role.name.lower() for role in roles if role.name)
    detail = f"version {version_of('spindle')}, process {os.getpid()}: {names}"
    begun = Event("server.start", Outcome.DONE, SERVER, detail=detail)
    with contextlib.suppress(OSError):
        await audit.record(begun)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            await audit.record(replace(begun, action="server.stop"))
        await note(audit)


async def _live(
    config: Config, sockets: Sockets, roles: Role, pulse: Pulse, successor: bool
) -> None:
    beating = asyncio.create_task(pulse.keep())
    try:
        await _serve(config, sockets, roles, pulse, successor)
    finally:
        beating.cancel()


async def _serve(
    config: Config, sockets: Sockets, roles: Role, pulse: Pulse, successor: bool
) -> None:
    log = structlog.get_logger()
    stop, retire = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(RETIRE, retire.set)
    clock = loop.time
    grace = math.ceil(config.registry.drain)
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(app.open_records(config))
        await stack.enter_async_context(told(records.audit, roles))
        gateway_port = address(sockets.gateway).port
        most = room(config.connections.limit)
        connections = without_proxies(config)
        applications = None
        if Role.APPLICATIONS in roles:
            applications = await stack.enter_async_context(app.applications(config, records))
        listeners: list[tuple[Listener, socket.socket]] = []
        certificates = Pair.of(config)
        if Role.REGISTRY in roles:
            wake = applications.deployer.wake if applications else app.nobody_to_wake
            way_in = await stack.enter_async_context(
                entrance(
                    *(config, records.layout, records.store.database),
                    *(records.robots, records.audit),
                )
            )
            answering = app.create_app(
                config,
                records,
                gateway_port=gateway_port,
                wake=wake,
                gate=way_in.gate,
                tokens=way_in.tokens,
                going=stop.is_set,
            )
            crowd = Crowd(connections, "registry", limit=most, clock=clock)
            one = Listener(
                *(answering, crowd, REGISTRY), grace=grace, certificates=certificates.registry
            )
            listeners.append((one, sockets.registry))
        if applications:
            crowd = Crowd(connections, "gateway", limit=most, clock=clock)
            one = Listener(
                *(applications.gateway, crowd, GATEWAY),
                date_header=False,
                grace=grace,
                certificates=certificates.gateway,
            )
            listeners.append((one, sockets.gateway))
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(stop.wait())
            retiring = tasks.create_task(retire.wait())
            behind: list[asyncio.Task[None]] = []
            if applications and config.deploy.enabled:
                warm = asyncio.Event() if successor else None
                deploying = tasks.create_task(applications.deployer.run(warm))
                behind.append(deploying)
                if warm is not None:
                    warming = tasks.create_task(warm.wait())
                    await asyncio.wait(
                        [warming, deploying, stopping], return_when=asyncio.FIRST_COMPLETED
                    )
                    warming.cancel()
            if config.audited:
                behind.append(tasks.create_task(keep_noting(records.audit)))
            for one, _ in listeners:
                if one.certificates is not None:
                    behind.append(tasks.create_task(one.certificates.keep()))
            if applications:
                behind += [tasks.create_task(work) for work in _chores(config, records)]
            serving = [tasks.create_task(one.serve(sockets=[on])) for one, on in listeners]
            ready = tasks.create_task(_tell(pulse, [one for one, _ in listeners]))
            # What ends by itself has failed; then the process ends with it.
            vital = [stopping, retiring, *serving, *behind]
            await asyncio.wait(vital, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.sleep(config.registry.notice)
            kindly = retire.is_set() and not stop.is_set()
            ready.cancel()
            retiring.cancel()
            if kindly:
                if applications:
                    applications.deployer.hand_over()
                for task in behind:
                    task.cancel()
            for one, _ in listeners:
                one.leave(kindly=kindly)
            log.info("retiring" if kindly else "stopping")
            left = tasks.create_task(_wait(serving))
            await asyncio.wait([stopping, left], return_when=asyncio.FIRST_COMPLETED)
            for one, _ in listeners:
                one.hasten()
            await left
            for task in behind:
                task.cancel()
            stopping.cancel()
        if not (stop.is_set() or retire.is_set()):
            sys.exit(3)


def _chores(config: Config, records: app.Records) -> Iterator[Coroutine[None, None, None]]:
    """What has to be done beside, by one process."""
    yield keep_reserve(records.store)
    if config.collect.enabled:
        yield keep_collecting(
            records.store,
            config.collect,
            rules=config.retention,
            immutable=config.immutable,
            audit=records.audit,
        )
    if config.verify.enabled:
        yield keep_verifying(records.store, config.verify)


async def _wait(serving: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(serving)


async def _tell(pulse: Pulse, listeners: list[Listener]) -> None:
    for one in listeners:
        await one.up.wait()
    pulse.ready()
