"""The only place that makes something last.

A name survives a power cut when the directory that holds it was fsynced after the name was made,
and the bytes when the file was fsynced before. An fsync that fails is never tried again: Linux
reports a lost write once and then forgets it, so a second try that succeeds proves nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from storage.filesystem import calls


def sync_file(file: int) -> None:
    """The bytes and the length of an open file survive. Times may not: fdatasync leaves them."""
    calls.fdatasync(file)


def sync_directory(path: str) -> None:
    """The names in a directory survive, and those that are gone stay gone."""
    with opened(path) as directory:
        calls.fsync(directory)


def open_directory(path: str) -> int:
    """One that is no link; the caller closes it."""
    return calls.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A directory, for `publish`."""
    directory = open_directory(path)
    try:
        yield directory
    finally:
        calls.close(directory)


def publish(source: str, target: str, directory: int) -> None:
    """Give a synced file its name in an open directory, in place of any file that had it."""
    calls.rename(source, target)
    calls.fsync(directory)  # rename alone is not durable: the entry lives in the directory


def move(source: str, target: str, directories: tuple[str, str]) -> None:
    """Take something, whatever it is, from one directory to another of the same file system."""
    calls.rename(source, target)
    for directory in directories:
        sync_directory(directory)


def rename(source: str, target: str) -> None:
    """`publish` for many files: durable when the directory is synced, once for all of them."""
    calls.rename(source, target)


def link(file: int, shown: str, target: str) -> None:
    """Give an open file one more name, on its own file system. Not durable; see `publish`.

    `shown` is the name of the open file in /proc. Raises OSError where that cannot be.
    """
    # Only linkat follows /proc to the file, and only a directory's descriptor makes Python call it.
    calls.link(shown, target, src_dir_fd=file, follow_symlinks=True)


def sync_path(path: str) -> None:
    """The bytes of a file that somebody else wrote survive."""
    file = calls.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        sync_file(file)
    finally:
        calls.close(file)


def write_file(target: str, directory: str, data: bytes, *, mode: int = 0o600) -> None:
    """A small file that is either wholly there or not at all. One writer at a time."""
    draft = target + ".new"
    file = calls.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[calls.write(file, view) :]
        sync_file(file)
    finally:
        calls.close(file)
    with opened(directory) as opened_directory:
        publish(draft, target, opened_directory)


def unlink(path: str) -> None:
    """Take a name away, if it is there. Not durable: what comes back is taken away again."""
    with suppress(FileNotFoundError):
        calls.unlink(path)
