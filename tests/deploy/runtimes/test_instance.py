"""Worker processes: how they are confined, how they end, and how they are replaced."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import h11
import pytest

from registry import demo
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from tests.servers import is_alive

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a worker's environment and files are hidden from other users"
)


@pytest.fixture
def hello(app):
    return app({"hello": demo.component("hi")})


async def test_the_socket_is_in_a_private_directory(start, hello):
    running = await start(hello)
    directory = running.instance.address.unix.parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(str(running.instance.address.unix)) < 100


async def test_several_workers_share_the_socket(start, hello):
    running = await start(hello, workers=2)
    assert len(running.instance.pids) == 2
    assert (await running.request("/")).body == b"hi"


async def test_nothing_pushed_or_secret_is_on_the_command_line(start, app):
    made = app({"hello": demo.component("hi")}, extra={"hello": {"config": {"key": "{{ k }}"}}})
    running = await start(made, variables={"k": "hush-hush"})
    (pid,) = running.instance.pids
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    assert words[1:5] == ["-s", "-P", "-m", "registry.deploy.runtimes.wasmtime.worker"]
    assert all(word.isdigit() for word in words[5:] if word)


@as_root
async def test_the_environment_of_a_worker_is_not_the_servers(start, hello, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SPINDLE_DATABASE", "postgres://secret")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    running = await start(hello)
    (pid,) = running.instance.pids
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    names = {entry.partition("=")[0] for entry in entries if entry}
    assert names == {"LANG", "PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}


@as_root
async def test_a_worker_has_no_file_of_the_server_open(start, hello, tmp_path):
    secret = tmp_path / "secret"
    secret.touch()
    fd = os.open(secret, os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        running = await start(hello)
    finally:
        os.close(fd)
    (pid,) = running.instance.pids
    targets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    assert str(secret) not in targets


async def test_a_worker_gave_up_what_it_does_not_need(start, hello):
    running = await start(hello)
    (pid,) = running.instance.pids
    process = Path(f"/proc/{pid}")
    status = dict(
        line.split(":\t", 1)
        for line in (process / "status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    limits = (process / "limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [
        ["0", "0"]
    ]
    assert [line.split()[3:5] for line in limits.splitlines() if "open files" in line] == [
        ["1024", "1024"]
    ]
    assert int((process / "oom_score_adj").read_text()) >= 500


async def test_a_worker_that_is_killed_is_replaced_and_waiting_clients_are_served(
    start, hello, until
):
    running = await start(hello)
    (pid,) = running.instance.pids
    os.kill(pid, signal.SIGKILL)
    # The socket is there all the time: this connects, waits and is answered by the next worker.
    assert (await running.request("/")).body == b"hi"
    await until(lambda: running.instance.pids not in ([], [pid]))


async def test_a_worker_that_cannot_stay_up_ends_the_instance(start, hello, until):
    running = await start(hello)
    dead = asyncio.create_task(running.instance.wait())
    for _ in range(5):
        await until(lambda: running.instance.pids)
        pids = running.instance.pids
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda pids=pids: running.instance.pids != pids)
    async with asyncio.timeout(5):
        assert "SIGKILL" in await dead


async def test_a_request_that_nothing_inside_can_end_is_ended_from_outside(
    start, app, python_app, until
):
    running = await start(app({"py": python_app}), wall=0.5)
    (pid,) = running.instance.pids
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/drip?100")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
        os.kill(pid, signal.SIGSTOP)  # stands for whatever the worker itself cannot notice
        await until(lambda: not is_alive(pid))
    assert (await running.request("/hello")).status == 200
    fresh = running.instance.pids
    await asyncio.sleep(0.6)  # two looks: what the dead worker left behind is not held against it
    assert running.instance.pids == fresh
    (line,) = [line["line"] for line in running.lines() if "killed" in line["line"]]
    assert line == "a worker was killed: a request ran past its time limit"


async def test_a_stop_lets_requests_end(start, app, python_app):
    running = await start(app({"py": python_app}))
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/drip?3")
        await exchange.send(h11.EndOfMessage())
        head = await exchange.event()
        assert head.status_code == 200
        stopping = asyncio.create_task(running.instance.stop(10.0))
        body = b""
        while isinstance(event := await exchange.event(), h11.Data):
            body += event.data
        assert body == b"drip 0\ndrip 1\ndrip 2\n"
        async with asyncio.timeout(5):
            await stopping
            assert await running.instance.wait() == "it was stopped"


async def test_a_stop_ends_requests_that_do_not_end(start, app, python_app):
    running = await start(app({"py": python_app}))
    pids = running.instance.pids
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/drip?1000")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
        await running.instance.stop(0.3)
        assert not any(is_alive(pid) for pid in pids)


async def test_a_second_stop_in_a_hurry_ends_the_first(start, app, python_app, until):
    running = await start(app({"py": python_app}))
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/drip?1000")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
        patient = asyncio.create_task(running.instance.stop(60.0))
        await until(lambda: running.instance.stopped)
        async with asyncio.timeout(10):
            await running.instance.stop(0.0)
            await patient


async def test_a_stop_goes_on_without_the_one_who_asked(start, app, python_app):
    running = await start(app({"py": python_app}))
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/drip?1000")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await running.instance.stop(0.5)
        async with asyncio.timeout(10):
            assert await running.instance.wait() == "it was stopped"


async def test_a_stop_leaves_nothing_behind(start, hello):
    running = await start(hello, workers=2)
    pids, address = running.instance.pids, running.instance.address.unix
    await running.instance.stop(5.0)
    assert not any(is_alive(pid) for pid in pids)
    assert not address.parent.exists()
    with pytest.raises(FileNotFoundError):
        await asyncio.open_unix_connection(str(address))
    await running.instance.stop(5.0)


async def test_a_component_that_traps_at_its_start_fails_with_the_reason(start, app, wat, failing):
    reason = await failing(start(app({"bad": wat.traps_at_start()})))
    assert reason == "component bad does not start: wasm `unreachable` instruction executed"


async def test_a_component_that_never_starts_fails_with_the_reason(start, app, wat, failing):
    reason = await failing(start(app({"bad": wat.loops_at_start()}), cpu=0.3))
    assert "component bad does not start" in reason
    assert "CPU time" in reason


async def test_one_bad_component_of_several_fails_the_start(start, app, wat, failing):
    reason = await failing(
        start(
            app(
                {"good": demo.component(), "bad": wat.traps_at_start()}, {"/": "good", "/b": "bad"}
            ),
            workers=2,
        )
    )
    assert "component bad" in reason


async def test_a_failed_start_leaves_no_process_and_no_directory(
    start, app, wat, failing, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await failing(start(app({"bad": wat.traps_at_start()}), workers=2))
    assert not list(tmp_path.glob("spindle-*"))


async def test_bytes_that_do_not_compile_fail_with_the_compilers_words(start, app, failing):
    reason = await failing(start(app({"bad": b"\0asm\x0d\0\x01\0 not really"})))
    assert "component bad does not compile" in reason


async def test_a_compilation_that_takes_too_long_is_ended(app, workload, tmp_path, failing):
    runtime = EmbeddedRuntime(tmp_path / "cache", compile_time=0.01)
    reason = await failing(runtime.prepare(workload(app({"a": demo.component()}))))
    assert "took more than 0.01 seconds" in reason
    await runtime.close()


async def test_a_component_is_compiled_once(app, workload, tmp_path):
    runtime = EmbeddedRuntime(tmp_path / "cache")
    made = workload(app({"a": demo.component(), "b": demo.component()}))
    await runtime.prepare(made)
    (compiled,) = (tmp_path / "cache").iterdir()
    before = compiled.stat()
    await runtime.prepare(made)
    assert compiled.stat().st_mtime_ns == before.st_mtime_ns
    assert stat.S_IMODE(before.st_mode) == 0o600
    await runtime.close()


async def test_a_worker_that_cannot_be_started_now_is_started_later(start, hello, until):
    running = await start(hello, workers=1)
    (pid,) = running.instance.pids
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    running.log.touch()
    with running.log.open() as log:
        # No file can be opened, so no process be started.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: "could not be started" in log.read())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: running.instance.pids not in ([], [pid]))
    assert (await running.request("/")).body == b"hi"


PARENT = """
import asyncio, json, sys
from pathlib import Path
import uvloop
from registry.deploy.runtimes import Limits, Workload
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from storage.digest import Digest

async def main():
    lock, cache, log = map(Path, sys.argv[1:])
    runtime = EmbeddedRuntime(cache)
    instance = await runtime.start(Workload("a", "a", 1, Digest.parse("sha256:" + "0" * 64),
        lock, {}, Limits(concurrency=2), 2, log))
    print(json.dumps(instance.pids), flush=True)
    await asyncio.sleep(60)

uvloop.run(main())
"""


async def test_a_server_that_is_killed_leaves_no_worker(
    hello, workload, native_cache, until, tmp_path, monkeypatch
):
    made = workload(hello)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(made.lock), str(native_cache), str(made.log)),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        pids = json.loads(await parent.stdout.readline())
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not any(is_alive(pid) for pid in pids))
    # Nobody was left to remove the socket: the next server does.
    assert list(tmp_path.glob("spindle-*"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def swept() -> bool:
        EmbeddedRuntime(native_cache)
        return not list(tmp_path.glob("spindle-*"))

    # More than once: a process shows as a zombie while its last thread still has the socket open.
    await until(swept)
