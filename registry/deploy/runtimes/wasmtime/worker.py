"""A worker process: `python -m registry.deploy.runtimes.wasmtime.worker`.

Its arguments are the descriptors of the listening socket and of the stamps, its row in these, and
the process id of its supervisor.

Its standard input carries the plan, as one line of JSON, and is then the control pipe: a line asks
it to finish, its end means that the supervisor is gone. Standard output carries one line of JSON:
`{"ready": true}`, or `{"failed": why, "lines": [last lines of the log]}`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any

from registry.deploy.runtimes.wasmtime.application import Application
from registry.deploy.runtimes.wasmtime.cache import Cache, CacheUnsafe
from registry.deploy.runtimes.wasmtime.call import Call, Stopped
from registry.deploy.runtimes.wasmtime.confine import confine
from registry.deploy.runtimes.wasmtime.engine import Ticker, engine
from registry.deploy.runtimes.wasmtime.host import provided
from registry.deploy.runtimes.wasmtime.logs import Lines, Log
from registry.deploy.runtimes.wasmtime.plan import Plan
from registry.deploy.runtimes.wasmtime.program import Program, Trap
from registry.deploy.runtimes.wasmtime.server import Server
from registry.deploy.runtimes.wasmtime.stamps import Stamps
from registry.deploy.runtimes.wasmtime.turn import Turn


def main(arguments: list[str]) -> None:
    listener_fd, stamps_fd, place, parent = (int(text) for text in arguments)
    confine(parent, keep=(listener_fd, stamps_fd))
    order = json.loads(_line(0))
    plan = Plan.from_json(order)
    log = Log(plan.log, plan.revision)
    try:
        server = _prepare(plan, log, listener_fd, stamps_fd, place)
    except (Trap, Stopped, CacheUnsafe) as error:
        _say({"failed": str(error), "lines": list(log.tail)})
        sys.exit(1)
    _say({"ready": True})
    server.run(socket.socket(fileno=listener_fd), 0)


def _prepare(plan: Plan, log: Log, listener_fd: int, stamps_fd: int, place: int) -> Server:
    running = engine()
    functions = provided()
    cache = Cache.open(plan.cache)
    programs: dict[str, Program] = {}
    ticker = Ticker(running)
    for component in plan.components:
        with cache.opened(component.native) as path:
            program = Program.load(running, path, functions, plan.limits)
        programs[component.id] = program
        lines = Lines(log)
        turn = Turn()
        turn.acquire()
        call = Call(
            component,
            turn=turn,
            client=None,
            output=lines,
            deadline=time.monotonic() + plan.limits.wall,
            cpu=plan.limits.cpu,
        )
        try:
            with ticker:
                program.trial(call)
        except (Trap, Stopped) as error:
            raise Trap(f"component {component.id} does not start: {error}") from None
        finally:
            call.close()
            lines.close()
    application = Application(
        plan, programs, ticker=ticker, log=log, own_socket=_bound_path(listener_fd)
    )
    stamps = Stamps(stamps_fd, workers=plan.workers, slots=plan.limits.concurrency)
    return Server(application, plan.limits, log=log, stamps=stamps, place=place)


def _bound_path(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as listener:
        return str(listener.getsockname())


def _line(fd: int) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = os.read(fd, 1 << 16)
        if not piece:
            sys.exit(1)
        data += piece
    return bytes(data)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
