"""The embedded runtime.

runtime       what the deployer talks to: refuse, compile, start
refusal       reasons not to run an app; anatomy reads a component's names
cache         compiled code; compile is the process that makes it
instance      a socket and its worker processes, seen from the server
worker        such a process: plan in, HTTP out; confine is what it gives up
server        connections and requests inside a worker; exchange is one of them
routing       which component answers
program       a component bound to what it imports; call is one run of it
abi, native   values across the boundary, on the wheel's C interface
host/         what guests can import
outbound      the grammar of where they may send requests
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.deploy.runtimes.wasmtime.runtime import EmbeddedRuntime

__all__ = ["EmbeddedRuntime"]


def __getattr__(name: str) -> Any:
    # Late, so that a worker, which is started often, does not import the server's half (90 ms).
    if name == "EmbeddedRuntime":
        from registry.deploy.runtimes.wasmtime.runtime import EmbeddedRuntime

        return EmbeddedRuntime
    raise AttributeError(name)
