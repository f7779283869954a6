"""The application's variables, under each of the names that guests import them by."""

from __future__ import annotations

import re

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host import Interface

spin = Interface("fermyon:spin/variables")
spin3 = Interface("spin:variables/variables")
wasi = Interface("wasi:config/store")
INTERFACES = (spin, spin3, wasi)

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@spin("get")
@spin3("get")
def get(call: Call, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Err(("invalid-name", name))
    try:
        return call.component.config[name]
    except KeyError:
        raise Err(("undefined", name)) from None


@wasi("get")
def get_or_none(call: Call, name: str) -> str | None:
    return call.component.config.get(name)


@wasi("get-all")
def get_all(call: Call) -> list[tuple[str, str]]:
    return sorted(call.component.config.items())
