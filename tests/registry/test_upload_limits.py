"""Too many uploads: what a client is told, and that its bytes are not read for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.store import Store
from tests.asgi import Answer, Registry, digest_of, open_store

LIMIT = 1 << 20  # bytes in open uploads


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with open_store(tmp_path / "data") as store:
        limited = Store(store.database, store.blobs, uploads=2, upload_bytes=LIMIT)
        yield Registry(limited)


def is_refusal(answer: Answer) -> bool:
    return (answer.status, answer.code) == (429, "TOOMANYREQUESTS") and bool(
        answer.header("retry-after")
    )


async def test_one_upload_too_many_is_refused(registry: Registry) -> None:
    for _ in range(2):
        assert (await registry("POST", "/v2/app/blobs/uploads/")).status == 202
    answer = await registry("POST", "/v2/app/blobs/uploads/")
    assert is_refusal(answer)
    assert "close or cancel some" in answer.body.decode()


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_too_many_bytes_are_refused_unread(registry: Registry, method: str) -> None:
    location = (await registry("POST", "/v2/app/blobs/uploads/")).header("location")
    body = b"x" * (LIMIT + 1)
    query = f"?digest={digest_of(body)}" if method == "PUT" else ""
    answer = await registry(method, f"{location}{query}", body=body)
    assert is_refusal(answer)
    assert answer.reads == (1 if registry.chunked else 0)
    assert answer.header("connection") == "close"


async def test_at_once_too(registry: Registry) -> None:
    body = b"x" * (LIMIT + 1)
    answer = await registry("POST", f"/v2/app/blobs/uploads/?digest={digest_of(body)}", body=body)
    assert is_refusal(answer)
    assert answer.reads == 0


async def test_what_ended_is_not_counted(registry: Registry) -> None:
    body = b"x" * LIMIT
    for _ in range(4):
        path = f"/v2/app/blobs/uploads/?digest={digest_of(body)}"
        assert (await registry("POST", path, body=body)).status == 201
