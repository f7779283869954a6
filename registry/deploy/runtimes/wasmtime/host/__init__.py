"""What guests can import: WIT interfaces written in Python, one module per package.

A function is registered under its interface, whatever the version, and its WIT name. It takes the
call and the arguments; its result is the WIT result, or the payload of `ok`, or it raises `Err`.
Nothing else reaches a guest: an import that is not here is a stub that traps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


class Interface:
    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: dict[str, Function] = {}

    def __call__(self, *members: str) -> Callable[[F], F]:
        """Register the decorated function under each of these WIT names."""

        def register(function: F) -> F:
            for member in members:
                self.functions[f"{self.name}#{member}"] = function
            return function

        return register


def provided() -> dict[str, Function]:
    """Every function that the embedded runtime offers to guests."""
    from registry.deploy.runtimes.wasmtime.host import (
        clocks,
        filesystem,
        http,
        io,
        outgoing,
        process,
        variables,
    )

    table: dict[str, Function] = {}
    for module in (clocks, filesystem, http, io, outgoing, process, variables):
        for interface in module.INTERFACES:
            table.update(interface.functions)
    return table
