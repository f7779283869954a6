"""Upload sessions: how bytes arrive, in one piece or in many, from clients that may vanish."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

from storage.blobs import PIECE, BlobStore, Upload
from storage.digest import Digest
from storage.errors import DigestMismatch, SizeInvalid, UploadOffset, UploadUnknown
from storage.names import RepositoryName
from storage.open_uploads import OpenUploads
from storage.reserve import FULL


def upload_key(repository: RepositoryName, principal: str, id: str) -> str:
    """The key of a session's bytes, by which nobody finds the session of another repository.

    NUL can be in none of the parts, so different parts never give the same text.
    """
    return hashlib.sha256(f"{repository}\0{principal}\0{id}".encode()).hexdigest()


class UploadSession:
    """Bytes on their way into one repository. Every call works on what is kept now.

    Between calls nothing is open, so a session can be forgotten at any time and found again under
    its id, in any process.
    """

    __slots__ = ("_blobs", "_key", "_link", "_linked", "_open_uploads", "id", "size")

    def __init__(
        self,
        id: str,
        size: int,
        *,
        key: str,
        blobs: BlobStore,
        link: Callable[[Digest, int], Awaitable[None]],
        open_uploads: OpenUploads,
        linked: Callable[[Digest], Awaitable[bool]],
    ) -> None:
        """`link` gives the blob to the repository; `linked` tells whether any has it."""
        self.id = id
        self.size = size
        """Bytes kept, as of the last call."""
        self._key = key
        self._blobs = blobs
        self._link = link
        self._linked = linked
        self._open_uploads = open_uploads

    async def check(self, announced: int) -> None:
        """Is there room for so many bytes? Asked before they are read. Raises UploadsTooMany."""
        await self._open_uploads.check(size=announced)

    async def append(
        self, chunks: AsyncIterator[bytes], *, at: int | None = None, length: int | None = None
    ) -> int:
        """Add a stream to the end; return the new size in bytes.

        `at` is where the client believes the end to be, and `length` how much it announced. Raises
        UploadOffset before anything is read when the end is elsewhere or somebody else is writing,
        and SizeInvalid, with nothing added, when the stream has another length. When the stream
        itself raises, the client has vanished: what arrived is kept, and the error goes on.
        Distribution spec, "Pushing a blob in chunks", end-5.
        """
        upload = await self._hold()
        try:
            await self._add(upload, chunks, at, length)
        finally:
            self.size = upload.size
            await upload.close()
        return self.size

    async def commit(
        self,
        digest: Digest,
        chunks: AsyncIterator[bytes] | None = None,
        *,
        at: int | None = None,
        length: int | None = None,
    ) -> int:
        """Verify and keep the upload as a blob of the repository; return its size in bytes.

        On return the blob survives a power cut and the session is gone. A last stream is added as
        by `append`, with its errors; but one without `at` is added wholly or, when anything fails,
        not at all: whoever sends it once more could not say that these are the same bytes. Raises
        DigestMismatch (the session is kept), UploadOffset (somebody else is writing) and
        UploadUnknown. Distribution spec, "Pushing a blob in chunks", end-6.
        """
        upload = await self._hold()
        start, arrived, homeless = upload.size, False, False
        try:
            if chunks is not None:
                await self._add(upload, chunks, at, length)
            arrived = True
            size = await upload.commit(digest)
            # Only now: a link is a promise that the bytes are there. But before `close`: until then
            # the collector leaves alone what has no link yet.
            try:
                await self._link(digest, size)
            except OSError as error:
                homeless = error.errno in FULL
                raise
        except BaseException as error:
            # Of other errors nobody knows whether the file is a blob already, which nobody may cut.
            forget = not arrived or isinstance(error, DigestMismatch)
            if at is None and forget and upload.size > start:
                with suppress(OSError):  # it may be the disk that failed
                    await upload.truncate(start)
            raise
        finally:
            self.size = upload.size
            await upload.close()
            # The bytes had room and the row had none, for certain: of other errors that is not
            # known. Only a look at all the names in the store would find what fills the disk now.
            if homeless:
                with suppress(OSError):
                    await self._blobs.discard(digest, partial(self._linked, digest))
        return size

    async def cancel(self) -> None:
        """Forget session and bytes, also under a writer; fine if they are gone. End-14."""
        with suppress(UploadUnknown):
            upload = await self._blobs.resume_upload(self._key)
            await upload.cancel()

    async def _hold(self) -> Upload:
        upload = await self._blobs.resume_upload(self._key)
        try:
            await upload.hold()
        except UploadOffset as busy:
            self.size = busy.size
            raise
        return upload

    async def _add(
        self, upload: Upload, chunks: AsyncIterator[bytes], at: int | None, length: int | None
    ) -> None:
        start = upload.size
        if at is not None and at != start:
            raise UploadOffset(f"this upload goes on at byte {start}, not {at}", size=start)
        try:
            await _write_stream(upload, chunks, length, self._open_uploads)
        except SizeInvalid:
            await upload.truncate(start)
            raise


async def _write_stream(
    upload: Upload, chunks: AsyncIterator[bytes], length: int | None, open_uploads: OpenUploads
) -> None:
    """Write the stream in pieces of about PIECE, each while the next is on its way.

    Raises SizeInvalid or UploadsTooMany with some of it written.
    """
    pieces: list[bytes] = []
    waiting = received = 0
    writing: asyncio.Task[None] | None = None
    try:
        async for chunk in chunks:
            received += len(chunk)
            if length is not None and received > length:
                raise SizeInvalid(f"more than the announced {length} bytes were sent")
            pieces.append(chunk)
            waiting += len(chunk)
            if waiting >= PIECE:
                if writing is not None:
                    await writing
                    writing = None
                await open_uploads.check(size=waiting)
                open_uploads.add(size=waiting)
                writing = asyncio.create_task(upload.write(b"".join(pieces)))
                pieces, waiting = [], 0
        if length is not None and received < length:
            raise SizeInvalid(f"{received} bytes were sent, and {length} were announced")
    finally:
        # However it ends, what arrived is kept; but nothing goes behind a piece that was not.
        if writing is not None:
            await writing
        if pieces:
            open_uploads.add(size=waiting)
            await upload.write(b"".join(pieces))
