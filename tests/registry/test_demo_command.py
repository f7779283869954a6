"""`spindle demo`: what is pushed, and how it ends. The deployer is played by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.commands.artifact import http_app
from registry.commands.client import CommandFailed, connect
from registry.commands.push import CHUNK, push
from storage.digest import SHA256
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from tests.deploy.api_server import ApiServer, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with serving(tmp_path) as running:
        yield running


def test_an_artifact_is_what_spin_makes():
    """Against what Spin writes: the locked app last, its digest in the config's label."""
    artifact = http_app("hello", b"\0asm")
    manifest = json.loads(artifact.manifest)
    assert set(manifest) == {"schemaVersion", "config", "layers"}
    assert artifact.manifest == json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    blobs = {str(SHA256.digest(blob)): blob for blob in artifact.blobs}
    described = [manifest["config"], *manifest["layers"]]
    assert {entry["digest"] for entry in described} == set(blobs)
    assert all(entry["size"] == len(blobs[entry["digest"]]) for entry in described)
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.fermyon.spin.application.v1+config",
    ]
    config = json.loads(blobs[manifest["config"]["digest"]])
    assert config == {
        "architecture": "wasm",
        "os": "wasip1",
        "config": {
            "Labels": {"com.fermyon.spin.lockedAppDigest": manifest["layers"][-1]["digest"]}
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    locked = json.loads(blobs[manifest["layers"][-1]["digest"]])
    assert locked["components"][0]["source"]["digest"] == manifest["layers"][0]["digest"]


def test_the_same_application_has_the_same_digest():
    assert http_app("hello", b"a").digest == http_app("hello", b"a").digest
    assert http_app("hello", b"a").digest != http_app("hello", b"b").digest


def test_an_artifact_is_recognised_and_can_run():
    from registry.deploy.spin import recognise

    artifact = http_app("hello", b"\0asm")
    assert recognise(Manifest.parse(artifact.manifest)) is not None


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
async def test_blobs_of_any_size_arrive_whole(server, size):
    blob = bytes(range(256)) * (size // 256) + bytes(size % 256)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/octet-stream",
                "digest": str(SHA256.digest(blob)),
                "size": size,
            },
            "layers": [],
        }
    ).encode()
    async with connect(server.url) as client:
        digest = await push(client, "acme/blobs", "v1", [blob], manifest)
    repository = server.store.repository(RepositoryName.parse("acme/blobs"))
    kept = await repository.manifest(Tag.parse("v1"))
    assert str(kept.digest) == digest
    opened = await repository.blob(SHA256.digest(blob))
    assert b"".join([piece async for piece in opened.chunks()]) == blob
    await opened.close()


async def test_a_push_that_is_refused_says_why(server):
    async with connect(server.url) as client:
        with pytest.raises(CommandFailed, match="ACME"):
            await push(client, "ACME", "v1", [b"x"], b"{}")
        with pytest.raises(CommandFailed, match="schemaVersion"):
            await push(client, "acme/x", "v1", [b"x"], b"{}")


async def test_the_demo_pushes_waits_and_shows_how_to_ask(server, tmp_path):
    from tests.registry.test_apps_command import start

    asked: list[bytes] = []

    async def app(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nHi!")
        writer.close()

    listening = await asyncio.start_server(app, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server.urls["acme/hey"] = f"http://hey.acme.localhost:{port}/"
    process = await start(
        *("demo", "--repository", "acme/hey", "--greeting", "Hi!"), server=server.url
    )
    async with asyncio.timeout(30):
        while "moved" not in server.woken:  # noqa: ASYNC110 - the push is another process
            await asyncio.sleep(0.01)
    (move,) = await server.store.moves(after=0, limit=10)
    revision = await server.journal.admit(move, "localhost")
    assert revision is not None
    await server.make_live(revision)
    async with listening:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    said = out.decode()
    assert f"Pushed acme/hey:latest, {move.digest}" in said
    assert f"\n  http://hey.acme.localhost:{port}/\n" in said
    assert f"curl -H 'Host: hey.acme.localhost:{port}' http://127.0.0.1:{port}/" in said
    assert "It answers: Hi!" in said
    assert f"host: hey.acme.localhost:{port}\r\n".encode() in asked[0].lower()
