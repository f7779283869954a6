"""A real server: `spindle serve` in a process of its own, on ports that were free."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

SPINDLE = Path(sys.executable).with_name("spindle")
PATIENCE = 60.0  # seconds after which something that should happen counts as failed


class Spindle:
    """`with Spindle(data) as server:` runs one until the block ends."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        self.command: tuple[str | Path, ...] = (SPINDLE,)
        self.arguments = arguments
        self.registry = "127.0.0.1:0"
        self.gateway = "127.0.0.1:0"
        self.scheme = "http"
        self.trust: ssl.SSLContext | None = None
        """For a server that speaks TLS."""
        self.log = data.with_name(f"{data.name}.log")
        self.headers: dict[str, str] = {}
        """Of what is asked of it here: where one has to sign in, an Authorization."""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """The first start takes free ports, a later one the same again."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")}
        environment["SPINDLE_LIMITS_RESERVE"] = "64KiB"  # one for each of hundreds of tests
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(*self.command, "serve", "--data", self.data),
                    *("--listen", self.registry, "--gateway-listen", self.gateway),
                    *self.arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        assert self._process.stdout is not None
        greeting = ""
        for line in self._process.stdout:
            greeting += line
            if found := re.match(r"\s*registry\s+(https?)://(\S+)", line):
                self.scheme, self.registry = found.groups()
            elif found := re.match(r"\s*applications\s+https?://\S+?:(\d+)$", line):
                self.gateway = f"127.0.0.1:{found[1]}"
            elif "spindle demo" in line:
                break
        else:
            raise AssertionError(f"the server did not start:\n{greeting}{self.log.read_text()}")
        wait_for(lambda: self.get("/v2/")[0] == 200, "GET /v2/ to answer")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def processes(self) -> list[int]:
        """Those that serve: the first one is that of the registry."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        assert self._process is not None
        # Those that serve die with it, but nobody waits for them.
        orphans = self.processes if with_signal == signal.SIGKILL else []
        self._process.send_signal(with_signal)
        status = self._process.wait(PATIENCE)
        wait_for(lambda: not any(map(is_alive, orphans)), f"{orphans} to end")
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    def get(self, path: str) -> tuple[int, bytes]:
        url = f"{self.scheme}://{self.registry}{path}"
        return get(url, headers=self.headers, trust=self.trust)

    def app(self, name: str) -> dict[str, Any]:
        """What GET /v1/apps/<name> says."""
        status, body = self.get(f"/v1/apps/{name}")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def wait_live(self, name: str, digest: str) -> dict[str, Any]:
        """Until that digest is live."""

        def live() -> bool:
            status, body = self.get(f"/v1/apps/{name}")
            return status == 200 and (json.loads(body)["live"] or {}).get("digest") == digest

        wait_for(live, f"{digest} to be live\n{self.log.read_text()[-4000:]}")
        return self.app(name)

    def wait_phase(self, name: str, digest: str, phase: str) -> dict[str, Any]:
        """Until the newest revision of that digest is in a phase; returns the revision."""
        last: dict[str, Any] = {}

        def reached() -> bool:
            status, body = self.get(f"/v1/apps/{name}")
            revisions = json.loads(body)["revisions"] if status == 200 else []
            for revision in revisions:
                if revision["digest"] == digest:
                    last.update(revision)
                    return bool(revision["phase"] == phase)
            return False

        wait_for(reached, lambda: f"{digest} to be {phase}, is {last}")
        return last

    def ask(self, host: str, path: str = "/", **request: Any) -> tuple[int, bytes]:
        """Ask an application through the gateway."""
        return get(f"http://{self.gateway}{path}", headers={"Host": host}, **request)


def is_alive(pid: int) -> bool:
    """Whether any of its threads is: the first one may have ended before the others."""
    try:
        states = [
            task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except (FileNotFoundError, ProcessLookupError):  # one ends while we look
        return Path(f"/proc/{pid}").exists()
    return any(state not in "ZX" for state in states)


def get(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    data: bytes | None = None,
    timeout: float = 30,
    trust: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Status and body; status 0 when nobody answered."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=trust) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def raise_descriptors(wanted: int) -> None:
    """As many as are wanted for this process, if we are let."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def wait_for(condition: Any, what: Any, patience: float = PATIENCE) -> None:
    """Ask `condition` until it is true; fail with `what` (text, or what makes it) after a while."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what() if callable(what) else what}")
        time.sleep(0.02)
