"""Blobs in memory, for one process: what tests start without a disk."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from storage.blobs import PIECE, Flaw, Pace, at_once
from storage.digest import Algorithm, Digest
from storage.errors import BlobUnknown, Damaged, DigestMismatch, UploadOffset, UploadUnknown


class MemoryBlobs:
    """BlobStore that forgets everything when it is closed."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.held: set[str] = set()
        self.written: dict[str, float] = {}
        self.committing: list[Digest] = []

    async def open(self, digest: Digest) -> MemoryBlob:
        try:
            return MemoryBlob(digest, self.blobs[digest])
        except KeyError:
            raise BlobUnknown(f"no blob {digest}") from None

    async def remove(self, digest: Digest) -> None:
        self.blobs.pop(digest, None)

    async def discard(self, digest: Digest, needed: Callable[[], Awaitable[bool]]) -> bool:
        if digest in self.committing:
            return False
        if not await needed() and digest not in self.committing:
            await self.remove(digest)
        return True

    @property
    def parts(self) -> int:
        return 1

    async def kept(self, part: int) -> list[tuple[Digest, int]]:
        return [(digest, len(data)) for digest, data in self.blobs.items()]

    async def survey(self, blobs: Sequence[tuple[Digest, int]]) -> list[tuple[Digest, Flaw]]:
        found = ((digest, self._look(digest, size)) for digest, size in blobs)
        return [(digest, Flaw(reason)) for digest, reason in found if reason is not None]

    def _look(self, digest: Digest, size: int) -> str | None:
        data = self.blobs.get(digest)
        if data is None:
            return "its bytes are gone"
        return None if len(data) == size else f"it has {len(data)} bytes, not {size}"

    async def scrub(self, digest: Digest, pace: Pace = at_once) -> Flaw | None:
        data = self.blobs.get(digest)
        if data is None:
            return Flaw("its bytes are gone")
        await pace(len(data))
        return None if digest.fits(data) else Flaw("its bytes are not what they were")

    async def set_aside(
        self, digest: Digest, mark: Callable[[], Awaitable[None]], *, leave: bool = False
    ) -> bool:
        data = self.blobs.get(digest)
        if digest in self.committing or (data is not None and digest.fits(data)):
            return False
        await mark()
        if not leave:
            self.blobs.pop(digest, None)
        return True

    async def strangers(self, part: int) -> list[str]:
        return []

    async def expire_uploads(self, before: float) -> list[int]:
        stale = [key for key in self.uploads if self.written[key] < before and key not in self.held]
        return [len(self.uploads.pop(key)) for key in stale]

    async def open_uploads(self) -> tuple[int, int]:
        return len(self.uploads), sum(map(len, self.uploads.values()))

    async def start_upload(self, key: str, algorithm: Algorithm) -> MemoryUpload:
        if key in self.uploads:
            raise FileExistsError(f"the upload {key} was started before")
        self.uploads[key] = bytearray()
        self.written[key] = time.time()
        return MemoryUpload(self, key)

    async def resume_upload(self, key: str) -> MemoryUpload:
        return MemoryUpload(self, key)

    async def close(self) -> None:
        self.blobs.clear()
        self.uploads.clear()


class MemoryBlob:
    def __init__(self, digest: Digest, data: bytes) -> None:
        self.size = len(data)
        self._digest = digest
        self._data = data
        self._file = -1

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        end = self.size if end is None else min(end, self.size)
        if (start, end) == (0, self.size) and self._digest.algorithm.digest(self._data) != (
            self._digest
        ):
            raise Damaged(f"the bytes of blob {self._digest} are not what they were")
        for at in range(start, end, PIECE):
            yield self._data[at : min(at + PIECE, end)]

    async def fileno(self) -> int:
        if self._file < 0:
            self._file = os.memfd_create("blob")
            os.write(self._file, self._data)
        return self._file

    async def close(self) -> None:
        self._data = b""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class MemoryUpload:
    def __init__(self, store: MemoryBlobs, key: str) -> None:
        self._store = store
        self._key = key
        self._holding = False
        self._committed: Digest | None = None
        self.size = len(self._bytes())

    async def hold(self) -> None:
        if self._holding:
            return
        self.size = len(self._bytes())
        if self._key in self._store.held:
            raise UploadOffset("somebody else is writing this upload", size=self.size)
        self._store.held.add(self._key)
        self._holding = True

    async def write(self, data: bytes) -> None:
        kept = self._held()
        kept += data
        self._store.written[self._key] = time.time()
        self.size = len(kept)

    async def truncate(self, size: int) -> None:
        kept = self._held()
        if size > len(kept):
            raise ValueError(f"an upload of {len(kept)} bytes cannot be cut to {size}")
        del kept[size:]
        self.size = size

    async def commit(self, digest: Digest) -> int:
        data = bytes(self._held())
        actual = digest.algorithm.digest(data)
        if actual != digest:
            raise DigestMismatch(f"the digest of the {len(data)} bytes is {actual}, not {digest}")
        self._store.blobs[digest] = data
        self._store.committing.append(digest)
        self._committed = digest
        await self.cancel()
        self._let_go()
        return len(data)

    async def cancel(self) -> None:
        self._store.uploads.pop(self._key, None)

    async def close(self) -> None:
        self._let_go()
        if self._committed is not None:
            self._store.committing.remove(self._committed)
            self._committed = None

    def _let_go(self) -> None:
        if self._holding:
            self._holding = False
            self._store.held.discard(self._key)

    def _bytes(self) -> bytearray:
        try:
            return self._store.uploads[self._key]
        except KeyError:
            raise UploadUnknown("no such upload; start a new one") from None

    def _held(self) -> bytearray:
        if not self._holding:
            raise RuntimeError("an upload must be held before it is changed")
        return self._bytes()
