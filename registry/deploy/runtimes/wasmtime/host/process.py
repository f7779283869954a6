"""wasi:cli and wasi:random 0.2: what a program expects of its process."""

from __future__ import annotations

import os

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call, Stopped
from registry.deploy.runtimes.wasmtime.host import Interface
from registry.deploy.runtimes.wasmtime.host.io import Empty, Sink

environment = Interface("wasi:cli/environment")
leaving = Interface("wasi:cli/exit")
stdin = Interface("wasi:cli/stdin")
stdout = Interface("wasi:cli/stdout")
stderr = Interface("wasi:cli/stderr")
terminal_stdin = Interface("wasi:cli/terminal-stdin")
terminal_stdout = Interface("wasi:cli/terminal-stdout")
terminal_stderr = Interface("wasi:cli/terminal-stderr")
random = Interface("wasi:random/random")
insecure = Interface("wasi:random/insecure")
seed = Interface("wasi:random/insecure-seed")
INTERFACES = (
    environment,
    leaving,
    stdin,
    stdout,
    stderr,
    terminal_stdin,
    terminal_stdout,
    terminal_stderr,
    random,
    insecure,
    seed,
)

MOST_RANDOM = 1 << 20  # bytes at once; a guest names the number, the host would allocate it


class Exited(Stopped):
    pass


@environment("get-environment")
def get_environment(call: Call) -> list[tuple[str, str]]:
    return list(call.component.env.items())


@environment("get-arguments")
def get_arguments(call: Call) -> list[str]:
    return []


@environment("initial-cwd")
def initial_cwd(call: Call) -> None:
    return None


@leaving("exit")
def leave(call: Call, status: object) -> None:
    raise Exited(f"it called exit ({'failure' if isinstance(status, Err) else 'success'})")


@leaving("exit-with-code")
def leave_with_code(call: Call, status: int) -> None:
    raise Exited(f"it called exit with code {status}")


@stdin("get-stdin")
def get_stdin(call: Call) -> Empty:
    return Empty()


def _log(stream: str) -> Sink:
    return Sink(lambda call, data: call.output.write(call.component.id, stream, data))


@stdout("get-stdout")
def get_stdout(call: Call) -> Sink:
    return _log("stdout")


@stderr("get-stderr")
def get_stderr(call: Call) -> Sink:
    return _log("stderr")


@terminal_stdin("get-terminal-stdin")
@terminal_stdout("get-terminal-stdout")
@terminal_stderr("get-terminal-stderr")
def no_terminal(call: Call) -> None:
    return None


@random("get-random-bytes")
@insecure("get-insecure-random-bytes")
def random_bytes(call: Call, length: int) -> bytes:
    if length > MOST_RANDOM:
        raise ValueError(f"{length} random bytes at once")
    return os.urandom(length)


@random("get-random-u64")
@insecure("get-insecure-random-u64")
def random_number(call: Call) -> int:
    return int.from_bytes(os.urandom(8), "little")


@seed("insecure-seed")
def insecure_seed(call: Call) -> tuple[int, int]:
    return random_number(call), random_number(call)
