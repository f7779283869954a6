"""What a client over a connection sees of being refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from registry.auth.scope import Grant
from registry.v2 import V2
from tests.asgi import digest_of, open_store
from tests.registry.auth.granting import Granting, basic

PATIENCE = 20.0  # seconds after which an answer counts as missing
GATE = Granting({"user:pusher": [Grant.parse("acme/*", ["push"])]})


@pytest.fixture(params=["h11", "httptools"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    async with open_store(tmp_path) as store:
        app = V2(store, moved=lambda: None, gate=GATE)
        config = uvicorn.Config(app, http=request.param, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),
            "127.0.0.1",
            0,
        )
        yield server.sockets[0].getsockname()[1]
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)


async def first_answer(port: int, headers: dict[str, str]) -> bytes:
    """To a push whose body the client keeps until it is told to go on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [
        f"POST /v2/acme/shop/blobs/uploads/?digest={digest_of(b'x')} HTTP/1.1",
        *("Host: localhost", "Content-Length: 1", "Expect: 100-continue"),
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, b"401"),
        (basic("pusher", "wrong"), b"401"),
        (basic("other"), b"403"),
        (basic("pusher"), b"100"),
    ],
)
async def test_only_who_may_push_is_told_to_go_on(
    port: int, headers: dict[str, str], status: bytes
) -> None:
    answer = await first_answer(port, headers)
    assert answer.startswith(b"HTTP/1.1 " + status)
    if status != b"100":
        assert b"connection: close" in answer.lower()
