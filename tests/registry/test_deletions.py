"""Each deletion is one line in the log: what it frees, and when at the earliest."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from registry.v2 import V2
from storage.freed import Forecast
from storage.names import RepositoryName
from tests.asgi import Client, Registry, digest_of, open_store
from tests.registry.test_retain_command import push
from tests.servers import Spindle, get, wait_for


def deletions(server: Spindle) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in found if line["event"] == "deleted"]


def delete(server: Spindle, path: str) -> dict[str, Any]:
    """Delete it; returns the line."""
    before = len(deletions(server))
    assert get(f"http://{server.registry}/v2/{path}", method="DELETE")[0] == 202
    wait_for(lambda: len(deletions(server)) > before, "the line")
    return deletions(server)[-1]


def test_a_deletion_tells_what_becomes_free_and_when(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "collect.untagged=1d") as server:
        digest = push(server, "acme/shop:a", "a")
        push(server, "acme/shop:b", "b")
        began = datetime.now(UTC)
        line = delete(server, f"acme/shop/manifests/{digest}")
        assert (line["repository"], line["reference"]) == ("acme/shop", digest)
        assert (line["frees_at_least"], line["complete"]) == (len("layer a"), True)
        # A day of grace, and an hour of quarantine.
        waits = datetime.fromisoformat(line["not_before"]) - began
        assert timedelta(hours=25) - timedelta(seconds=1) <= waits < timedelta(hours=26)

        line = delete(server, "acme/shop/manifests/b")
        assert (line["reference"], line["frees_at_least"]) == ("b", len("layer b") + len("{}"))


def test_a_blob_that_another_repository_has_frees_nothing(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data") as server:
        push(server, "acme/shop:a", "a")
        push(server, "acme/copy:a", "a")
        layer = digest_of(b"layer a")
        line = delete(server, f"acme/shop/blobs/{layer}")
        assert (line["frees_at_least"], line["not_before"]) == (0, None)
        line = delete(server, f"acme/copy/blobs/{layer}")
        assert line["frees_at_least"] == len("layer a")


def test_what_was_not_deleted_is_no_line(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data") as server:
        push(server, "acme/shop:a", "a")
        url = f"http://{server.registry}/v2/acme/shop/manifests/nothing"
        assert get(url, method="DELETE")[0] == 404
        line = delete(server, "acme/shop/manifests/a")
        assert line["reference"] == "a"
        assert len(deletions(server)) == 1


async def deleted(data: Path, untagged: Callable[[RepositoryName], float | None]) -> list[str]:
    """Delete a manifest; returns what was sent, and when `untagged` was asked among that."""
    order: list[str] = []

    def asked(name: RepositoryName) -> float | None:
        order.append("asked")
        return untagged(name)

    async with open_store(data) as store:
        body = await Registry(store).push_image("acme/shop")
        v2 = V2(store, moved=lambda: None, forecast=Forecast(store, asked, 3600.0))

        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                order.append(message["type"])
                await send(message)

            await v2(scope, receive, sent)

        answer = await Client(noted)("DELETE", f"/v2/acme/shop/manifests/{digest_of(body)}")
        assert answer.status == 202
    return order


async def test_the_answer_does_not_wait_for_it(tmp_path: Path) -> None:
    order = await deleted(tmp_path / "data", lambda _: None)
    assert order == ["http.response.start", "http.response.body", "asked"]


async def test_where_it_cannot_be_told_nothing_else_fails(tmp_path: Path) -> None:
    def broken(name: RepositoryName) -> float | None:
        raise OSError("the disk is gone")

    order = await deleted(tmp_path / "data", broken)
    assert order == ["http.response.start", "http.response.body", "asked"]
