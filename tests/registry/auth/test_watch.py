"""A file that somebody else changes: what is seen of it, when, and what is not believed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from registry.auth.watch import LIMIT, FileRefused, Watched, read


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def number(content: bytes) -> int:
    try:
        return int(content)
    except ValueError:
        raise ValueError(f"{content[:10]!r} is no number") from None


class Subject:
    """A watched file in a directory of its own, which only moves on when it is told to."""

    def __init__(self, directory: Path, content: str = "1", **more: int) -> None:
        self.path = directory / "file"
        if content:
            self.path.write_text(content)
        self.clock = Clock()
        self.parsed: list[bytes] = []
        self.watched = Watched(self.path, self.parse, clock=self.clock, **more)

    def parse(self, content: bytes) -> int:
        self.parsed.append(content)
        return number(content)

    def replace(self, content: str) -> None:
        new = self.path.with_name("file.new")
        new.write_text(content)
        os.replace(new, self.path)

    def look(self, times: int = 1) -> int:
        for _ in range(times):
            self.clock.now += 1.0
            value = self.watched.current()
        return value


@pytest.fixture
def file(tmp_path: Path) -> Subject:
    return Subject(tmp_path)


@pytest.fixture
def logs() -> Iterator[list]:
    with capture_logs() as captured:
        yield captured


def errors(logs: list) -> list[str]:
    return [line["reason"] for line in logs if line["log_level"] == "error"]


# What is seen, and when


def test_a_file_that_was_replaced_is_seen_at_the_next_look(file: Subject) -> None:
    file.replace("2")
    assert file.watched.generation == 0
    assert file.look() == 2
    assert file.watched.generation == 1


def test_it_is_looked_at_once_a_second_at_most(file: Subject) -> None:
    file.replace("2")
    file.clock.now += 0.99
    assert file.watched.current() == 1
    file.clock.now += 0.01
    assert file.watched.current() == 2
    file.replace("3")
    assert file.watched.current() == 2


def test_what_is_written_in_its_place_is_believed_once_it_stays_the_same(file: Subject) -> None:
    assert file.look(3) == 1
    file.path.write_text("23")  # half of 234
    assert file.look() == 1
    file.path.write_text("234")
    assert file.look() == 1
    assert file.look() == 234
    assert b"23" not in file.parsed


def test_what_is_written_right_after_a_look_is_seen(file: Subject) -> None:
    """A file system's clock may stand still for 10 ms: then size and times are as they were."""
    for _ in range(100):
        file.replace("2")
        assert file.look() == 2
        file.path.write_text("3")
        assert file.look(3) == 3


def test_what_did_not_change_is_not_read_again(file: Subject) -> None:
    assert file.look(10) == 1
    assert file.parsed == [b"1"]
    file.path.touch()
    assert file.look(10) == 1
    assert file.parsed == [b"1"]
    assert file.watched.generation == 0


def test_links_that_kubernetes_swaps_are_followed(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "file").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "file").symlink_to("..data/file")
    subject = Subject(tmp_path, "")
    assert subject.look(3) == 1
    (tmp_path / "..data_tmp").symlink_to("..2")
    os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
    assert subject.look() == 2


def test_a_file_of_the_same_size_and_time_in_its_place_is_another(file: Subject) -> None:
    file.look(3)
    before = os.stat(file.path)
    file.replace("2")
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.look() == 2


# What is not believed


def test_a_bad_file_is_logged_once_and_the_old_value_stays(file: Subject, logs: list) -> None:
    file.replace("x")
    assert file.look(5) == 1
    assert errors(logs) == ["b'x' is no number"]
    file.replace("x")
    assert file.look(5) == 1
    assert errors(logs) == ["b'x' is no number"] * 2
    file.replace("2")
    assert file.look() == 2
    assert file.watched.generation == 1


def test_a_bad_file_that_is_put_back_is_fine(file: Subject, logs: list) -> None:
    file.replace("x")
    file.look(2)
    file.replace("1")
    assert file.look(3) == 1
    assert len(errors(logs)) == 1


def test_a_file_that_goes_and_comes_back(file: Subject, logs: list) -> None:
    os.rename(file.path, file.path.with_name("away"))
    assert file.look(5) == 1
    assert errors(logs) == [f"{file.path} cannot be read: No such file or directory"]
    file.replace("2")
    assert file.look() == 1  # perhaps it is still being written
    assert file.look() == 2
    assert len(errors(logs)) == 1


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused_until_they_cannot(
    file: Subject, logs: list, mode: int
) -> None:
    file.path.write_text("2")
    file.path.chmod(mode)
    assert file.look(5) == 1
    (said,) = errors(logs)
    assert f"{file.path} can be written by others; use `chmod go-w {file.path}`" in said
    file.path.chmod(0o640)
    assert file.look(2) == 2


def test_a_fifo_in_its_place_is_refused_without_waiting(file: Subject, logs: list) -> None:
    file.path.unlink()
    os.mkfifo(file.path)
    done = threading.Event()

    def look() -> None:
        file.look(3)
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(60)
    assert errors(logs) == [f"{file.path} is a pipe, a socket or a device; name a file"]


def test_a_directory_in_its_place_is_refused(file: Subject, logs: list) -> None:
    file.path.unlink()
    file.path.mkdir()
    assert file.look(3) == 1
    assert errors(logs) == [f"{file.path} is a directory; name a file"]


@pytest.mark.parametrize("excess", [0, 1])
def test_one_mib_is_read_and_not_a_byte_more(tmp_path: Path, excess: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b" " * (LIMIT + excess))
    if excess:
        with pytest.raises(FileRefused, match="larger than 1 MiB"):
            read(path)
    else:
        assert len(read(path)) == LIMIT


def test_a_file_that_tells_no_size_is_read_no_further_either() -> None:
    path = Path("/proc/kallsyms")
    if not path.exists():
        pytest.skip("this kernel has no list of its symbols")
    assert path.stat().st_size == 0
    with pytest.raises(FileRefused, match="larger than 1 MiB"):
        read(path)


# The first time


@pytest.mark.parametrize("content", ["x", ""])
def test_a_first_load_that_is_bad_raises(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"no number|No such file"):
        Subject(tmp_path, content)


def test_a_first_load_of_what_is_no_file_raises(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        for path in (tmp_path, tmp_path / "s", Path("/dev/null"), tmp_path / "none"):
            with pytest.raises(FileRefused):
                Watched(path, number)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileRefused, match="symbolic links"):
        Watched(tmp_path / "loop", number, absent=7)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    os.chown(path, 12345, -1)
    with pytest.raises(FileRefused, match="belongs to user 12345, who could change it"):
        read(path)


def test_what_holds_while_there_is_no_file(tmp_path: Path, logs: list) -> None:
    subject = Subject(tmp_path, "", absent=7)
    assert subject.look(3) == 7
    assert errors(logs) == []
    subject.path.write_text("1")
    assert subject.look() == 7
    assert subject.look() == 1
    subject.path.unlink()
    assert subject.look(2) == 1  # never back to what holds without one
    assert len(errors(logs)) == 1
