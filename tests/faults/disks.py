"""Small file systems of our own, to fill: an image, a loop device, a directory."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMount(Exception):
    """Only root may, and not in every container."""


@contextmanager
def mounted(size: int, *options: str) -> Iterator[Path]:
    """An empty ext4 of `size` bytes without a part for root. Raises CannotMount.

    `options` are mkfs's. It is unmounted and gone at the end, whatever happened.
    """
    with tempfile.TemporaryDirectory(prefix="spindle-disk-") as scratch:
        image, directory = Path(scratch, "image"), Path(scratch, "disk")
        directory.mkdir()
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-m", "0", "-F", *options, str(image))
        _run("mount", "-o", "loop", str(image), str(directory))
        try:
            yield directory
        finally:
            # Lazily, since a server that was killed may let go of it a moment later.
            subprocess.run(["umount", "--lazy", directory], check=True)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotMount(f"{command[0]} is not installed") from None
    if done.returncode:
        raise CannotMount(f"{command[0]}: {done.stderr.strip()}")


class Ballast:
    """What others put on the same disk: takes all room, to the last byte or inode."""

    def __init__(self, disk: Path) -> None:
        self._file = disk / "ballast"
        self._names = disk / "names"

    def take_bytes(self) -> None:
        with self._file.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 16, 1 << 12, 1 << 10, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    os.fsync(file.fileno())

    def take_inodes(self) -> None:
        self._names.mkdir(exist_ok=True)
        number = len(list(self._names.iterdir()))
        try:
            while True:
                (self._names / str(number)).touch(exist_ok=False)
                number += 1
        except OSError:
            pass

    def drop(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._names.exists():
            for name in self._names.iterdir():
                name.unlink()
