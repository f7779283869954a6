"""SPINDLE_TOKEN: with what the commands that ask a server sign in, and to whom it is shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from registry.commands.client import TOKEN, CommandFailed, connect


@dataclass
class Listening:
    url: str = ""
    seen: list[str | None] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("Authorization"))
        if request.path == "/refuses":
            return web.json_response({"errors": [{"message": "sign in first"}]}, status=401)
        return web.json_response({})


@pytest.fixture
async def listening() -> AsyncIterator[tuple[Listening, Listening]]:
    both = Listening(), Listening()
    runners = []
    for one in both:
        application = web.Application()
        application.router.add_get("/{path:.*}", one.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        runners.append(runner)
    yield both
    for runner in runners:
        await runner.cleanup()


async def test_the_token_is_shown_to_the_server_and_to_nobody_else(
    listening: tuple[Listening, Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = listening
    monkeypatch.setenv(TOKEN, "spt_x")
    async with connect(server.url) as api:
        await api.get("/v1/apps")
        await api.get(f"{server.url}/v1/apps")
        await api.get(f"{other.url}/v1/apps")
        await api.get(f"{other.url}/?{server.url}/")
    assert server.seen == ["Bearer spt_x"] * 2
    assert other.seen == [None] * 2


async def test_without_one_nothing_is_shown_and_a_refusal_says_what_to_do(
    listening: tuple[Listening, Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = listening
    monkeypatch.delenv(TOKEN, raising=False)
    async with connect(server.url) as api:
        with pytest.raises(CommandFailed, match=r"sign in first \(SPINDLE_TOKEN"):
            await api.get("/refuses")
    assert server.seen == [None]
