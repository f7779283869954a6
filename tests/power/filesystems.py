"""File systems on disks that are files: made, mounted, and given back.

The program runs in mount and process namespaces of its own (see scripts/powercut), so that however
it ends nothing stays mounted and nothing runs; a loop device goes with its mount.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.power.served import NO_DIRECTORIES

PATIENCE: Final = 60.0  # seconds
ROOM: Final = {"limits.reserve": "64KiB"}  # the disks are small
DISK: Final = "disk"  # the file that tests.power.disk shows
REFUSED: Final = ".refused"  # after the path of a log: the file that says what the disk refuses
# util-linux: an own mount table, so that all is unmounted with its last process, and own processes,
# so that the last one ends with the first.
APART: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Unmountable(Exception):
    """The file system itself did not survive; what it says."""


@dataclass(frozen=True, slots=True)
class Filesystem:
    name: str
    size: int
    """Bytes."""
    make: tuple[str, ...]
    options: str
    forgives: tuple[str, ...] = ()
    """Controls that lose nothing on it."""

    def format(self, image: Path) -> None:
        with image.open("wb") as file:
            file.truncate(self.size)
        subprocess.run([*self.make, str(image)], check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def mounted(self, image: Path, directory: Path) -> Iterator[None]:
        """Raises Unmountable."""
        options = f"loop,{self.options}"
        done = subprocess.run(
            ["mount", "-t", self.name, "-o", options, str(image), str(directory)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Unmountable(done.stderr.strip())
        try:
            yield
        finally:
            _unmount(directory)


FILESYSTEMS: Final[Mapping[str, Filesystem]] = {
    found.name: found
    for found in (
        Filesystem(
            "ext4",
            64 << 20,
            # Nothing is left for a kernel thread to write later.
            (
                *("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-N", "2048"),
                *("-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"),
            ),
            "nodiscard",
        ),
        # The smallest that each makes; nouuid, since all images are the same file system to it.
        Filesystem("xfs", 300 << 20, ("mkfs.xfs", "-q", "-f", "-K"), "nouuid"),
        Filesystem(
            "btrfs",
            256 << 20,
            ("mkfs.btrfs", "-q", "-f", "-K", "-m", "single"),
            "nodiscard",
            # It logs the new name of a file that it has in its log, and so it is in the next fsync.
            forgives=(NO_DIRECTORIES,),
        ),
    )
}


@contextmanager
def recording(image: Path, log: Path, directory: Path) -> Iterator[Path]:
    """The path of a disk that begins as `image` and writes into `log` what it is asked."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.power.disk", str(image), str(log), str(directory)]
    )
    try:
        path = directory / DISK
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the disk did not start")
            time.sleep(0.01)
        yield path
        _unmount(directory)
    finally:
        process.kill()
        process.wait()


@contextmanager
def memory(directory: Path) -> Iterator[Path]:
    """The directory as one in memory: nobody waits for a real disk."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        _unmount(directory)


def _unmount(directory: Path) -> None:
    subprocess.run(["umount", str(directory)], check=True)


def missing() -> str | None:
    """What is not here, or not ours, that takes part in every recording."""
    if os.geteuid() != 0:
        return "root, who may mount,"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return path
    try:
        importlib.import_module("mfusepy")
    except OSError:
        return "libfuse"
    return None
