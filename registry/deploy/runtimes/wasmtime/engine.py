"""The one set of engine settings; compiled code loads only into an engine that has the same.

Importing this does not load the library: the server only needs the identity.
"""

from __future__ import annotations

import platform
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasmtime import Engine

WASMTIME = "50.0.1"
"""The version of the wheel that `native` is written for."""

SETTINGS = "epochs=1"
"""Written into the name of every cached file; change it with the settings."""

TICK = 0.01  # seconds of an epoch: how late a guest notices that its time is up


def engine() -> Engine:
    from wasmtime import Config, Engine

    config = Config()
    config.epoch_interruption = True
    return Engine(config)


@cache
def identity() -> str:
    """What compiled code depends on besides the component."""
    return f"wasmtime-{WASMTIME} {SETTINGS} {platform.machine()} {_processor()}"


def _processor() -> str:
    # Code is compiled for the features of this processor; a data directory can move to another.
    try:
        with open("/proc/cpuinfo") as file:
            return next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return platform.processor()


class Ticker:
    """Advances the engine's epoch while requests run; idle workers do not wake up."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._running = 0
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    def __enter__(self) -> None:
        with self._changed:
            self._running += 1
            if self._running == 1:
                self._changed.notify()

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._running:
                    self._changed.wait()
            time.sleep(TICK)
            self._engine.increment_epoch()
