"""A running revision: one listening socket, and the worker processes that accept from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import registry
from registry.deploy.runtimes import Address, StartFailed
from registry.deploy.runtimes.wasmtime.confine import environment
from registry.deploy.runtimes.wasmtime.logs import Log
from registry.deploy.runtimes.wasmtime.plan import Plan
from registry.deploy.runtimes.wasmtime.stamps import Stamps

START_TIME = 60.0  # seconds for a worker to load and try its components
WALL_GRACE = 1.0  # seconds past the wall limit in which a worker can still answer by itself
LOOK = 0.25  # seconds between looks at the stamps
MEMORY_OF_ITS_OWN = 256 << 20  # bytes of a worker besides its guests' memories
BACKLOG = 512
DEATHS, DEATHS_WITHIN = 5, 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

ROOT = str(Path(registry.__file__).parent.parent)


class Worker:
    """One process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, place: int) -> None:
        self.process, self.place = process, place
        self.errors: deque[str] = deque(maxlen=20)
        self.killed_for = ""
        self._reading = asyncio.create_task(self._read_errors())

    async def _read_errors(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        while data := await stream.read(4096):
            self.errors.extend(data.decode("utf-8", "replace").splitlines())

    @classmethod
    async def spawn(cls, plan: Plan, place: int, listener: int, stamps: int) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-s", "-P", "-m", f"{__package__}.worker"),
            *(str(listener), str(stamps), str(place), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(listener, stamps),
            env=environment(ROOT),
            cwd="/",
            start_new_session=True,  # a ^C in the server's terminal is the server's to handle
        )
        worker = cls(process, place)
        assert process.stdin is not None
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(json.dumps(plan.to_json()).encode() + b"\n")
                await process.stdin.drain()
        except BaseException:
            await worker.kill()
            worker.close()
            raise
        return worker

    async def ready(self) -> None:
        """Raises StartFailed, with the process gone."""
        stream = self.process.stdout
        assert stream is not None
        try:
            async with asyncio.timeout(START_TIME):
                line = await stream.readline()
        except TimeoutError:
            await self.kill()
            raise StartFailed(f"it was not ready within {START_TIME:.0f} seconds") from None
        except asyncio.CancelledError:
            await self.kill()
            raise
        message = json.loads(line) if line.endswith(b"\n") else {}
        if message.get("ready"):
            return
        await self.gone()
        if "failed" in message:
            raise StartFailed(_with_lines(message["failed"], message["lines"]))
        raise StartFailed(_with_lines(f"a worker {self.ending}", self.errors))

    @property
    def ending(self) -> str:
        code = self.process.returncode
        if self.killed_for:
            return self.killed_for
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def finish(self) -> None:
        """Ask it to end when its requests have ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(b"finish\n")

    async def gone(self) -> None:
        await self.process.wait()
        await self._reading

    async def kill(self, why: str = "") -> None:
        self.killed_for = self.killed_for or why
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.gone()

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


def _with_lines(reason: str, lines: list[str] | deque[str]) -> str:
    return "\n".join([reason, *(f"  {line}" for line in lines)]) if lines else reason


class EmbeddedInstance:
    """Owns the socket: while a worker is replaced, connections wait in its queue."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Mode 0700, and short enough for the address of a socket.
        self._directory = tempfile.mkdtemp(prefix=f"spindle-{os.getpid()}-")
        path = os.path.join(self._directory, "http")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(BACKLOG)
        self._address = Address(unix=Path(path))
        table = {"workers": plan.workers, "slots": plan.limits.concurrency}
        self._stamps_fd = Stamps.create(**table)
        self._stamps = Stamps(self._stamps_fd, **table)
        # A component of several memories has the limit of one for each of them.
        self._most_memory = plan.limits.memory * plan.limits.concurrency + MEMORY_OF_ITS_OWN
        self._keepers: list[asyncio.Task[None]] = []
        self._workers: list[Worker] = []
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stopping = False
        self._stop_at = 0.0
        self._hurry = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._log = Log(plan.log, plan.revision)

    @property
    def address(self) -> Address:
        return self._address

    @property
    def stopped(self) -> bool:
        return self._stopping

    @property
    def pids(self) -> list[int]:
        """The worker processes that are up now."""
        return [worker.process.pid for worker in self._workers]

    async def start(self) -> None:
        """Raises StartFailed, with nothing left behind."""
        first: list[Worker] = []
        try:
            async with asyncio.TaskGroup() as group:
                for place in range(self._plan.workers):
                    group.create_task(self._one(place, first))
        except BaseException as error:  # not except*, which would wrap a cancellation in a group
            await self._abolish(first)
            group_of = (
                error.subgroup(StartFailed) if isinstance(error, BaseExceptionGroup) else None
            )
            if group_of is not None:
                raise StartFailed(_first(group_of).reason) from None
            raise
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in first]

    async def _spawn(self, place: int) -> Worker:
        self._stamps.clear(place)
        try:
            return await Worker.spawn(self._plan, place, self._listener.fileno(), self._stamps_fd)
        except OSError as error:  # no process, memory or file to be had; another time there may be
            raise StartFailed(f"a worker could not be started: {error.strerror}") from None

    async def _one(self, place: int, started: list[Worker]) -> None:
        worker = await self._spawn(place)
        started.append(worker)
        await worker.ready()
        self._workers.append(worker)

    async def _abolish(self, workers: list[Worker]) -> None:
        for worker in workers:
            await worker.kill()
            worker.close()
        self._remove()

    async def _keep(self, worker: Worker) -> None:
        """Replace a worker whenever it dies, until that makes no sense any more."""
        pause, place = FIRST_PAUSE, worker.place
        while True:
            since = time.monotonic()
            await self._watch(worker)
            self._workers.remove(worker)
            worker.close()
            if self._stopping:
                return
            if self._note_death(_with_lines(f"a worker {worker.ending}", worker.errors)):
                return
            if time.monotonic() - since > DEATHS_WITHIN:
                pause = FIRST_PAUSE
            while True:
                await asyncio.sleep(pause)
                if self._stopping:
                    return
                pause = min(LONGEST_PAUSE, pause * 2)
                try:
                    worker = await self._spawn(place)
                except StartFailed as failed:
                    if self._note_death(failed.reason):
                        return
                    continue
                try:
                    await worker.ready()
                    break
                except StartFailed as failed:
                    worker.close()
                    if self._note_death(failed.reason):
                        return
                except BaseException:
                    await worker.kill()
                    worker.close()
                    raise
            self._workers.append(worker)

    def _note_death(self, reason: str) -> bool:
        """Whether the instance is given up."""
        for line in reason.splitlines():
            self._log.line("", "host", line.encode())
        now = time.monotonic()
        self._deaths.append(now)
        if len(self._deaths) == DEATHS and now - self._deaths[0] < DEATHS_WITHIN:
            if not self._died.done():
                self._died.set_result(reason)
            return True
        return False

    async def _watch(self, worker: Worker) -> None:
        """Return when the worker has ended, by itself or because a request ran over its time."""
        end = asyncio.create_task(worker.gone())
        try:
            while True:
                done, _ = await asyncio.wait({end}, timeout=LOOK)
                if done:
                    return
                if self._stamps.oldest(worker.place) > self._plan.limits.wall + WALL_GRACE:
                    await worker.kill("was killed: a request ran past its time limit")
                if _resident(worker.process.pid) > self._most_memory:
                    await worker.kill("was killed: its requests took too much memory together")
        finally:
            end.cancel()

    async def wait(self) -> str:
        return await asyncio.shield(self._died)

    async def stop(self, grace: float) -> None:
        end = time.monotonic() + grace
        if self._ending is None:
            self._stopping = True
            self._stop_at = end
            self._ending = asyncio.create_task(self._end())
        elif end < self._stop_at:
            self._stop_at = end
            self._hurry.set()
        # Once begun it goes on, whatever becomes of the one who asked.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        for worker in self._workers:
            worker.finish()
        left = set(self._keepers)
        while left and (seconds := self._stop_at - time.monotonic()) > 0:
            hurry = asyncio.create_task(self._hurry.wait())
            done, _ = await asyncio.wait(
                {*left, hurry}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            self._hurry.clear()
            hurry.cancel()
            left -= done
        for worker in list(self._workers):
            await worker.kill("was stopped")
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._remove()
        if not self._died.done():
            self._died.set_result("it was stopped")

    def _remove(self) -> None:
        self._listener.close()
        self._stamps.close()
        self._log.close()
        os.close(self._stamps_fd)
        shutil.rmtree(self._directory, ignore_errors=True)


def sweep() -> None:
    """Remove what servers of this user left behind that were killed."""
    for path in Path(tempfile.gettempdir()).glob("spindle-*-*"):
        owner = path.name.split("-")[1]
        with contextlib.suppress(OSError):
            ours = path.lstat().st_uid == os.geteuid() and path.is_dir()
            if not ours or not owner.isdecimal() or Path(f"/proc/{owner}").exists():
                continue
            # Another container may share the directory, but not the numbers of processes.
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path / "http")) != 0:
                    shutil.rmtree(path)


def _resident(pid: int) -> int:
    """Bytes of memory that a process uses, 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _first(group: BaseExceptionGroup[StartFailed]) -> StartFailed:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, StartFailed)
    return inner
