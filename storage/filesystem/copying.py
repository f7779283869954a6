"""Copying a blob: what arrived is hashed, and is durable before it has its name.

Where a file system can share bytes between files (XFS, btrfs), the kernel does so; elsewhere it
copies without bringing them to this process. They are then read back, out of the page cache, since
only what was kept tells whether the copy is right.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from storage.blobs import PIECE
from storage.digest import SHA256, Digest
from storage.errors import Damaged
from storage.filesystem import calls, durable

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def copy(source: int, draft: str, digest: Digest, *, mode: int = 0o400) -> int:
    """Copy an open file to a new one; return its size in bytes. Durable but for its name.

    Raises Damaged when the source cannot be read, or what arrived is not what the digest names; and
    OSError when the copy cannot be written. The draft stays then.
    """
    target = calls.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        size = _copy(source, target, digest)
        durable.sync_file(target)
        calls.fchmod(target, mode)  # a blob is never written again
    finally:
        calls.close(target)
    return size


def check(file: int, digest: Digest) -> int:
    """Read an open file to its end; its size in bytes. Raises Damaged."""
    hasher, at = digest.algorithm.new(), 0
    while piece := _read(file, at, digest):
        hasher.update(piece)
        at += len(piece)
    _compare(hasher.hexdigest(), digest)
    return at


def digest_of(path: str) -> Digest:
    """The sha256 of a file."""
    file = calls.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        hasher, at = SHA256.new(), 0
        while piece := calls.pread(file, PIECE, at):
            hasher.update(piece)
            at += len(piece)
    finally:
        calls.close(file)
    return Digest(SHA256, hasher.hexdigest())


def _copy(source: int, target: int, digest: Digest) -> int:
    hasher, at, in_kernel = digest.algorithm.new(), 0, True
    while True:
        count = _copy_in_kernel(source, target, at) if in_kernel else 0
        if not count:
            # The end; or what the kernel does not copy, or cannot read: then this says so.
            in_kernel = False
            piece = _read(source, at, digest)
            if not piece:
                break
            _write(target, piece, at)
            count = len(piece)
        end = at + count
        while at < end:
            piece = calls.pread(target, end - at, at)
            if not piece:
                raise OSError(errno.EIO, f"the copy of blob {digest} became shorter")
            hasher.update(piece)
            at += len(piece)
    _compare(hasher.hexdigest(), digest)
    return at


def _copy_in_kernel(source: int, target: int, at: int) -> int:
    try:
        return calls.copy_file_range(source, target, PIECE, at, at)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return 0


def _read(file: int, at: int, digest: Digest) -> bytes:
    try:
        return calls.pread(file, PIECE, at)
    except OSError as error:
        raise Damaged(f"blob {digest} cannot be read ({error.strerror})") from error


def _write(file: int, piece: bytes, at: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = calls.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


def _compare(encoded: str, digest: Digest) -> None:
    if encoded != digest.encoded:
        raise Damaged(
            f"the bytes of blob {digest} are not what they were: their digest is"
            f" {digest.algorithm.name}:{encoded}"
        )
