"""What a client notices of a thousand that hold its server: `python -m tests.slow.holding`.

For each kind of attack: how long a healthy client waits for a manifest, on a connection that it
keeps and on new ones, beside the same without an attack. Times are of this machine; that the
healthy client is always answered is held by the test beside this, with fewer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.asgi import digest_of, image
from tests.servers import Spindle, raise_descriptors
from tests.slow.attackers import KINDS

BLOB = 64 << 20  # bytes


@dataclass
class Times:
    """Milliseconds of every answer, and what was no 200."""

    took: list[float]
    failed: list[str]

    def __str__(self) -> str:
        ordered = sorted(self.took)
        middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return (
            f"{len(ordered):6} answers   p50 {middle:7.2f} ms   p99 {late:7.2f} ms"
            f"   worst {ordered[-1]:8.2f} ms   failed {len(self.failed)}"
        )


def fill(server: Spindle) -> str:
    """Push a manifest as app:v1, and a large blob, and pull that once; return its path."""
    connection = http.client.HTTPConnection(server.registry, timeout=60)
    data = os.urandom(1 << 20) * (BLOB >> 20)
    for body in (b"{}", data):
        connection.request("POST", f"/v2/app/blobs/uploads/?digest={digest_of(body)}", body)
        assert connection.getresponse().read() is not None
    connection.request("PUT", "/v2/app/manifests/v1", image())
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (201, b"")
    blob = f"/v2/app/blobs/{digest_of(data)}"
    connection.request("GET", blob)
    assert connection.getresponse().read() == data
    connection.close()
    return blob


def healthy(registry: str, seconds: float, least: int = 0) -> Times:
    """Ask for a manifest again and again: nine times on one connection, then on a new one."""
    times = Times([], [])
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(times.took) < least:
        connection = http.client.HTTPConnection(registry, timeout=60)
        for _ in range(10):
            began = time.perf_counter()
            try:
                connection.request("GET", "/v2/app/manifests/v1")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    times.failed.append(str(answer.status))
            except OSError as error:
                times.failed.append(repr(error))
            times.took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.001)
        connection.close()
    return times


@contextlib.contextmanager
def attack(
    kind: str, registry: str, blob: str, count: int, *more: str
) -> Iterator[subprocess.Popen[str]]:
    """From when all are connected."""
    command = [sys.executable, "-m", "tests.slow.attackers", kind, registry]
    with subprocess.Popen(
        [*command, "--count", str(count), "--blob", blob, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()


def state(server: Spindle) -> str:
    [pid] = server.processes
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [resident] = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return f"server: {int(resident) >> 10} MiB, {descriptors} descriptors"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--kind", action="append", choices=KINDS, help="all, if none is given")
    options.add_argument("--set", action="append", default=[], help="a setting of the server")
    given = options.parse_args()
    raise_descriptors(given.count + 100)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [part for setting in given.set for part in ("--set", setting)]
        with Spindle(Path(scratch) / "data", *arguments) as server:
            blob = fill(server)
            print(f"{'quiet':8} {healthy(server.registry, given.seconds)}   {state(server)}")
            for kind in given.kind or KINDS:
                with attack(kind, server.registry, blob, given.count) as attackers:
                    times = healthy(server.registry, given.seconds)
                    after = state(server)
                    assert attackers.stdin is not None
                    attackers.stdin.close()
                    assert attackers.stdout is not None
                    ended = int(attackers.stdout.readline())
                failed += len(times.failed)
                print(f"{kind:8} {times}   {after}   {ended} thrown out", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
