"""A server's life on a disk that logs, and the disks that power cuts would leave of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry import server
from registry.config import load
from tests.power import check
from tests.power.check import Checked
from tests.power.filesystems import ROOM, Filesystem, Unmountable, recording
from tests.power.history import History
from tests.power.images import Image
from tests.power.log import Log
from tests.power.scenario import Scenario

COLLECTED: Final = 8  # in one of so many images garbage is collected too
_BLOCK: Final = 1 << 16  # bytes; where nothing was ever written, nothing is copied


@dataclass(frozen=True, slots=True)
class Recording:
    """What a server did to a disk that began as `base`, and what it told its client."""

    base: Path
    log: Log
    history: History


def record(
    filesystem: Filesystem, scratch: Path, mode: str, scenario: Scenario, *, fresh: bool
) -> Recording:
    """Run the scenario once; `fresh`, with a data directory that the server has to make first."""
    base, log, inside = scratch / "base", scratch / "log", scratch / "inside"
    inside.mkdir()
    (scratch / "outside").mkdir()
    data = inside / "data"
    filesystem.format(base)
    if not fresh:
        with filesystem.mounted(base, inside):
            asyncio.run(server.prepare(load(flags={"data": str(data), **ROOM})))
    with (
        recording(base, log, scratch / "outside") as disk,
        filesystem.mounted(disk, inside),
    ):
        history = scenario.run(
            data, scratch / "server.log", mode, lambda: log.stat().st_size if log.exists() else 0
        )
        size = log.stat().st_size  # what unmounting writes comes after the last cut
    found = Log.read(log, size)
    log.unlink()
    return Recording(base, found, history.counted(found.count))


def replay(
    recorded: Recording, filesystem: Filesystem, scratch: Path, images: Sequence[Image]
) -> Iterator[tuple[Image, Checked | Unmountable]]:
    """Make each image, which come in the order of the log; mount it, and look."""
    check.quiet()
    directory, path = scratch / "inside", scratch / "image"
    flushed = _Disk(recorded.base, filesystem.size)
    done = 0
    for number, image in enumerate(images):
        for write in recorded.log.records[done : image.flushed]:
            if write is not None:
                flushed.write(write.offset, write.data)
        done = image.flushed
        flushed.copy(path)
        _keep(path, recorded.log, image)
        try:
            with filesystem.mounted(path, directory):
                looking = check.look(
                    directory / "data",
                    recorded.history,
                    image.cut,
                    collect=number % COLLECTED == 0,
                )
                yield image, asyncio.run(looking)
        except Unmountable as error:
            yield image, error


class _Disk:
    """What is on a disk for certain."""

    def __init__(self, base: Path, size: int) -> None:
        self._bytes = bytearray(size)
        self._used: set[int] = set()
        with base.open("rb") as file:
            at = 0
            while at < size:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:  # nothing but holes
                    break
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                self.write(at, os.pread(file.fileno(), end - at, at))
                at = end

    def write(self, offset: int, data: bytes) -> None:
        self._bytes[offset : offset + len(data)] = data
        self._used.update(range(offset // _BLOCK, (offset + len(data) - 1) // _BLOCK + 1))

    def copy(self, path: Path) -> None:
        view = memoryview(self._bytes)
        with path.open("wb") as file:
            file.truncate(len(view))
            for block in self._used:
                start = block * _BLOCK
                os.pwrite(file.fileno(), view[start : start + _BLOCK], start)


def _keep(path: Path, log: Log, image: Image) -> None:
    with path.open("r+b") as file:
        for part in image.kept:
            write = log.records[part.record]
            assert write is not None
            data = write.data[part.start : part.end]
            os.pwrite(file.fileno(), data, write.offset + part.start)
