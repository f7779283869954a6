"""What a read finds wrong is marked and put aside, so that it is found once and not served again.

Bytes that are wrong go into the store's own quarantine, for whoever wants to look at them; the
links stay, so that the repositories know what they miss. Which rows say so, and what they do, is in
storage.records.damage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from storage.blobs import Blob, BlobStore
from storage.digest import Digest
from storage.errors import Damaged
from storage.records import damage
from storage.records.database import Database


async def condemn(
    database: Database,
    blobs: BlobStore,
    digest: Digest,
    reason: str,
    now: float,
    *,
    leave: bool = False,
) -> bool:
    """Mark a blob and put its bytes aside, if they are still those that were found wrong.

    With `leave` they stay where they are. On return both are durable. False when a push is putting
    it right just now, or has.
    """

    async def mark() -> None:
        await database.write(lambda c: damage.mark_blob(c, digest, reason, now))

    return await blobs.set_aside(digest, mark, leave=leave)


class Watched:
    """A blob that tells what its bytes turn out to be. Blob; costs two calls a piece."""

    __slots__ = ("_blob", "_found", "size")

    def __init__(self, blob: Blob, found: Callable[[Damaged], Awaitable[None]]) -> None:
        self._blob = blob
        self._found = found
        self.size = blob.size

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return _Chunks(self._blob.chunks(start, end), self._found)

    async def fileno(self) -> int:
        return await self._blob.fileno()

    async def close(self) -> None:
        await self._blob.close()


class _Chunks(AsyncIterator[bytes]):
    __slots__ = ("_chunks", "_found")

    def __init__(
        self, chunks: AsyncIterator[bytes], found: Callable[[Damaged], Awaitable[None]]
    ) -> None:
        self._chunks = chunks
        self._found = found

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except Damaged as error:
            # What cannot be written down now is found again, so it is the error that counts.
            with suppress(OSError, sqlite3.Error):
                await self._found(error)
            raise
