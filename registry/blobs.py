"""Pulling and deleting blobs: end-2 and end-10 of the distribution spec."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence

from registry import deletions, ranges
from registry.errors import Header
from registry.exchange import Exchange
from registry.preconditions import entity_tag, none_match
from registry.ranges import Range
from storage.blobs import Blob
from storage.digest import Digest
from storage.errors import BlobUnknown, DigestUnsupported

OCTETS: Header = (b"content-type", b"application/octet-stream")


def location(exchange: Exchange, digest: Digest) -> list[Header]:
    """Headers of an answer to a push: where the blob is now, and what it is."""
    return [
        (b"location", f"/v2/{exchange.name}/blobs/{digest}".encode()),
        (b"docker-content-digest", digest.text.encode()),
    ]


async def pull(exchange: Exchange) -> None:
    """end-2, GET and HEAD. Ranges count for GET only (RFC 9110, section 14.2)."""
    repository = exchange.repository
    digest = _sought(exchange.last)
    headers: list[Header] = [
        (b"docker-content-digest", digest.text.encode()),
        (b"etag", entity_tag(digest).encode()),
        # What a digest names never changes; private, since not everybody may be allowed to see it.
        (b"cache-control", b"private, max-age=31536000, immutable"),
        (b"accept-ranges", b"bytes"),
    ]
    unchanged = none_match(exchange.header(b"if-none-match"), digest)
    if unchanged or exchange.is_head:
        size = await repository.stat_blob(digest)
        if unchanged:
            return await exchange.reply(304, headers)
        return await exchange.reply(200, [OCTETS, *headers], length=size)
    blob = await repository.blob(digest)
    try:
        spans = ranges.parse(_applicable_range(exchange, digest), blob.size)
        if spans is ranges.WHOLE:
            await _send(exchange, 200, [OCTETS, *headers], blob, Range(0, blob.size))
        elif len(spans) == 1:
            content_range = (b"content-range", spans[0].content_range(blob.size).encode())
            await _send(exchange, 206, [OCTETS, content_range, *headers], blob, spans[0])
        else:
            await _send_parts(exchange, headers, blob, spans)
    finally:
        await blob.close()


def _sought(text: str) -> Digest:
    """The digest of what should be here already; of an algorithm unknown here, nothing can be.

    "If the blob is not found in the repository, the response code MUST be `404 Not Found`." Raises
    BlobUnknown, or DigestInvalid for what is broken.
    """
    try:
        return Digest.parse(text)
    except DigestUnsupported as error:
        raise BlobUnknown(str(error)) from None


def _applicable_range(exchange: Exchange, digest: Digest) -> str | None:
    """The Range header, unless If-Range says that the client has a part of something else.

    A date in If-Range never matches: we send no Last-Modified.
    """
    condition = exchange.header(b"if-range")
    if condition is not None and condition.strip() != entity_tag(digest):
        return None
    return exchange.header(b"range")


async def _send(
    exchange: Exchange, status: int, headers: list[Header], blob: Blob, span: Range
) -> None:
    if span.length == 0:
        return await exchange.reply(status, headers)
    return await exchange.stream(status, headers, span.length, blob.chunks(span.start, span.end))


async def _send_parts(
    exchange: Exchange, headers: list[Header], blob: Blob, spans: Sequence[Range]
) -> None:
    """multipart/byteranges: one part for each range, in the order asked (podman counts them)."""
    # Drawn by lot, so that no blob can contain it; a plain token, so that it needs no quotes.
    boundary = secrets.token_hex(16)
    parts = [
        (
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: {span.content_range(blob.size)}\r\n\r\n".encode(),
            span,
        )
        for span in spans
    ]
    end = f"--{boundary}--\r\n".encode()

    async def pieces() -> AsyncIterator[bytes]:
        for head, span in parts:
            yield head
            async for chunk in blob.chunks(span.start, span.end):
                yield chunk
            yield b"\r\n"
        yield end

    length = sum(len(head) + span.length + 2 for head, span in parts) + len(end)
    kind = (b"content-type", f"multipart/byteranges; boundary={boundary}".encode())
    await exchange.stream(206, [kind, *headers], length, pieces())


async def delete(exchange: Exchange) -> None:
    """end-10. The repository lets go of the blob; its bytes are collected with the last link."""
    repository = exchange.repository
    digest = _sought(exchange.last)
    await repository.delete_blob(digest)
    exchange.changed("blob.delete", digest=digest.text)
    await exchange.reply(202)
    await deletions.tell(exchange, lambda forecast: forecast.unlinked(digest))
