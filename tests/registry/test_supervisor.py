"""The supervisor of a server's processes, in moments that seldom come.

Each is a program of its own, since the supervisor forks; its processes do what the program says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Spindle, get, wait_for

PROGRAM = """
import asyncio, fcntl, os, signal, sys, termios, threading, time
from registry import logs, supervisor
from registry.config import load
from registry.server import Sockets

if os.environ["HAS_TERMINAL"]:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
config = load(flags={{"registry.workers": "{workers}", "registry.stuck": "{stuck}"}})
logs.configure(config.log)
supervisor._BACKOFF = 0.05

def told(name):
    print(name, flush=True)

def serve(pulse, name="ready"):
    # As a process does that is well.
    async def live():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, stop.set)
        beating = asyncio.create_task(pulse.keep())
        pulse.ready()
        told(name)
        await stop.wait()
        beating.cancel()
    asyncio.run(live())

class Sockets:
    def again(self, old, new):
        return self

    def close_but(self, kept):
        assert kept is self

{work}

try:
    supervisor.supervise(config, Sockets(), lambda: config, work=work)
except supervisor.CannotServe:
    told("cannot serve")
told("over")
"""


class Program:
    """`work` has to define what each process does."""

    def __init__(
        self,
        work: str,
        log: Path,
        *,
        workers: int = 1,
        stuck: float = 60,
        terminal: int | None = None,
    ) -> None:
        """`terminal` becomes the one that it was started from."""
        self._log = log
        RUNNING.append(self)
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(work=work, workers=workers, stuck=stuck)],
                stdin=terminal,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=terminal is not None,
                env={**os.environ, "HAS_TERMINAL": "" if terminal is None else "yes"},
                text=True,
            )

    def kill(self) -> None:
        """And its processes, which do not outlive it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def hear(self, expected: str) -> None:
        assert self.line() == f"{expected}\n", self.log

    def line(self) -> str:
        """The next one; empty when none comes."""
        assert self._process.stdout is not None
        patience = threading.Timer(60, self._process.kill)
        patience.start()
        try:
            return self._process.stdout.readline()
        finally:
            patience.cancel()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self.send(signal.SIGTERM)
        self.over()

    def over(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.read().endswith("over\n"), self.log
        assert self._process.wait(60) == 0
        self._process.stdout.close()


RUNNING: list[Program] = []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Also of a test that failed."""
    yield
    while RUNNING:
        RUNNING.pop().kill()


def test_to_be_told_to_stop_when_a_process_has_just_ended_is_no_error(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    pulse.ready()
    if "REGISTRY" not in role.name:
        serve(pulse)

wait = os.waitpid

def waitpid(*arguments):
    ended = wait(*arguments)
    if ended[0]:
        os.kill(os.getpid(), signal.SIGTERM)
    return ended

supervisor.os.waitpid = waitpid
"""
    program = Program(work, tmp_path / "log", workers=2)
    program.over()
    assert "ProcessLookupError" not in program.log


def test_a_server_that_never_answers_ends(tmp_path: Path) -> None:
    """Whoever started it is told, instead of a log that fills."""
    work = """
def work(config, sockets, role, pulse, successor):
    sys.exit(3)
"""
    program = Program(work, tmp_path / "log", workers=2)
    program.hear("cannot serve")
    program.over()


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    serve(pulse, f"ready {os.getpid()}")
"""
    program = Program(work, tmp_path / "log")
    pid = int(program.line().split()[1])
    os.kill(pid, signal.SIGKILL)
    assert int(program.line().split()[1]) != pid
    program.end()


def test_a_loop_that_stands_still_is_noticed_and_tells_where(tmp_path: Path) -> None:
    work = """
def where_it_stands():
    while True:
        pass

def work(config, sockets, role, pulse, successor):
    async def stand():
        pulse.ready()
        asyncio.create_task(pulse.keep())
        await asyncio.sleep(0)
        told("stands")
        where_it_stands()
    mark = f"{os.environ['MARK']}"
    if os.path.exists(mark):
        serve(pulse)
    else:
        open(mark, "w").close()
        asyncio.run(stand())
"""
    os.environ["MARK"] = str(tmp_path / "mark")
    program = Program(work, tmp_path / "log", stuck=3)
    del os.environ["MARK"]
    program.hear("stands")
    program.hear("ready")
    assert "a process stands still" in program.log
    assert "in where_it_stands" in program.log
    program.end()


def test_a_process_that_is_paused_is_killed_though_it_cannot_tell_where(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "registry.stuck=3") as server:
        [pid] = server.processes
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: server.processes and pid not in server.processes, "another process")
        wait_for(lambda: get(f"http://{server.registry}/v2/", timeout=1)[0] == 200, "an answer")


def test_a_thread_that_waits_for_long_does_not_matter(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    threading.Thread(target=time.sleep, args=(6,), daemon=True).start()

    async def live():
        beating = asyncio.create_task(pulse.keep())
        pulse.ready()
        await asyncio.to_thread(time.sleep, 6)
        told("went on")
        beating.cancel()
        os.kill(os.getppid(), signal.SIGTERM)
        await asyncio.Event().wait()
    asyncio.run(live())
"""
    program = Program(work, tmp_path / "log", stuck=3)
    program.hear("went on")
    program.over()
    assert "stands still" not in program.log


def test_who_was_paused_together_with_the_supervisor_goes_on(tmp_path: Path) -> None:
    """A machine that was frozen for an hour has no process that is stuck."""
    work = """
def work(config, sockets, role, pulse, successor):
    serve(pulse, str(os.getpid()))
"""
    program = Program(work, tmp_path / "log", stuck=4)
    pid = int(program.line())
    os.kill(pid, signal.SIGSTOP)
    program.send(signal.SIGSTOP)
    time.sleep(8)  # real time is what the supervisor has to misjudge here
    program.send(signal.SIGCONT)
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)
    program.end()
    assert "stands still" not in program.log


def test_a_new_process_that_does_not_start_leaves_the_old_one_as_it_is(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    if successor:
        told("fails")
        sys.exit(1)
    serve(pulse)
"""
    program = Program(work, tmp_path / "log")
    program.hear("ready")
    for _ in range(2):
        program.send(signal.SIGHUP)
        program.hear("fails")
    program.end()
    assert "the restart is given up" in program.log
    assert "a process died; starting another" not in program.log


def test_the_old_process_is_told_to_go_only_when_the_new_one_is_ready(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    if successor:
        told("starts")
        time.sleep(0.5)
        told("almost")
    serve(pulse)
    told("went")
"""
    program = Program(work, tmp_path / "log")
    program.hear("ready")
    program.send(signal.SIGHUP)
    program.hear("starts")
    program.hear("almost")
    program.end()


def test_the_end_of_the_terminal_is_the_end_of_what_was_started_there(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    serve(pulse)
"""
    ours, theirs = os.openpty()
    program = Program(work, tmp_path / "log", terminal=theirs)
    os.close(theirs)
    program.hear("ready")
    program.send(signal.SIGHUP)
    program.hear("ready")
    os.close(ours)
    program.over()


def test_a_process_that_does_not_go_is_killed(tmp_path: Path) -> None:
    work = """
supervisor._MARGIN = 0.1
config = load(flags={"registry.drain": "0.1"})

def work(config, sockets, role, pulse, successor):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(pulse)

def serve(pulse):
    async def live():
        pulse.ready()
        told("ready")
        await pulse.keep()
    asyncio.run(live())
"""
    program = Program(work, tmp_path / "log")
    program.hear("ready")
    program.end()
    assert "a process does not end and is killed" in program.log


def test_a_second_restart_waits_for_the_first(tmp_path: Path) -> None:
    work = """
def work(config, sockets, role, pulse, successor):
    if successor:
        told("starts")
        time.sleep(0.3)
        os.kill(os.getppid(), signal.SIGHUP) if os.path.exists(os.environ["MARK"]) else None
        if os.path.exists(os.environ["MARK"]):
            os.unlink(os.environ["MARK"])
    serve(pulse)
"""
    mark = tmp_path / "mark"
    mark.touch()
    os.environ["MARK"] = str(mark)
    program = Program(work, tmp_path / "log")
    del os.environ["MARK"]
    program.hear("ready")
    program.send(signal.SIGHUP)
    for expected in ("starts", "ready", "starts", "ready"):
        program.hear(expected)
    wait_for(lambda: program.log.count('"event": "restarted"') == 2, "both to be over")
    program.end()


def test_who_dies_while_he_is_replaced_is_not_replaced_twice(tmp_path: Path) -> None:
    work = """
supervisor._BACKOFF = 0.4

def work(config, sockets, role, pulse, successor):
    told("starts")
    mark = os.environ["MARK"]
    if not successor:
        open(mark, "w").write(str(os.getpid()))
    elif os.path.exists(mark):
        os.kill(int(open(mark).read()), signal.SIGKILL)
        os.unlink(mark)
        time.sleep(0.1)
    else:
        time.sleep(1)  # whoever would be started needlessly is started meanwhile
    serve(pulse)
"""
    os.environ["MARK"] = str(tmp_path / "mark")
    program = Program(work, tmp_path / "log")
    del os.environ["MARK"]
    for expected in ("starts", "ready"):
        program.hear(expected)
    for _ in range(2):
        program.send(signal.SIGHUP)
        for expected in ("starts", "ready"):
            program.hear(expected)
    wait_for(lambda: program.log.count('"event": "restarted"') == 2, "both to be over")
    program.end()
