"""A full disk, as clients see it: pushes are refused at the door, and everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.filesystem.reserve import FilesystemReserve
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import IMAGE, Registry, digest_of, image

BLOB = b"a blob"
DIGEST = digest_of(BLOB)


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """With an image, a blob and an upload under way; the reserve was given up then."""
    layout = Layout.open(tmp_path / "data")
    reserve = FilesystemReserve(layout, 1 << 16)
    await reserve.fill()
    store = await Store.open(
        await SQLite.open(layout), FilesystemBlobs(layout, reserve), reserve=reserve
    )
    found = Registry(store)
    await found.push_image("app", "v1")
    await found.push_blob("app", BLOB)
    yield found
    await store.close()


PUSHES = [
    pytest.param("POST", f"blobs/uploads/?digest={DIGEST}", id="blob at once"),
    pytest.param("POST", "blobs/uploads/", id="session"),
    pytest.param("POST", f"blobs/uploads/?mount={DIGEST}", id="mount"),
    pytest.param("PATCH", "SESSION", id="chunk"),
    pytest.param("PUT", f"SESSION?digest={DIGEST}", id="end of a session"),
    pytest.param("PUT", "manifests/v2", id="manifest"),
]


@pytest.mark.parametrize(("method", "target"), PUSHES)
async def test_a_push_is_refused_before_its_body_is_read(
    registry: Registry, method: str, target: str
) -> None:
    session = await registry.start_upload("app")
    await registry.store.reserve.give_up()
    path = target.replace("SESSION", session) if "SESSION" in target else f"/v2/app/{target}"
    answer = await registry(method, path, body=image(), headers={"Content-Type": IMAGE})
    assert answer.status == 507
    assert answer.reads == 0
    assert answer.code == "UNKNOWN"
    [error] = answer.json["errors"]
    assert "disk is full" in error["message"]
    assert "delete what is not needed" in error["message"]
    await registry.store.reserve.fill()
    assert (await registry("GET", session)).status == 204  # it can go on


READS = [
    ("GET", f"blobs/{DIGEST}", 200),
    ("HEAD", f"blobs/{DIGEST}", 200),
    ("GET", "manifests/v1", 200),
    ("HEAD", "manifests/v1", 200),
    ("GET", "tags/list", 200),
    ("GET", f"referrers/{DIGEST}", 200),
    ("DELETE", f"blobs/{DIGEST}", 202),
    ("DELETE", "manifests/v1", 202),
    ("DELETE", f"manifests/{digest_of(image())}", 202),
]


@pytest.mark.parametrize(("method", "target", "status"), READS)
async def test_reading_and_deleting_go_on(
    registry: Registry, method: str, target: str, status: int
) -> None:
    await registry.store.reserve.give_up()
    assert (await registry("GET", "/v2/")).status == 200
    assert (await registry("GET", "/v2/_catalog")).json == {"repositories": ["app"]}
    assert (await registry(method, f"/v2/app/{target}")).status == status


async def test_an_upload_can_be_looked_at_and_cancelled(registry: Registry) -> None:
    session = await registry.start_upload("app")
    await registry.store.reserve.give_up()
    assert (await registry("GET", session)).status == 204
    assert (await registry("DELETE", session)).status == 204
