"""Where bytes are kept: large, immutable, addressed by digest.

Two drivers implement these protocols (`storage.filesystem`, `storage.memory`), and one suite of
tests holds both to what is written here. A driver knows no repositories: who may see a blob is
decided by rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from storage.digest import Algorithm, Digest

PIECE = 1 << 20  # bytes read or written at once: one hop to a thread costs ~100 us, so 64 KiB
# pieces would spend two seconds per GiB on hops


Pace: TypeAlias = Callable[[int], Awaitable[None]]
"""Called with a number of bytes that were read, and returns when more may be."""


async def at_once(count: int) -> None:
    """Pace of who is waited for."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a blob as it is kept."""

    reason: str
    lost: bool = True
    """Its bytes cannot be served. Otherwise they can, but somebody could change them."""
    unread: bool = False
    """The disk did not give them: they may be right, and be read another day."""


class Blob(Protocol):
    """A blob opened for reading. Stays readable until closed, even if it is removed meanwhile."""

    @property
    def size(self) -> int: ...

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from start up to, not including, end; in pieces of at most PIECE.

        Raises Damaged when the store has fewer bytes than `size` says; and, where the whole blob is
        asked for, in place of the last piece when they are not the bytes that the digest names.
        """
        ...

    async def fileno(self) -> int:
        """An open file that has the bytes, not yet looked at; it is closed by `close`.

        A driver that keeps no files makes one.
        """
        ...

    async def close(self) -> None: ...


class Upload(Protocol):
    """Bytes on their way to become a blob. `write`, `truncate` and `commit` need `hold` first."""

    @property
    def size(self) -> int:
        """Bytes kept so far, as of `resume_upload` or `hold` if another process writes."""
        ...

    async def hold(self) -> None:
        """Be the one writer until `close`, among all processes, and read anew what `size` is.

        Raises UploadOffset while somebody else is it, and UploadUnknown when the upload has ended.
        A process that dies lets go.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Append. After an error `size` tells what was kept. Raises Full before anything is."""
        ...

    async def truncate(self, size: int) -> None:
        """Forget everything past `size` bytes."""
        ...

    async def commit(self, digest: Digest) -> int:
        """Verify and keep the upload; return its size in bytes.

        On return the blob survives a power cut, and the upload is gone. A blob that is there
        already is replaced by these verified bytes, which heals one that was damaged.
        `discard` leaves the blob alone until `close`.
        Raises DigestMismatch (the upload is kept then), and UploadUnknown if it was cancelled
        meanwhile. Bytes that could not be made durable are dropped with the upload.
        """
        ...

    async def cancel(self) -> None:
        """Forget the bytes. Nothing happens if they are gone."""
        ...

    async def close(self) -> None:
        """Let go of the upload without ending it: another process may go on with it."""
        ...


class BlobStore(Protocol):
    """A driver."""

    async def open(self, digest: Digest) -> Blob:
        """Raises BlobUnknown."""
        ...

    async def remove(self, digest: Digest) -> None:
        """Remove the bytes; nothing happens if there are none."""
        ...

    async def discard(self, digest: Digest, needed: Callable[[], Awaitable[bool]]) -> bool:
        """Remove the bytes unless `needed`, which is asked when no `commit` can come between.

        False when somebody commits at the moment, so that it has to be tried again.
        """
        ...

    @property
    def parts(self) -> int:
        """Into how many parts `kept` divides all blobs."""
        ...

    async def kept(self, part: int) -> list[tuple[Digest, int]]:
        """The blobs of one part, with their sizes in bytes."""
        ...

    async def survey(self, blobs: Sequence[tuple[Digest, int]]) -> list[tuple[Digest, Flaw]]:
        """What can be seen of blobs that should have these sizes, without reading them."""
        ...

    async def scrub(self, digest: Digest, pace: Pace = at_once) -> Flaw | None:
        """Read all bytes, from the disk where that can be told apart; what is wrong with them.

        Memory of what lies on the disk is left as it was found.
        """
        ...

    async def set_aside(
        self, digest: Digest, mark: Callable[[], Awaitable[None]], *, leave: bool = False
    ) -> bool:
        """Keep what is wrong under a digest where it is never served; nothing may be there at all.

        With `leave` it stays where it is.

        `mark` is called first, when no `commit` can come between. Nothing happens, and it is False,
        when somebody commits at the moment, or what is there now was not found wrong, here or by
        `chunks`, `survey` or `scrub` before.
        """
        ...

    async def strangers(self, part: int) -> list[str]:
        """Names in a part that no blob can have."""
        ...

    async def expire_uploads(self, before: float) -> list[int]:
        """Forget the uploads to which nothing was written since then (seconds since 1970).

        Those that are held stay. The sizes in bytes of what was forgotten.
        """
        ...

    async def open_uploads(self) -> tuple[int, int]:
        """How many uploads there are, of all processes, and how many bytes lie in them."""
        ...

    async def start_upload(self, key: str, algorithm: Algorithm) -> Upload:
        """Open a new, empty upload under a key of 64 hexadecimal digits that nobody used before.

        `algorithm` is the one the digest will probably have: its hash then runs with the bytes.
        """
        ...

    async def resume_upload(self, key: str) -> Upload:
        """An upload that was started, here or in another process. Raises UploadUnknown."""
        ...

    async def close(self) -> None: ...
