"""Compile one component: `python -m registry.deploy.runtimes.wasmtime.compile WASM CACHE PARENT`.

A process of its own, because compiling takes seconds and hundreds of megabytes, and because a
crafted component can make it take more. Prints the sha256 it compiled, or exits 1 with the reason.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from pathlib import Path

from registry.deploy.runtimes.wasmtime.confine import confine

MEMORY = 6 << 30  # bytes of address space; an 18 MB component peaks below 0.5 GB resident
FILE = 2 << 30  # bytes of the compiled file
CPU = 240  # seconds over all threads


def main(arguments: list[str]) -> None:
    source, directory, parent = arguments
    confine(int(parent))
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    from wasmtime import WasmtimeError  # after the limits
    from wasmtime.component import Component

    from registry.deploy.runtimes.wasmtime.cache import Cache
    from registry.deploy.runtimes.wasmtime.engine import engine

    wasm = Path(source).read_bytes()
    digest = hashlib.sha256(wasm).hexdigest()
    cache = Cache.open(directory)
    if not cache.has(digest):
        try:
            code = Component(engine(), wasm).serialize()
        except WasmtimeError as error:
            sys.exit(str(error))
        cache.keep(digest, code)
    print(digest)


if __name__ == "__main__":
    main(sys.argv[1:])
