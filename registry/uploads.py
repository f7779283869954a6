"""Pushing blobs: end-4, end-5, end-6, end-11, end-13 and end-14 of the distribution spec."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from registry import blobs, ranges
from registry.errors import session_headers
from registry.exchange import Exchange
from storage.digest import SHA256, Algorithm, Digest
from storage.errors import DigestInvalid, NameInvalid, SizeInvalid, UploadUnknown
from storage.names import RepositoryName
from storage.repository import Repository, UploadSession

HOLDERS = 16  # repositories that are asked for a blob which is mounted from anywhere


async def start(exchange: Exchange) -> None:
    """end-4: open a session; or take the whole blob at once (4b), or mount one (end-11)."""
    repository = exchange.repository
    mounted = await _mount(exchange, repository)
    if mounted is not None:
        exchange.changed("blob.mount", digest=mounted.text, detail=_source(exchange))
        return await exchange.reply(201, blobs.location(exchange, mounted))
    text = exchange.query("digest")
    digest = Digest.parse(text) if text is not None else None
    name = exchange.query("digest-algorithm")
    algorithm = digest.algorithm if digest else Algorithm.parse(name) if name else SHA256
    # A digest without a body announces what a session will bring.
    if digest is not None and (exchange.length != 0 or digest == algorithm.digest(b"")):
        return await _push_at_once(exchange, repository, digest)
    session = await repository.start_upload(algorithm, principal=exchange.owner)
    path = f"/v2/{exchange.name}/blobs/uploads/{session.id}"
    return await exchange.reply(202, session_headers(path, 0))


async def _mount(exchange: Exchange, repository: Repository) -> Digest | None:
    """What was mounted. None if nothing was asked for or found: an upload is the way then."""
    text = exchange.query("mount")
    if text is None:
        return None
    digest = Digest.parse(text)
    source = exchange.query("from")
    name = _repository_name(source) if source else None
    if source and name is None:
        return None  # where no repository can be, there is no blob either
    caller = exchange.caller
    if caller is not None:
        # Nobody learns of a repository that he may not pull; if it is named, it is not looked for
        # even, so that the time does not tell either.
        named = [name] if name is not None else await repository.holders(digest, HOLDERS)
        reach = (one for one in named if caller.demand_for_mount(one.text, exchange.name))
        name = next(reach, None)
        if name is None:
            return None
    return digest if await repository.mount(digest, name) else None


def _source(exchange: Exchange) -> str:
    source = exchange.query("from")
    return f"from {source}" if source else "from wherever it was"


def _repository_name(text: str) -> RepositoryName | None:
    with suppress(NameInvalid):
        return RepositoryName.parse(text)
    return None


async def _push_at_once(exchange: Exchange, repository: Repository, digest: Digest) -> None:
    exchange.check_body(exchange.registry.blob_limit)
    async with _unless_kept(
        await repository.start_upload(
            digest.algorithm, announced=exchange.length or 0, principal=exchange.owner
        )
    ) as session:
        await session.append(exchange.body(exchange.registry.blob_limit))
        await session.commit(digest)
    exchange.changed("blob.push", digest=digest.text)
    await exchange.reply(201, blobs.location(exchange, digest))


@asynccontextmanager
async def _unless_kept(session: UploadSession) -> AsyncIterator[UploadSession]:
    """Cancel a session that failed: nobody was told its id, so nobody could go on with it."""
    try:
        yield session
    except BaseException:
        with suppress(UploadUnknown):  # it became a blob before it failed
            await session.cancel()
        raise


async def append(exchange: Exchange) -> None:
    """end-5: a chunk, whose place its Content-Range tells, or a stream, which goes to the end."""
    session = await exchange.repository.upload(exchange.last, principal=exchange.owner)
    stream, at, length = _chunk(exchange, session)
    await session.check(exchange.length or 0)
    size = await session.append(stream, at=at, length=length)
    await exchange.reply(202, session_headers(exchange.path, size))


async def finish(exchange: Exchange) -> None:
    """end-6: the last chunk, or the whole blob, or nothing more; then the digest decides."""
    text = exchange.query("digest")
    if text is None:
        raise DigestInvalid("the digest of the whole blob is missing: close with ?digest=…")
    digest = Digest.parse(text)
    session = await exchange.repository.upload(exchange.last, principal=exchange.owner)
    if exchange.length != 0 or exchange.header(b"content-range") is not None:
        stream, at, length = _chunk(exchange, session)
        await session.check(exchange.length or 0)
        await session.commit(digest, stream, at=at, length=length)
    else:
        await session.commit(digest)
    exchange.changed("blob.push", digest=digest.text)
    await exchange.reply(201, blobs.location(exchange, digest))


def _chunk(
    exchange: Exchange, session: UploadSession
) -> tuple[AsyncIterator[bytes], int | None, int | None]:
    """The body, where it has to go and how long it has to be, if its Content-Range says so."""
    left = exchange.registry.blob_limit
    if left is not None:
        left = max(left - session.size, 0)
    exchange.check_body(left)
    header = exchange.header(b"content-range")
    if header is None:
        return exchange.body(left), None, None
    chunk = ranges.parse_chunk(header)
    # An offset that is wrong is told first: by `append`, which knows it best.
    if chunk.start == session.size and exchange.length not in (None, chunk.length):
        raise SizeInvalid(
            f"Content-Range {header} means {chunk.length} bytes, Content-Length {exchange.length}"
        )
    return exchange.body(left), chunk.start, chunk.length


async def status(exchange: Exchange) -> None:
    """end-13: how far it got."""
    session = await exchange.repository.upload(exchange.last, principal=exchange.owner)
    await exchange.reply(204, session_headers(exchange.path, session.size))


async def cancel(exchange: Exchange) -> None:
    """end-14: forget it."""
    session = await exchange.repository.upload(exchange.last, principal=exchange.owner)
    await session.cancel()
    await exchange.reply(204)
