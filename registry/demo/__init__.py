"""A Spin application that needs no toolchain: a component assembled from its text on the spot."""

from __future__ import annotations

from importlib.resources import files

import wasmtime

__all__ = ["component"]

MOST = 1024  # bytes of a greeting; it is one data segment and one write


def component(greeting: str = "Hello from Spindle, version 1\n") -> bytes:
    """A WASI 0.2 HTTP component that answers every request with `greeting`."""
    data = greeting.encode()
    if len(data) > MOST:
        raise ValueError(f"a greeting has at most {MOST} bytes, this one has {len(data)}")
    text = files(__name__).joinpath("hello.wat").read_text("utf-8")
    escaped = "".join(f"\\{byte:02x}" for byte in data)
    text = text.replace('"@GREETING@"', f'"{escaped}"').replace("@LENGTH@", str(len(data)))
    return bytes(wasmtime.wat2wasm(text))
