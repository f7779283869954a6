"""A start at which the disk says no ends in a sentence, and the next one succeeds."""

from __future__ import annotations

import errno
import re
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from registry.app import open_records
from registry.settings import Bytes, Config, LimitSettings
from storage.errors import StorageError
from tests.asgi import Registry
from tests.faults.seam import Disk, Fault
from tests.faults.sweep import descriptors


def config(data: Path) -> Config:
    return Config(data=data, limits=LimitSettings(reserve=Bytes(1 << 16)))


class Alike(Disk):
    """One of the 512 directories of blobs is enough."""

    def _fails(self, name: str, *arguments: object) -> Fault | None:
        if arguments and re.search(r"/[0-689a-f][0-9a-f]$", str(arguments[0])):
            return None
        return super()._fails(name, *arguments)


async def start(data: Path) -> None:
    async with open_records(config(data)):
        pass


@pytest.mark.parametrize(
    ("fresh", "number", "lasting", "every"),
    [
        pytest.param(False, errno.EIO, False, 1, id="again, EIO once"),
        pytest.param(False, errno.ENOSPC, False, 3, id="again, ENOSPC once"),
        pytest.param(False, errno.ENOSPC, True, 1, id="again, ENOSPC for ever"),
        pytest.param(False, errno.EMFILE, True, 5, id="again, EMFILE for ever"),
        pytest.param(True, errno.EIO, False, 15, id="first, EIO once"),
        pytest.param(True, errno.ENOSPC, True, 16, id="first, ENOSPC for ever"),
    ],
)
async def test_whichever_call_of_a_start_fails_the_next_start_succeeds(
    tmp_path: Path, fresh: bool, number: int, lasting: bool, every: int
) -> None:
    disk, data = Alike(), tmp_path / "data"
    await start(data)  # what is opened once and kept, by whomever
    baseline = descriptors()
    points = 0
    with disk.between():
        for at in range(1, 1000, every):
            if fresh:
                shutil.rmtree(data)
            # What is suppressed is what `serve` makes a sentence of.
            with disk.failing(Fault(number, at, lasting)), suppress(OSError, StorageError):
                await start(data)
            if not disk.met:
                break
            points += 1
            assert descriptors() == baseline, (at, disk.met[0])
            async with open_records(config(data)) as records:
                registry = Registry(records.store)
                await registry.push_image("app", f"v{at}")
                assert records.store.reserve.whole
    assert points >= 40 // every
