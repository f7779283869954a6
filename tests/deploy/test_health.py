"""What counts as healthy, asked of real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from registry.deploy import health
from registry.deploy.health import HEALTH, INFO, Check, Healthy, NotYet
from registry.deploy.runtimes import Address
from storage.digest import SHA256

DIGEST = SHA256.digest(b"pushed")
GOOD = {"name": "hello", "oci_image_digest": str(DIGEST)}


@dataclass
class App:
    """What the server answers; by path, status and body."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Host and path."""
    on_ask: Callable[[], Awaitable[None]] | None = None

    endless: str | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.headers["Host"], request.raw_path))
        if self.on_ask is not None:
            await self.on_ask()
        if request.raw_path == self.endless:
            stream = web.StreamResponse()
            await stream.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await stream.write(bytes(10_000))
            return stream
        status, text = self.answers.get(request.raw_path, (404, ""))
        headers = {"Location": "/elsewhere"} if status in (301, 302) else None
        return web.Response(status=status, text=text, headers=headers)


def good(**more: tuple[int, str]) -> App:
    answers = {HEALTH: (200, "OK"), INFO: (200, json.dumps(GOOD))}
    return App({**answers, **{f"/{path}": answer for path, answer in more.items()}})


@asynccontextmanager
async def serving(app: App, run: Path | None) -> AsyncIterator[Address]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", app.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        if run is not None:
            await web.UnixSite(runner, str(run / "s")).start()
            yield Address(unix=run / "s")
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield Address(tcp=runner.addresses[0])
    finally:
        await runner.cleanup()


def check(address: Address, path: str | None = None) -> Check:
    return Check(address, "hello.demo.example", DIGEST, path)


@pytest.mark.parametrize("unix", [True, False], ids=["unix socket", "TCP"])
async def test_both_reserved_routes_are_asked(run: Path, unix: bool) -> None:
    app = good()
    async with serving(app, run if unix else None) as address:
        assert await check(address).once() == Healthy()
    assert app.asked == [("hello.demo.example", HEALTH), ("hello.demo.example", INFO)]


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_the_apps_own_path_may_answer_any_2xx(run: Path, status: int) -> None:
    async with serving(good(ready=(status, "")), run) as address:
        assert await check(address, "/ready").once() == Healthy()


async def test_the_apps_own_path_is_asked_as_it_was_given(run: Path) -> None:
    path = "/%7Ea%2Fb/%2e%2E/c?x=%20&y"  # each of these is written otherwise by somebody
    app = App({**good().answers, path: (200, "")})
    async with serving(app, run) as address:
        assert await check(address, path).once() == Healthy()


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({HEALTH: (503, "no")}, None, f"GET {HEALTH}: 503 no (should be 200)"),
        ({HEALTH: (204, "")}, None, f"GET {HEALTH}: 204 (should be 200)"),
        ({INFO: (404, "")}, None, f"GET {INFO}: 404 (should be 200)"),
        ({INFO: (200, "no json")}, None, f"oci_image_digest should be {DIGEST}"),
        ({INFO: (200, "[]")}, None, f"oci_image_digest should be {DIGEST}"),
        ({INFO: (200, '{"name":"hello"}')}, None, f"oci_image_digest should be {DIGEST}"),
        ({INFO: (200, '{"oci_image_digest":"sha256:0"}')}, None, "should be"),
        ({"/ready": (500, "oh")}, "/ready", "GET /ready: 500 oh (should be 2xx)"),
        ({"/ready": (302, "")}, "/ready", "GET /ready: 302 (should be 2xx)"),
        ({}, "/ready", "GET /ready: 404 (should be 2xx)"),
    ],
)
async def test_anything_else_is_not_healthy_and_is_told(
    run: Path, changes: dict[str, tuple[int, str]], path: str | None, said: str
) -> None:
    app = good()
    app.answers.update(changes)
    async with serving(app, run) as address:
        found = await check(address, path).once()
    assert isinstance(found, NotYet)
    assert said in found.transcript


async def test_a_transcript_begins_with_what_was_right(run: Path) -> None:
    async with serving(good(), run) as address:
        found = await check(address, "/ready").once()
    assert isinstance(found, NotYet)
    assert found.transcript.splitlines()[0] == f"GET {HEALTH}: 200 OK"


async def test_a_transcript_shows_little_of_a_long_answer(run: Path) -> None:
    app = good()
    app.answers[INFO] = (200, "x" * 1_000_000)
    async with serving(app, run) as address:
        found = await check(address).once()
    assert isinstance(found, NotYet)
    assert len(found.transcript) < 500


async def test_an_answer_without_end_is_read_as_far_as_it_matters(run: Path) -> None:
    app = good()
    app.endless = "/events"
    async with serving(app, run) as address:
        assert await check(address, "/events").once() == Healthy()


async def test_nobody_there_is_not_healthy(run: Path) -> None:
    found = await check(Address(unix=run / "nobody")).once()
    assert isinstance(found, NotYet)
    assert HEALTH in found.transcript


async def test_the_first_probe_is_at_once_and_later_ones_follow(run: Path) -> None:
    app = good()
    app.answers[HEALTH] = (503, "")

    async def recover() -> None:
        if len(app.asked) == 3:
            app.answers[HEALTH] = (200, "OK")

    app.on_ask = recover
    async with serving(app, run) as address:
        assert await check(address).until_healthy(30) == Healthy()
    assert len(app.asked) == 4


async def test_it_ends_with_the_last_transcript(run: Path) -> None:
    app = good()
    app.answers[HEALTH] = (503, "warming up")
    async with serving(app, run) as address:
        found = await check(address).until_healthy(0.3)
    assert isinstance(found, NotYet)
    assert "503 warming up" in found.transcript
    assert "attempts in 0.3 s" in found.transcript


async def test_an_answer_that_never_comes_is_not_waited_for_longer(run: Path) -> None:
    app = good()
    gate = asyncio.Event()

    async def hang() -> None:
        await gate.wait()

    app.on_ask = hang
    async with serving(app, run) as address:
        found = await check(address).until_healthy(0.2)
        gate.set()
    assert isinstance(found, NotYet)
    assert "no answer in time" in found.transcript


def test_pauses_grow_from_a_quarter_of_a_second_to_two() -> None:
    pauses = health._pauses()
    assert [next(pauses) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
