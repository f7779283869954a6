"""The embedded runtime: WASI 0.2 HTTP components, on the machine that the registry runs on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.deploy.runtimes import StartFailed, Workload
from registry.deploy.runtimes.wasmtime.cache import Cache
from registry.deploy.runtimes.wasmtime.confine import environment
from registry.deploy.runtimes.wasmtime.instance import ROOT, EmbeddedInstance, sweep
from registry.deploy.runtimes.wasmtime.plan import Plan, plan
from registry.deploy.runtimes.wasmtime.refusal import refusal


class EmbeddedRuntime:
    name = "wasmtime"

    def __init__(
        self, cache: Path, *, private_networks: bool = False, compile_time: float = 180.0
    ) -> None:
        """`cache` is a private directory for compiled code; it is made if it is not there.

        `private_networks` lets guests reach loopback and private addresses, as far as their
        allowed hosts do; else such addresses are refused even where a pattern allows the name.
        `compile_time` is in seconds, for one component.
        """
        self._cache = Cache.open(cache)
        sweep()
        self._private_networks = private_networks
        self._compile_time = compile_time
        self._compiling = asyncio.Lock()  # one at a time: each takes all cores and 450 MB
        self._instances: set[EmbeddedInstance] = set()

    async def refuse(self, locked: Mapping[str, Any], wasm: Mapping[str, Path]) -> str | None:
        return await asyncio.to_thread(refusal, locked, wasm)

    async def prepare(self, workload: Workload) -> None:
        await self._plan(workload)

    async def start(self, workload: Workload) -> EmbeddedInstance:
        made = await self._plan(workload)
        await asyncio.to_thread(_make_room_for_log, workload.log)
        instance = EmbeddedInstance(made)
        await instance.start()
        self._instances = {known for known in self._instances if not known.stopped}
        self._instances.add(instance)
        return instance

    async def close(self) -> None:
        await asyncio.gather(*[instance.stop(0.0) for instance in self._instances])
        self._instances.clear()

    async def _plan(self, workload: Workload) -> Plan:
        """The plan of a workload, with everything compiled."""
        locked = json.loads(await asyncio.to_thread(_read, workload.lock))
        made = plan(
            locked,
            workload,
            cache=self._cache.directory,
            private_networks=self._private_networks,
        )
        components = []
        for component in made.components:
            digest = await asyncio.to_thread(_digest, Path(component.wasm))
            if not await asyncio.to_thread(self._cache.has, digest):
                await self._compile(component.id, component.wasm, digest)
            native = str(self._cache.path(digest))
            components.append(dataclasses.replace(component, native=native))
        return dataclasses.replace(made, components=tuple(components))

    async def _compile(self, name: str, wasm: str, digest: str) -> None:
        async with self._compiling:
            if self._cache.has(digest):
                return
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-s", "-P", "-m", f"{__package__}.compile"),
                *(wasm, str(self._cache.directory), str(os.getpid())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(ROOT),
                cwd="/",
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(self._compile_time):
                    out, err = await process.communicate()
            except TimeoutError:
                raise StartFailed(
                    f"component {name} took more than {self._compile_time:g} seconds to compile"
                ) from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
            if process.returncode != 0:
                lines = err.decode("utf-8", "replace").strip().splitlines()
                why = lines[-1] if lines else f"the compiler ended with {process.returncode}"
                raise StartFailed(f"component {name} does not compile: {why}")
            if out.decode().strip() != digest:
                raise StartFailed(f"component {name} changed while it was compiled")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartFailed(f"{path} cannot be read: {error.strerror}") from None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartFailed(f"{path} cannot be read: {error.strerror}") from None


def _make_room_for_log(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
