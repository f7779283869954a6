"""The short form of scripts/powercut: it would notice a loss; and what it takes for possible."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import tools
from tests.power.check import MISSING
from tests.power.cut import Result, verdict
from tests.power.filesystems import APART, missing
from tests.power.history import Expected, History, Key, Step
from tests.power.images import SECTOR, Image, Part, plan
from tests.power.log import FLUSHED, Log, Write, written
from tests.power.served import CONTROLS, SHIPPED, TWICE


def apart(module: str, *arguments: str) -> tuple[int, str]:
    """Run a program that mounts; its exit status and what it said."""
    for program in ("unshare", "mount", "umount", "mkfs.ext4"):
        tools.require(program)
    if lacking := missing():
        tools.without(f"a disk of our own takes {lacking}")
    done = subprocess.run(
        [*APART, sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_was_acknowledged_survives_a_power_cut_and_the_controls_lose_it() -> None:
    short = ("--images", "150", "--controls", "15", "--recordings", "1", "--rounds", "1")
    status, said = apart("tests.power.cut", *short)
    assert status == 0, said


def test_what_a_disk_refused_is_not_acknowledged_and_can_be_pushed_again() -> None:
    status, said = apart("tests.power.refused", SHIPPED, "pushes")
    assert (status, said.strip()) == (0, ""), said


def test_what_a_disk_refused_when_the_log_was_copied_is_not_lost() -> None:
    """SQLite tells nobody when that fails, and copies it into the same cached pages again."""
    status, said = apart("tests.power.refused", SHIPPED, "checkpoints")
    assert (status, said.strip()) == (0, ""), said


def test_who_believes_the_second_fsync_is_found_out() -> None:
    status, said = apart("tests.power.refused", TWICE, "pushes")
    assert status == 1, said
    assert "blob: 201 for what the disk refused" in said


# The verdict


def results() -> dict[str, Result]:
    found = {SHIPPED: Result(SHIPPED, promises=1)}
    found |= {mode: Result(mode, promises=1, wrong=Counter({MISSING: 1})) for mode in CONTROLS}
    return found


def test_a_run_in_which_only_the_controls_lose_something_is_good() -> None:
    assert verdict(results()) == []


def test_a_loss_of_the_server_as_shipped_is_told() -> None:
    found = results()
    found[SHIPPED].sentences.append("lost")
    assert verdict(found) == ["lost"]


@pytest.mark.parametrize("mode", CONTROLS)
def test_a_control_that_loses_nothing_makes_the_run_void(mode: str) -> None:
    found = results()
    found[mode].wrong.clear()
    assert verdict(found) == [f"VOID: nothing was lost with {mode}"]


def test_a_control_that_the_file_system_forgives_need_not_lose_anything() -> None:
    found = results()
    mode, other = list(CONTROLS)[:2]
    found[mode].wrong.clear()
    assert verdict(found, [mode]) == []
    assert verdict(found, [other]) == [f"VOID: nothing was lost with {mode}"]


def test_a_run_in_which_nothing_was_promised_is_void() -> None:
    found = results()
    found[SHIPPED].promises = 0
    assert verdict(found) == ["VOID: nothing was promised"]


# Images

_RECORDS = [
    *(Write(8192, b"a" * 4096), Write(12288, b"b" * 1536), None),
    *(Write(8192, b"c" * 1024), Write(0, b"d" * 4096), Write(16384, b"e" * 512)),
    *(None, Write(20480, b"f" * 512)),
]


def images() -> list[Image]:
    return plan(_RECORDS, [2, 5], 400, random.Random(1))


def test_what_was_flushed_is_in_every_image_and_only_later_writes_may_be_missing() -> None:
    for image in images():
        assert image.flushed in (0, 3, 7)
        assert image.flushed <= image.cut <= len(_RECORDS)
        assert None not in _RECORDS[image.flushed : image.cut], "a flush that ended was ignored"
        for part in image.kept:
            assert image.flushed <= part.record < image.cut


def test_at_every_flush_all_that_followed_may_be_lost_and_still_be_acknowledged() -> None:
    assert {Image(0, 2), Image(3, 6), Image(7, 8)} <= set(images())


def test_right_after_an_acknowledgement_all_may_be_there() -> None:
    everything = (Part(3, 0, 1024), Part(4, 0, 4096))
    assert Image(3, 5, everything) in images()


def test_a_write_may_be_kept_without_the_one_before_it() -> None:
    assert any([part.record for part in image.kept] == [4] for image in images())


def test_writes_are_torn_between_sectors_except_the_superblock() -> None:
    parts = {part for image in images() for part in image.kept}
    torn = {part for part in parts if part.end - part.start < len(_RECORDS[part.record].data)}
    assert {part.record for part in torn} == {0, 1, 3}
    assert all(part.start % SECTOR == part.end % SECTOR == 0 for part in torn)


def test_images_come_in_the_order_of_the_log_and_by_the_seed() -> None:
    found = images()
    assert [image.flushed for image in found] == sorted(image.flushed for image in found)
    assert found == images()
    assert found != plan(_RECORDS, [2, 5], 400, random.Random(2))


# The log


def test_a_record_that_was_half_written_is_none(tmp_path: Path) -> None:
    whole = written(b"abc", 5) + FLUSHED
    (tmp_path / "log").write_bytes(whole + written(b"def", 9))
    for size in (len(whole), len(whole) + 3, len(whole) + 14):
        log = Log.read(tmp_path / "log", size)
        assert log.records == [Write(5, b"abc"), None]
    log = Log.read(tmp_path / "log", 1000)
    assert len(log.records) == 3
    assert [log.count(size) for size in (0, 14, 15, 27, 28, 100)] == [0, 0, 1, 2, 2, 3]


# What must be found

_BLOB = Key("blobs", "a", "sha256:1")
_TAG = Key("manifests", "a", "latest")
_NEW = Step("PUT", 10, 20, {_BLOB: "sha256:1", _TAG: "sha256:2"})


def test_until_it_is_acknowledged_a_step_may_have_happened_or_not() -> None:
    history = History([Step("PUT", 1, 5, {_TAG: "sha256:0"}), _NEW])
    assert history.at(9).allowed(_TAG) == {"sha256:0"}
    assert history.at(19).allowed(_TAG) == {"sha256:0", "sha256:2"}
    assert history.at(20).allowed(_TAG) == {"sha256:2"}


def test_what_was_deleted_must_not_be_there() -> None:
    history = History([_NEW, Step("DELETE", 21, 25, {_BLOB: None})])
    assert history.at(24).allowed(_BLOB) == {"sha256:1", None}
    assert history.at(25).allowed(_BLOB) == {None}
    assert _BLOB in set(history.at(25).sought())


def test_a_step_under_way_must_not_have_happened_in_part() -> None:
    expected = Expected({}, (_NEW,))
    assert expected.halves({_BLOB: None, _TAG: None}) == []
    assert expected.halves({_BLOB: "sha256:1", _TAG: "sha256:2"}) == []
    assert expected.halves({_BLOB: "sha256:1", _TAG: None}) == ["PUT"]
