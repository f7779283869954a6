"""The calls by which the store touches the disk: the one place to put a fault at any of them.

They are the functions of `os` and `fcntl` themselves, under names of this module, so a call costs
what it always cost. Whoever works on the disk says `calls.pwrite`, never `os.pwrite`; a test puts
something else in its place, and fails or dies at the n-th of them.
"""

from __future__ import annotations

from fcntl import flock
from os import (
    close,
    copy_file_range,
    fchmod,
    fdatasync,
    fstat,
    fstatvfs,
    fsync,
    ftruncate,
    link,
    listdir,
    lstat,
    mkdir,
    open,
    posix_fadvise,
    posix_fallocate,
    pread,
    preadv,
    pwrite,
    rename,
    rmdir,
    scandir,
    unlink,
    write,
)

__all__ = [
    "close",
    "copy_file_range",
    "fchmod",
    "fdatasync",
    "flock",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "link",
    "listdir",
    "lstat",
    "mkdir",
    "open",
    "posix_fadvise",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "rename",
    "rmdir",
    "scandir",
    "unlink",
    "write",
]
