"""Pushing as Spin does it: every blob by POST, PATCH and PUT, then the manifest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from urllib.parse import urljoin

from registry.commands.client import CommandFailed, Server
from storage.digest import SHA256

CHUNK = 4 << 20  # bytes of a PATCH
PIECE = 1 << 16  # bytes handed to the transport at once

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


async def push(
    server: Server, repository: str, tag: str, blobs: Iterable[bytes], manifest: bytes
) -> str:
    """Push an image and its tag; return the manifest's digest. Raises CommandFailed."""
    for blob in blobs:
        await _push_blob(server, repository, blob)
    digest = str(SHA256.digest(manifest))
    async with server.request(
        "PUT",
        f"/v2/{repository}/manifests/{tag}",
        data=manifest,
        headers={"Content-Type": MANIFEST_TYPE},
    ) as answer:
        said = answer.headers.get("Docker-Content-Digest", digest)
    if said != digest:
        raise CommandFailed(f"the server keeps the manifest as {said}, but it is {digest}")
    return digest


async def _push_blob(server: Server, repository: str, blob: bytes) -> None:
    path = f"/v2/{repository}/blobs/uploads/"
    async with server.request("POST", path) as answer:
        location = _location(server.url + path, answer.headers.get("Location"))
    for start in range(0, len(blob), CHUNK):
        chunk = blob[start : start + CHUNK]
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(chunk)),
            "Content-Range": f"{start}-{start + len(chunk) - 1}",
        }
        async with server.request(
            "PATCH", location, data=_pieces(chunk), headers=headers
        ) as answer:
            location = _location(location, answer.headers.get("Location"))
    mark = "&" if "?" in location else "?"
    async with server.request("PUT", f"{location}{mark}digest={SHA256.digest(blob)}"):
        pass


async def _pieces(chunk: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(chunk), PIECE):
        yield chunk[start : start + PIECE]


def _location(asked: str, said: str | None) -> str:
    if said is None:
        raise CommandFailed(f"the server did not say where the upload at {asked} goes on")
    return urljoin(asked, said)
