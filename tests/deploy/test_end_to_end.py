"""The whole path with real parts: oras pushes, `spindle serve` runs it, HTTP asks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from registry.demo import component
from tests.deploy.oras import digest_of, locked_app, push
from tests.deploy.runtimes.build import build
from tests.servers import SPINDLE, Spindle, get, is_alive, wait_for
from tests.tools import run

HOST = "hello.acme.localhost"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Spindle]:
    with Spindle(tmp_path / "data", "--set", "deploy.health_timeout=5") as running:
        yield running


def push_demo(
    server: Spindle, directory: Path, greeting: str, repository: str = "acme/hello"
) -> str:
    wasm = component(greeting)
    return push(server, directory, f"{repository}:latest", locked_app("hello", wasm), wasm)


def test_what_is_pushed_and_tagged_runs(server: Spindle, tmp_path: Path) -> None:
    digest = push_demo(server, tmp_path / "v1", "hello from one")

    app = server.wait_live("acme/hello", digest)

    assert server.ask(HOST) == (200, component_answer(server))
    assert b"hello from one" in server.ask(HOST)[1]
    assert app["repository"] == "acme/hello"
    assert app["url"] == f"http://{HOST}:{server.gateway.rpartition(':')[2]}/"
    assert app["live"] == {"revision": 1, "digest": digest}
    (revision,) = app["revisions"]
    assert revision["number"] == 1
    assert revision["tag"] == "latest"
    assert revision["phase"] == "live"


def component_answer(server: Spindle) -> bytes:
    """The demo's answer does not depend on the path."""
    return server.ask(HOST, "/any/other?path=1")[1]


def test_a_component_built_from_python_runs_with_its_files_env_and_variables(
    tmp_path: Path,
) -> None:
    wasm = build().read_bytes()
    page = b"<h1>static</h1>" * 100
    locked = locked_app(
        "python",
        wasm,
        env={"GREETING": "from env"},
        config={"name": "{{ who }}!"},
        files=[{"path": "static/index.html", "digest": digest_of(page)}],
        variables={"who": {"default": "nobody"}},
    )
    with Spindle(tmp_path / "data", "--set", "runtime.cpu=1") as server:
        at = ("--server", f"http://{server.registry}")
        run(SPINDLE, "apps", "set", "acme/python", "who=somebody", *at)
        digest = push(server, tmp_path / "v1", "acme/python:v1", locked, wasm, {"index": page})
        server.wait_live("acme/python", digest)
        host = "python.acme.localhost"

        assert server.ask(host, "/hello") == (200, b"hello from Python")
        assert b"from env" in server.ask(host, "/env?GREETING")[1]
        assert server.ask(host, "/variable?name") == (200, b"somebody! somebody!")
        assert server.ask(host, "/file?/static/index.html") == (200, page)
        body = os.urandom(3_000_000)
        assert server.ask(host, "/echo", method="POST", data=body) == (200, body)
        # One request that never ends does not stop the others.
        assert server.ask(host, "/loop")[0] >= 500
        assert server.ask(host, "/hello")[0] == 200
        server.ask(host, "/print?3")
        wait_for(
            lambda: "line 2" in run(SPINDLE, "apps", "logs", "acme/python", *at),
            "what the component printed",
        )
        info = json.loads(server.ask(host, "/.well-known/spin/info")[1])
        assert info["oci_image_digest"] == digest


def test_an_upgrade_under_load_fails_no_request(server: Spindle, tmp_path: Path) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "v1", "version one"))
    with Load(server) as load:
        load.until(lambda: load.count(b"version one") > 100)
        second = push_demo(server, tmp_path / "v2", "version two")
        app = server.wait_live("acme/hello", second)
        seen = load.count(b"version two")
        load.until(lambda: load.count(b"version two") > seen + 100)

    assert load.failures() == []
    answers = [b"two" in body for _, body in load.answers]
    switched = answers.index(True)
    assert not any(answers[:switched])
    # In flight at the moment of the switch: an old answer may still end after the first new one.
    assert all(answers[switched + 20 :])
    assert [r["number"] for r in app["revisions"]] == [2, 1]
    assert app["revisions"][0]["phase"] == "live"
    wait_for(
        lambda: server.app("acme/hello")["revisions"][1]["phase"] == "retired",
        "the old revision to be retired",
    )
    shown = run(SPINDLE, "apps", "show", "acme/hello", "--server", f"http://{server.registry}")
    assert "live" in shown
    assert "retired" in shown


class Load:
    """Asks the gateway 200 times a second from eight threads; remembers all answers in order."""

    RATE = 200
    THREADS = 8

    def __init__(self, server: Spindle) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.THREADS)]

    def _ask(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self.answers.append(self._server.ask(HOST))
            due = max(due + self.THREADS / self.RATE, time.monotonic() - 1)
            self._stop.wait(max(0.0, due - time.monotonic()))

    def count(self, text: bytes) -> int:
        return sum(text in body for _, body in list(self.answers))

    def failures(self) -> list[tuple[int, bytes]]:
        return [answer for answer in self.answers if answer[0] != 200]

    def until(self, condition: object) -> None:
        wait_for(condition, f"the load to go on; {len(self.answers)} answers")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


TRAPS_AT_START = b"""(component
  (core module $m (func $f unreachable) (start $f) (func (export "handle") (param i32 i32)))
  (core instance $i (instantiate $m)))"""

WASI_0_3 = b"""(component
  (core module $m (func (export "handle")))
  (core instance $i (instantiate $m))
  (func $handle (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/handler@0.3.0" (instance $handler)))"""


def assemble(text: bytes) -> bytes:
    from wasmtime import wat2wasm

    return bytes(wat2wasm(text))


def test_a_wasi_0_3_component_is_refused_and_the_old_revision_serves(
    server: Spindle, tmp_path: Path
) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "good", "the good one"))
    wasm = assemble(WASI_0_3)
    digest = push(server, tmp_path / "bad", "acme/hello:latest", locked_app("hello", wasm), wasm)

    revision = server.wait_phase("acme/hello", digest, "failed")

    assert "0.3" in revision["reason"]
    assert b"the good one" in server.ask(HOST)[1]


def test_a_component_that_traps_at_start_fails_and_the_old_revision_serves(
    server: Spindle, tmp_path: Path
) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "good", "the good one"))
    wasm = trapping()
    digest = push(server, tmp_path / "bad", "acme/hello:latest", locked_app("hello", wasm), wasm)

    revision = server.wait_phase("acme/hello", digest, "failed")

    assert "unreachable" in revision["reason"]
    assert b"the good one" in server.ask(HOST)[1]
    shown = run(SPINDLE, "apps", "show", "acme/hello", "--server", f"http://{server.registry}")
    assert "unreachable" in shown


def trapping() -> bytes:
    """The demo, with a module beside it whose start function traps."""
    trap = (
        "(core module $trap (func $f unreachable) (start $f)) (core instance (instantiate $trap))"
    )
    source = files("registry.demo").joinpath("hello.wat").read_text("utf-8")
    source = source.replace('"@GREETING@"', '"trap"').replace("@LENGTH@", "4").rstrip()
    assert source.endswith(")")
    return assemble(f"{source[:-1]}{trap})".encode())


def test_one_that_never_becomes_healthy_fails_and_the_old_revision_serves(
    server: Spindle, tmp_path: Path
) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "good", "the good one"))
    wasm = component("unwell")
    locked = locked_app("hello", wasm)
    locked["triggers"].append(
        {
            "id": "sick",
            "trigger_type": "http",
            "trigger_config": {"static_response": {"status_code": 503}, "route": "/healthz"},
        }
    )
    server_at = f"http://{server.registry}"
    run(SPINDLE, "apps", "set", "acme/hello", "--health-path", "/healthz", "--server", server_at)
    digest = push(server, tmp_path / "bad", "acme/hello:latest", locked, wasm)

    revision = server.wait_phase("acme/hello", digest, "failed")

    assert "/healthz" in revision["reason"]
    assert "503" in revision["reason"]
    assert b"the good one" in server.ask(HOST)[1]


def test_a_missing_variable_fails_the_revision_and_setting_it_deploys(
    server: Spindle, tmp_path: Path
) -> None:
    wasm = component("with a key")
    locked = locked_app("hello", wasm, variables={"api_key": {"secret": True}})
    digest = push(server, tmp_path / "v1", "acme/hello:latest", locked, wasm)
    revision = server.wait_phase("acme/hello", digest, "failed")
    assert "api_key" in revision["reason"]

    server_at = f"http://{server.registry}"
    run(SPINDLE, "apps", "set", "acme/hello", "api_key=s3cr3t-canary", "--server", server_at)

    server.wait_live("acme/hello", digest)
    assert b"with a key" in server.ask(HOST)[1]
    for path in ("acme/hello", "acme/hello/_settings", "acme/hello/_events"):
        assert b"s3cr3t-canary" not in get(f"{server_at}/v1/apps/{path}")[1]
    assert "s3cr3t-canary" not in server.log.read_text()


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_after_kill_9_the_app_answers_without_a_push_and_no_process_is_left(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    server = Spindle(tmp_path / "data", *arguments)
    server.start()
    digest = push_demo(server, tmp_path / "v1", "still here")
    server.wait_live("acme/hello", digest)
    before = descendants(server.pid)
    assert before

    server.stop(signal.SIGKILL)

    wait_for(lambda: not any(map(is_alive, before)), "the workers to end with their server")
    server.start()
    wait_for(lambda: server.ask(HOST)[0] == 200, "the app to answer again")
    assert b"still here" in server.ask(HOST)[1]
    assert server.app("acme/hello")["live"]["digest"] == digest
    assert len(server.app("acme/hello")["revisions"]) == 1
    assert server.stop() == 0


def test_a_stopped_server_leaves_no_process(server: Spindle, tmp_path: Path) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "v1", "bye"))
    before = descendants(server.pid)

    status = server.stop(signal.SIGTERM)

    assert status == 0
    assert not any(map(is_alive, before))


def test_with_two_registry_workers_a_push_through_any_of_them_runs(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--workers", "2") as server:
        for number in range(3):
            digest = push_demo(server, tmp_path / f"v{number}", f"number {number}")
            server.wait_live("acme/hello", digest)
        assert b"number 2" in server.ask(HOST)[1]
        before = descendants(server.pid)
        assert server.stop(signal.SIGTERM) == 0
        assert not any(map(is_alive, before))


def test_a_registry_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--workers", "2") as server:
        before = set(children(server.pid))
        assert len(before) == 3
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: len(set(children(server.pid)) - before) == 3, "three others in their place"
        )
        wait_for(lambda: get(f"http://{server.registry}/v2/")[0] == 200, "an answer")
        digest = push_demo(server, tmp_path / "v1", "after all")
        server.wait_live("acme/hello", digest)


def test_unknown_hosts_are_404_and_say_nothing_of_others(server: Spindle, tmp_path: Path) -> None:
    server.wait_live("acme/hello", push_demo(server, tmp_path / "v1", "here"))

    status, body = server.ask("other.acme.localhost")

    assert status == 404
    assert b"hello" not in body


def test_a_host_without_a_live_revision_is_503(server: Spindle, tmp_path: Path) -> None:
    wasm = assemble(WASI_0_3)
    digest = push(server, tmp_path / "bad", "acme/hello:v1", locked_app("hello", wasm), wasm)
    server.wait_phase("acme/hello", digest, "failed")

    assert server.ask(HOST)[0] == 503


def test_the_demo_needs_no_other_tool(server: Spindle) -> None:
    printed = run(SPINDLE, "demo", "--server", f"http://{server.registry}")

    assert HOST in printed
    assert server.ask(HOST)[0] == 200


def test_apps_wait_tells_how_it_ended(server: Spindle, tmp_path: Path) -> None:
    at = ("--server", f"http://{server.registry}")
    digest = push_demo(server, tmp_path / "v1", "awaited")
    run(SPINDLE, "apps", "wait", "acme/hello", "--digest", digest, *at)
    assert json.loads(run(SPINDLE, "apps", "show", "acme/hello", "--json", *at)) == server.app(
        "acme/hello"
    )
    wasm = assemble(WASI_0_3)
    bad = push(server, tmp_path / "bad", "acme/hello:v2", locked_app("hello", wasm), wasm)

    said = run(SPINDLE, "apps", "wait", "acme/hello", "--digest", bad, *at, ok=False)

    assert "0.3" in said


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def descendants(pid: int) -> list[int]:
    """Every process below one, by /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
