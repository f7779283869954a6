"""A runtime for tests: each instance is a process that speaks HTTP on a unix socket.

It implements the same protocol as the embedded runtime; what it runs is described in
`local_server`. It makes the ways in which an application fails easy to have, and quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.deploy.runtimes import Address, Instance, StartFailed, Workload

SERVER = Path(__file__).with_name("local_server.py")


class LocalInstance:
    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self._socket = socket
        self.address = Address(unix=socket)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def stop(self, grace: float) -> None:
        if self.running:
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._socket.unlink(missing_ok=True)

    async def wait(self) -> str:
        status = await self._process.wait()
        return f"the process ended with status {status}"


class LocalRuntime:
    name = "local"

    def __init__(self, run: Path) -> None:
        self._run = run
        self._numbers = itertools.count(1)
        self.prepared: list[tuple[str, int]] = []
        self.instances: list[LocalInstance] = []
        self.starts: list[int] = []
        """The revisions that were started, in order."""

    @property
    def running(self) -> list[LocalInstance]:
        return [instance for instance in self.instances if instance.running]

    async def refuse(self, locked: Mapping[str, Any], wasm: Mapping[str, Path]) -> str | None:
        for component in locked["components"]:
            assert wasm[component["id"]].is_file()
            if component.get("dependencies"):
                return f"component {component['id']!r} has dependencies that are not composed"
        return None

    async def prepare(self, workload: Workload) -> None:
        assert workload.lock.is_file()
        self.prepared.append((workload.app, workload.revision))

    async def start(self, workload: Workload) -> Instance:
        self.starts.append(workload.revision)
        socket = self._run / f"{next(self._numbers)}.sock"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", str(SERVER), str(workload.lock), str(socket)),
            json.dumps(dict(workload.variables)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        instance = LocalInstance(process, socket)
        self.instances.append(instance)
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = await process.stdout.readline()
            if not line:
                said = (await process.stderr.read()).decode().strip()
                raise StartFailed(f"{await instance.wait()}: {said}")
        except BaseException:
            await instance.stop(0)
            raise
        return instance

    async def close(self) -> None:
        for instance in self.instances:
            await instance.stop(0)
