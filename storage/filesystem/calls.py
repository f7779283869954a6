"""The calls by which the store touches the disk: the one place to put a fault at any of them.

They are the functions of `os` and `fcntl` themselves, under names of this module, so a call costs
what it always cost. Whoever works on the disk says `calls.pwrite`, never `os.pwrite`; a test puts
something else in its place, and fails or dies at the n-th of them.
"""

from __future__ import annotations

from fcntl import flock
from os import (
    close,
    fchmod,
    fdatasync,
    fstat,
    fstatvfs,
    fsync,
    ftruncate,
    listdir,
    lstat,
    mkdir,
    open,
    posix_fallocate,
    pread,
    preadv,
    pwrite,
    rename,
    scandir,
    unlink,
    write,
)

__all__ = [
    "close",
    "fchmod",
    "fdatasync",
    "flock",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "listdir",
    "lstat",
    "mkdir",
    "open",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "rename",
    "scandir",
    "unlink",
    "write",
]
