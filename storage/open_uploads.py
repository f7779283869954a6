"""How many uploads may be open, and how many bytes may lie in them.

Whoever may push could otherwise fill the store with sessions that are never closed. What is open is
counted from the store itself, since other processes open and close uploads too: at most once a
second, and always before something is refused. Between two counts a process knows only of its own,
so the limits hold give or take what all others open in a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from storage.blobs import BlobStore
from storage.errors import UploadsTooMany

FRESH: Final = 1.0  # seconds that a count is good for; counting 10,000 uploads takes 15 ms


class OpenUploads:
    """The uploads of one store against its limits; None: no limit.

    `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        most: int | None = None,
        most_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._most = most
        self._most_bytes = most_bytes
        self._clock = clock
        self._counted = float("-inf")
        self._uploads = self._bytes = 0
        self._lock = asyncio.Lock()

    async def check(self, *, uploads: int = 0, size: int = 0) -> None:
        """Is there room for so many more uploads and bytes? Raises UploadsTooMany."""
        if self._most is None and self._most_bytes is None:
            return
        if self._clock() - self._counted >= FRESH:
            await self._count()
        refusal = self._refusal(uploads, size)
        if refusal is not None and self._uploads + self._bytes:
            await self._count()  # some may have ended since
            refusal = self._refusal(uploads, size)
        if refusal is not None:
            raise UploadsTooMany(refusal)

    def add(self, *, uploads: int = 0, size: int = 0) -> None:
        """So much was opened and written since the last count."""
        self._uploads += uploads
        self._bytes += size

    def _refusal(self, uploads: int, size: int) -> str | None:
        if self._most is not None and uploads and self._uploads + uploads > self._most:
            return (
                f"{self._uploads} uploads are open, as many as may be; close or cancel some, or try"
                " again later"
            )
        if self._most_bytes is not None and size and self._bytes + size > self._most_bytes:
            return (
                f"{self._bytes} bytes lie in open uploads, and with {size} more it would be over"
                f" {self._most_bytes:d}; close or cancel some, or try again later"
            )
        return None

    async def _count(self) -> None:
        began = self._clock()
        async with self._lock:
            if self._counted >= began:  # somebody else has just counted for us
                return
            now = self._clock()
            self._uploads, self._bytes = await self._blobs.open_uploads()
            self._counted = now
