"""Killed before each step of appending, of beginning a file, and of removing old ones."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import chain
from storage.chain import Checked, Wrong
from storage.filesystem import calls
from storage.filesystem.chained import ChainFiles, read_files
from storage.filesystem.layout import AuditRoom
from tests.storage.crash import Steps, forked

COUNT = 12


def writer(root: Path) -> ChainFiles:
    # Two or three entries fill a file, and two files are kept.
    return ChainFiles(AuditRoom.open(root), size=500, keep=2, now=lambda: 1e9)


def tell_all(root: Path, die: Callable[[], None]) -> Callable[[int], Any]:
    """A process that appends, and says of each entry that it is durable."""

    async def work(told: int) -> None:
        files = writer(root)
        die()
        for number in range(COUNT):
            files.append([{"action": "tag.delete", "n": number}])
            os.write(told, b"%d\n" % number)

    return work


def numbers(root: Path) -> list[int]:
    lines = [raw for _, found in read_files(AuditRoom(root)) for raw in found]
    contents = [json.loads(raw) for raw in lines if raw.endswith(b"\n") and chain.read(raw[:-1])]
    return [content["n"] for content in contents if "n" in content]


def check(root: Path) -> Checked:
    return chain.verify(read_files(AuditRoom(root)))


def is_sound(root: Path, acknowledged: list[int], *, torn: bool) -> None:
    """What a crash may leave, before and after the next writer."""
    broken = check(root).broken
    assert broken is None or (torn and broken.wrong is Wrong.TORN), broken
    written = numbers(root)
    # The one under way may be there already, and nobody was told; the oldest went with their file.
    if written and written[-1] == len(acknowledged):
        acknowledged = [*acknowledged, written[-1]]
    assert (written or acknowledged)[-1:] == acknowledged[-1:]
    assert written == acknowledged[len(acknowledged) - len(written) :]
    assert len(written) >= min(len(acknowledged), 2)
    was_torn = broken is not None

    files = writer(root)
    files.append([{"action": "tag.delete", "n": len(acknowledged)}])
    files.append([{"action": "tag.delete", "n": len(acknowledged) + 1}])
    files.close()

    assert check(root).broken is None
    assert numbers(root)[-1] == len(acknowledged) + 1
    if was_torn:
        lines = [raw for _, found in read_files(AuditRoom(root)) for raw in found]
        assert any(b'"audit.repair"' in raw for raw in lines)


def test_killed_before_any_step_it_goes_on_from_what_was_told(tmp_path: Path) -> None:
    died = 0
    for number in range(1, 1000):
        root = tmp_path / str(number)
        status, told = forked(tell_all(root, Steps(number).watch))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        died += 1
        is_sound(root, [int(line) for line in told], torn=False)
    assert died > 60


class Half:
    """Writes a part of the n-th write, and dies."""

    def __init__(self, at: int, part: float) -> None:
        self._at = at
        self._part = part

    def watch(self) -> None:
        for name in ("write", "pwrite"):
            setattr(calls, name, self._watched(getattr(calls, name)))

    def _watched(self, real: Callable[..., int]) -> Callable[..., int]:
        def halved(file: int, data: bytes, *where: int) -> int:
            self._at -= 1
            if self._at == 0:
                real(file, bytes(data)[: int(len(data) * self._part)], *where)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(file, data, *where)

        return halved


@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_killed_within_any_write_the_next_writer_closes_what_is_left(
    tmp_path: Path, part: float
) -> None:
    died = torn = 0
    for number in range(1, 100):
        root = tmp_path / str(number)
        status, told = forked(tell_all(root, Half(number, part).watch))
        if status == 0:
            break
        died += 1
        broken = check(root).broken
        torn += broken is not None
        is_sound(root, [int(line) for line in told], torn=True)
    assert died >= COUNT
    assert torn > 3


def test_killed_while_it_closes_what_a_crash_left_that_is_closed_once_more(tmp_path: Path) -> None:
    for number in range(1, 20):
        root = tmp_path / str(number)
        files = writer(root)
        files.append([{"action": "tag.delete", "n": 0}])
        files.close()
        [path] = root.glob("*.jsonl")
        with path.open("ab") as file:
            file.write(b"\0" * 3000)

        async def work(told: int, root: Path = root, number: int = number) -> None:
            files = writer(root)
            Steps(number).watch()
            files.append([{"action": "tag.delete", "n": 1}])

        status, _ = forked(work)
        files = writer(root)
        files.append([{"action": "tag.delete", "n": 2}])
        files.close()
        lines = [raw for _, found in read_files(AuditRoom(root)) for raw in found]
        assert any(b'"audit.repair"' in raw for raw in lines)
        assert check(root).broken is None
        if status == 0:
            return
    raise AssertionError("it dies for ever")
