"""Restart a server again and again under load: `python -m tests.rolling.restarts`.

Prints how many requests there were of each sort, and every one that failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.rolling.load import Load, Tally, fill
from tests.servers import SPINDLE, Spindle, get, wait_for

HOST = "hello.acme.localhost"
PATIENCE = 120.0  # seconds for one restart on a machine that is busy


def deploy(server: Spindle) -> None:
    """The example application, at HOST."""
    subprocess.run(
        [SPINDLE, "demo", "--repository", "acme/hello", "--server", f"http://{server.registry}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    wait_for(lambda: server.ask(HOST)[0] == 200, "the application to answer", 60)


def restart(server: Spindle) -> float:
    """Until all is done by new processes; returns the seconds that it took."""
    before = said(server, "restarted")
    began = time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    wait_for(lambda: said(server, "restarted") > before, lambda: tail(server), PATIENCE)
    return time.monotonic() - began


def said(server: Spindle, event: str) -> int:
    """How often."""
    return server.log.read_text().count(f'"event": "{event}"')


def tail(server: Spindle) -> str:
    return f"a restart to be over:\n{server.log.read_text()[-3000:]}"


def restarts(
    data: Path, count: int, *arguments: str, application: bool = True
) -> tuple[Tally, list[float]]:
    """What became of the requests, and how long each restart took in seconds."""
    with Spindle(data, *arguments) as server:
        if application:
            deploy(server)
        blob = fill(server.registry)
        with Load(server.registry, server.gateway, HOST if application else None, blob) as tally:
            took = []
            for _ in range(count):
                took.append(restart(server))
                time.sleep(0.2)
        assert get(f"http://{server.registry}/v2/")[0] == 200
    return tally, took


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--restarts", type=int, default=100)
    options.add_argument("--workers", default="1")
    options.add_argument("--drain", default="10", help="seconds")
    options.add_argument("--without-application", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="spindle-rolling-") as scratch:
        began = time.monotonic()
        tally, took = restarts(
            Path(scratch) / "data",
            given.restarts,
            *("--workers", given.workers, "--set", f"registry.drain={given.drain}"),
            application=not given.without_application,
        )
        seconds = time.monotonic() - began
    for what, count in sorted(tally.done.items()):
        print(f"{count:8} {what}")
    for failure in tally.failed:
        print(f"FAILED   {failure}")
    took.sort()
    print(
        f"{given.restarts} restarts with {given.workers} workers in {seconds:.0f} s: each took"
        f" {took[len(took) // 2]:.2f} s (the longest {took[-1]:.2f} s);"
        f" {sum(tally.done.values())} requests, {len(tally.failed)} failed"
    )
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
