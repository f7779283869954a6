"""Keeps the processes of a server alive, and replaces them one by one when it is told to.

It serves nothing itself: it has the listening sockets, which its processes inherit, so that no
connection is lost between two of them. A process whose event loop stands still is killed.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from registry import logs
from registry.config import ConfigInvalid
from registry.forking import HEARD, fork
from registry.notify import Notify
from registry.pulse import READY, Pulse
from registry.server import RETIRE, Role, Sockets, run
from registry.settings import Config

_BACKOFF: Final = 1.0  # seconds before a process that died is replaced; a crash loop costs little
_TURN: Final = 1.0  # seconds at most from one look at the processes to the next
_PAUSED: Final = 5.0  # seconds later than that: it was we who stood still
_START: Final = 300.0  # seconds until a process has to answer; each application is started first
_TRACE: Final = 2.0  # seconds for a process to write down where it stands, before it is killed
_MARGIN: Final = 15.0  # seconds to end in, after what was answered had its time

log = structlog.get_logger()

Work: TypeAlias = Callable[[Config, Sockets, Role, Pulse, bool], None]
"""What a process does. The last tells whether another one does the same until this one is ready."""


class CannotServe(Exception):
    """The first processes ended before they answered anything; their log tells why."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a process is given."""

    config: Config
    sockets: Sockets


@dataclass(slots=True, eq=False)
class Child:
    pid: int
    role: Role
    plan: Plan
    pulse: int
    """The pipe from it."""
    began: float
    beat: float
    """When we last heard from it."""
    ready: bool = False
    told: float | None = None
    """When it was told to go."""
    aborted: float | None = None


class Supervisor:
    """One to a process, in which no thread or event loop may exist: it forks."""

    def __init__(
        self,
        config: Config,
        sockets: Sockets,
        reload: Callable[[], Config],
        *,
        work: Work = run,
        notify: Notify,
    ) -> None:
        """`reload` reads the settings again; it may raise ConfigInvalid."""
        self._plan = Plan(config, sockets)
        self._reload = reload
        self._work = work
        self._notify = notify
        self._children: dict[int, Child] = {}
        self._due: list[tuple[float, Role, Plan]] = []
        self._told: set[int] = set()  # signals
        self._stopping = False
        self._served = False
        """Whether any process ever answered."""
        self._answered = False
        """Whether all of the first ones did."""
        self._failed = False
        self._terminal = os.isatty(0)
        self._coming: Child | None = None
        self._todo: deque[Role] = deque()
        self._rolling: Plan | None = None
        self._clock = time.monotonic
        self._selector = selectors.DefaultSelector()
        self._wakes: tuple[int, int] = (-1, -1)

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and until then the processes have ended. Raises CannotServe."""
        self._listen()
        for role in roles(self._plan.config):
            self._start(role, self._plan, successor=False)
        planned = self._clock()
        while self._children or self._due:
            woken = {key.fd for key, _ in self._selector.select(_TURN)}
            now = self._clock()
            if now - planned > _TURN + _PAUSED:
                for child in self._children.values():
                    child.beat = now  # who was paused with us had no time to beat either
            planned = now
            self._hear(woken, now)
            self._reap(now)
            self._obey(now)
            self._judge(now)
            self._go_on(now)
            self._notify.alive(now)
        if self._failed:
            raise CannotServe("the processes of the server ended before they answered; see the log")

    def _listen(self) -> None:
        self._wakes = os.pipe()
        for end in self._wakes:
            os.set_blocking(end, False)
        self._selector.register(self._wakes[0], selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wakes[1], warn_on_full_buffer=False)
        for number in HEARD:
            signal.signal(number, lambda given, _: self._told.add(given))

    # What is heard

    def _hear(self, woken: set[int], now: float) -> None:
        if self._wakes[0] in woken:
            with suppress(BlockingIOError):
                while os.read(self._wakes[0], 4096):
                    pass
        for child in self._children.values():
            if child.pulse not in woken:
                continue
            if not self._listen_to(child, now):
                self._selector.unregister(child.pulse)

    def _listen_to(self, child: Child, now: float) -> bool:
        """Whether it may say more."""
        with suppress(BlockingIOError):
            heard = os.read(child.pulse, 65536)
            if not heard:
                return False
            child.beat = now
            if READY in heard:
                child.ready = self._served = True
        return True

    def _reap(self, now: float) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                self._bury(child, status, now)

    def _bury(self, child: Child, status: int, now: float) -> None:
        self._listen_to(child, now)  # its last words
        with suppress(KeyError):
            self._selector.unregister(child.pulse)
        os.close(child.pulse)
        told = {"pid": child.pid, "role": child.role.name, "status": status}
        if self._stopping or child.told is not None:
            log.info("a process ended", **told)
        elif child is self._coming:
            self._coming = None
            self._give_up(**told)
        elif not self._served:
            log.error("a process died before it answered anything", **told)
            self._failed = True
            self._stop(now)
        else:
            log.error("a process died; starting another", **told)
            self._due.append((now + _BACKOFF, child.role, child.plan))

    # What is to be done

    def _obey(self, now: float) -> None:
        told, self._told = self._told, set()
        if told & {signal.SIGTERM, signal.SIGINT}:
            self._stop(now)
        elif signal.SIGHUP in told and not self._stopping:
            if self._terminal and _hung_up():
                self._stop(now)
            elif self._rolling is not None:
                self._told.add(signal.SIGHUP)  # when this one is over
            else:
                self._restart()

    def _stop(self, now: float) -> None:
        if not self._stopping:
            self._notify.stopping()
        self._stopping = True
        self._due.clear()
        self._todo.clear()
        for child in self._children.values():
            self._tell(child, signal.SIGTERM, now)

    def _restart(self) -> None:
        old = self._plan
        try:
            config = self._reload()
            if config.data != old.config.data:
                raise ConfigInvalid("data", "another directory needs a stop and a start")
            sockets = old.sockets.again(old.config, config)
        except (ConfigInvalid, OSError) as error:
            log.error("the settings are not taken, and nothing restarts", reason=str(error))
            return
        self._notify.reloading()
        logs.configure(config.log)
        log.info("restarting")
        self._rolling = Plan(config, sockets)
        self._todo.extend(roles(config))

    def _go_on(self, now: float) -> None:
        """With what starts: those that replace others, those that died, and the first."""
        if self._stopping:
            return
        if not self._answered and all(child.ready for child in self._children.values()):
            self._answered = True
            self._notify.ready()
        for when, role, plan in [due for due in self._due if due[0] <= now]:
            self._due.remove((when, role, plan))
            self._start(role, plan, successor=False)
        if self._rolling is None:
            return
        if self._coming is not None and self._coming.ready:
            coming, self._coming = self._coming, None
            for child in self._old(coming.role)[:1]:
                self._tell(child, RETIRE, now)
        if self._coming is None and self._todo:
            self._coming = self._start(self._todo.popleft(), self._rolling, successor=True)
        elif self._coming is None:
            for child in self._old():
                self._tell(child, RETIRE, now)
            # Who died of the old ones has been replaced by now.
            self._due = [due for due in self._due if due[2] is self._rolling]
            self._plan.sockets.close_but(self._rolling.sockets)
            self._plan, self._rolling = self._rolling, None
            log.info("restarted")
            self._notify.ready()

    def _old(self, role: Role | None = None) -> list[Child]:
        """Whom those that start now replace; an older one may still be starting itself."""
        return [
            child
            for child in self._children.values()
            if child.plan is not self._rolling
            and child.told is None
            and (role is None or child.role == role)
        ]

    def _give_up(self, **told: object) -> None:
        log.error("a process died before it was ready; the restart is given up", **told)
        self._todo.clear()
        self._rolling = None
        self._notify.ready()

    def _judge(self, now: float) -> None:
        """Kill what stands still, or takes too long to start or to end."""
        for child in self._children.values():
            registry = child.plan.config.registry
            if child.aborted is not None:
                if now - child.aborted > _TRACE:
                    self._kill(child, signal.SIGKILL)
            elif now - child.beat > registry.stuck:
                log.error(
                    "a process stands still and is killed; it says where it stood, if it can",
                    pid=child.pid,
                    role=child.role.name,
                    seconds=round(now - child.beat, 1),
                )
                child.aborted = now
                self._kill(child, signal.SIGABRT)  # faulthandler writes the stacks down
            elif child.told is None and not child.ready and now - child.began > _START:
                log.error("a process is not ready and is killed", pid=child.pid)
                self._kill(child, signal.SIGKILL)
            elif (
                child.told is not None
                and now - child.told > registry.notice + registry.drain + _MARGIN
            ):
                log.error("a process does not end and is killed", pid=child.pid)
                self._kill(child, signal.SIGKILL)

    def _tell(self, child: Child, number: signal.Signals, now: float) -> None:
        child.told = now if child.told is None else child.told
        # One that is still starting does not know the other signals yet.
        self._kill(child, number if child.ready else signal.SIGTERM)

    def _kill(self, child: Child, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, number)

    # A process

    def _start(self, role: Role, plan: Plan, *, successor: bool) -> Child:
        def work(pulse: Pulse) -> None:
            self._selector.close()
            for file in (*self._wakes, *(child.pulse for child in self._children.values())):
                os.close(file)
            self._work(plan.config, plan.sockets, role, pulse, successor)

        pid, pulse = fork(work)
        self._selector.register(pulse, selectors.EVENT_READ)
        now = self._clock()
        child = self._children[pid] = Child(pid, role, plan, pulse, now, now)
        return child


def _hung_up() -> bool:
    """Whether the terminal is gone that we were started from: then SIGHUP means what it says."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return True
    return False


def roles(config: Config) -> list[Role]:
    """One process does all; or several the registry, and one runs the applications.

    So no application can slow a push.
    """
    if config.registry.workers == 1:
        return [Role.REGISTRY | Role.APPLICATIONS]
    return [*[Role.REGISTRY] * config.registry.workers, Role.APPLICATIONS]


def supervise(
    config: Config, sockets: Sockets, reload: Callable[[], Config], *, work: Work = run
) -> None:
    """Serve until SIGTERM or SIGINT. Raises CannotServe.

    On SIGHUP the settings are read again, and each process is replaced by a new one: it answers
    before the old one stops to accept. Must be called before any thread or event loop exists in
    this process.
    """
    Supervisor(config, sockets, reload, work=work, notify=Notify(os.environ)).run()
