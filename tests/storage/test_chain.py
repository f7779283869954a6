"""A chain of lines: whatever is done to one of them is found."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import chain
from storage.chain import START, Broken, Checked, Head, Wrong
from storage.filesystem import calls
from storage.filesystem.chained import ChainFiles, read_files
from storage.filesystem.layout import AuditRoom


def written(count: int) -> list[bytes]:
    lines, head = [], START
    for number in range(count):
        line, head = chain.write(head, 1e9 + number / 8, {"action": "tag.delete", "n": number})
        lines.append(line)
    return lines


LINES = written(200)
HEAD = chain.read(LINES[-1][:-1]).head  # type: ignore[union-attr]  # it is one of ours


def checked(lines: list[bytes], noted: Head | None = None) -> Checked:
    cut = re.findall(rb"[^\n]*\n|[^\n]+", b"".join(lines))
    return chain.verify([("1.jsonl", cut)], noted)


def broken(lines: list[bytes], noted: Head | None = None) -> Broken:
    found = checked(lines, noted).broken
    assert found is not None
    return found


def test_what_was_written_is_whole() -> None:
    assert checked(LINES) == Checked(HEAD, 200, None)
    assert checked(LINES, HEAD).broken is None
    assert checked([]) == Checked(START, 0, None)


def test_a_line_is_ascii_without_a_control_character_and_its_texts_are_cut() -> None:
    odd = "a\r\n\x1b[31m\x7f\x85\u2028\udcff😀" + "x" * 600

    line, _ = chain.write(START, 0.0, {"detail": odd, "seq": 7, "status": 401})

    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    content = json.loads(line)
    assert content["detail"] == odd[: chain.LONGEST]
    assert content["seq"] == 1
    assert content["time"] == "1970-01-01T00:00:00.000Z"
    assert content["previous"] == "0" * 64


@given(st.integers(0, 198), st.data())
def test_a_line_that_was_edited_is_named(at: int, data: st.DataObject) -> None:
    line = LINES[at][:-1]
    byte = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != line[byte]))
    edited = line[:byte] + bytes([other]) + line[byte + 1 :] + b"\n"

    found = broken([*LINES[:at], edited, *LINES[at + 1 :]])

    # Where the number itself was changed, or the line cut in two, it is told as what it looks like.
    assert found.number in (at, at + 1)
    assert found.wrong is not Wrong.TORN
    if json_number(edited) == at + 1 and other != 0x0A:
        assert (found.wrong, found.number, found.seq) == (Wrong.EDITED, at + 1, at + 1)


def json_number(line: bytes) -> int | None:
    found = chain.read(line[:-1])
    return found.seq if found else None


def test_a_last_line_that_was_edited_is_found_only_by_a_head_kept_elsewhere() -> None:
    lines = [*LINES[:-1], LINES[-1].replace(b"tag.delete", b"tag.create")]

    assert checked(lines).broken is None
    found = broken(lines, HEAD)
    assert (found.wrong, found.seq) == (Wrong.EDITED, 200)


@given(st.integers(0, 198), st.integers(1, 5))
def test_lines_that_are_gone_are_missed(at: int, count: int) -> None:
    count = min(count, 199 - at)  # not the last one: that is cutting off
    found = broken([*LINES[:at], *LINES[at + count :]])

    assert (found.wrong, found.seq) == (Wrong.MISSING, at + 1 if at else 1)


@given(st.integers(0, 199), st.integers(0, 199))
def test_lines_that_changed_places_are_found(one: int, other: int) -> None:
    lines = [*LINES]
    lines[one], lines[other] = lines[other], lines[one]
    if one == other:
        assert checked(lines).broken is None
    elif min(one, other) > 0:
        found = broken(lines)
        assert (found.wrong, found.number) == (Wrong.REORDERED, min(one, other) + 1)
    else:  # it looks as if the first ones were removed
        assert broken(lines).number == 2


@given(st.integers(0, 200), st.integers(0, 199), st.booleans())
def test_a_line_that_was_inserted_is_found(at: int, which: int, forged: bool) -> None:
    head = chain.read(LINES[at - 1][:-1]).head if at else START  # type: ignore[union-attr]
    extra = chain.write(head, 1e9, {"action": "x"})[0] if forged else LINES[which]
    if at == 200 and forged:  # it is what a writer would have put there
        extra = LINES[which]

    assert broken([*LINES[:at], extra, *LINES[at:]]).number in (at, at + 1, at + 2)


@given(st.integers(1, len(LINES[-1]) - 1))
def test_a_last_line_without_an_end_is_torn(cut: int) -> None:
    found = broken([*LINES[:-1], LINES[-1][:-cut]])

    assert (found.wrong, found.number, found.seq) == (Wrong.TORN, 200, 200)


@given(st.integers(0, 199))
def test_lines_cut_off_at_the_end_are_missed_by_a_head_kept_elsewhere(left: int) -> None:
    assert checked(LINES[:left]).broken is None
    found = broken(LINES[:left], HEAD)
    assert (found.wrong, found.seq) == (Wrong.MISSING, left + 1)


def test_a_chain_written_anew_is_found_by_a_head_kept_elsewhere() -> None:
    lines, head = [], START
    for number in range(300):
        line, head = chain.write(head, 2e9, {"action": "nothing", "n": number})
        lines.append(line)

    assert checked(lines).broken is None
    assert broken(lines, HEAD).wrong is Wrong.EDITED


@pytest.mark.parametrize(
    "text", ["", "1", "1:", "x:" + "0" * 64, "-1:" + "0" * 64, "1:" + "g" * 64]
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SEQ:HASH"):
        Head.parse(text)
    assert Head.parse(str(HEAD)) == HEAD


# Files


class Files:
    """A room of files, and the writers that a test opens on it."""

    def __init__(self, root: Path) -> None:
        self.room = AuditRoom.open(root)
        self.root = root
        self._writers: list[ChainFiles] = []

    def writer(self, *, size: int = 1 << 20, keep: int = 0) -> ChainFiles:
        made = ChainFiles(self.room, size=size, keep=keep, now=lambda: 1e9)
        self._writers.append(made)
        return made

    def check(self, noted: Head | None = None) -> Checked:
        return chain.verify(read_files(self.room), noted)

    @property
    def names(self) -> list[str]:
        return [Path(path).name for path in self.room.files()]

    @property
    def newest(self) -> Path:
        return Path(self.room.files()[-1])

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(raw) for _, lines in read_files(self.room) for raw in lines]

    def actions(self) -> list[object]:
        return [line["action"] for line in self.lines()]

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest.fixture
def files(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Files(tmp_path / "audit")
    yield made
    made.close()


ENTRY = {"action": "blob.push", "outcome": "done", "digest": "sha256:" + "a" * 64}


def test_the_first_line_begins_the_chain(files: Files) -> None:
    head = files.writer().append([ENTRY])

    assert files.names == ["0000000000000000001.jsonl"]
    assert files.actions() == ["audit.begin", "blob.push"]
    assert files.check() == Checked(head, 2, None)
    assert stat.S_IMODE(files.newest.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.root.stat().st_mode) == 0o700


def test_writers_in_turn_make_one_chain(files: Files) -> None:
    one, other = files.writer(size=2000), files.writer(size=2000)
    for number in range(40):
        (one, other)[number % 3 == 0].append([{**ENTRY, "n": number}])

    assert files.check().broken is None
    assert [line["n"] for line in files.lines() if "n" in line] == [*range(40)]
    assert len(files.names) > 3


def test_a_full_file_is_read_only_and_the_next_one_names_its_last_line(files: Files) -> None:
    writer = files.writer(size=1000)
    heads = [writer.append([ENTRY]) for _ in range(8)]

    first, second = files.room.files()[:2]
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o400
    begin = json.loads(Path(second).read_bytes().splitlines()[0])
    last = chain.read(Path(first).read_bytes().splitlines()[-1])
    assert last is not None
    assert begin["previous"] == last.hash
    assert begin["digest"] == str(last.head)
    assert begin["reference"] == Path(first).name
    assert files.check(heads[-1]).broken is None


def test_old_files_go_and_a_line_says_so(files: Files) -> None:
    writer = files.writer(size=1000, keep=2)
    for _ in range(30):
        writer.append([ENTRY])

    assert len(files.names) == 2
    assert files.names[0] != "0000000000000000001.jsonl"
    assert files.actions().count("audit.remove") >= 1
    assert files.check().broken is None


def test_one_more_file_that_goes_is_missed_although_lines_tell_of_others(files: Files) -> None:
    writer = files.writer(size=1000, keep=3)
    for _ in range(30):
        writer.append([ENTRY])
    assert files.check().broken is None

    os.unlink(files.room.files()[0])

    found = files.check().broken
    assert found is not None
    assert found.wrong is Wrong.MISSING


def test_files_that_somebody_else_removed_are_missed(files: Files) -> None:
    writer = files.writer(size=1000)
    for _ in range(30):
        writer.append([ENTRY])
    first, second = files.room.files()[:2]

    os.unlink(second)
    found = files.check().broken
    assert found is not None
    assert found.wrong is Wrong.MISSING

    os.unlink(first)
    found = files.check().broken
    assert found is not None
    assert found.wrong is Wrong.MISSING


@pytest.mark.parametrize("torn", [b"{", b'{"seq":', b"\0" * 700, b"{}\n{}\n{", b"\n", b"\xff\n"])
@pytest.mark.parametrize("size", [1 << 20, 100])
def test_what_a_crash_left_is_closed_by_the_next_writer_which_says_so(
    files: Files, torn: bytes, size: int
) -> None:
    files.writer(size=size).append([ENTRY])
    with files.newest.open("ab") as file:
        file.write(torn)
    assert files.check().broken is not None

    files.writer(size=size).append([ENTRY])

    assert files.check().broken is None
    assert files.actions().count("audit.repair") == 1
    [repair] = [line for line in files.lines() if line["action"] == "audit.repair"]
    assert str(repair["detail"]).startswith(f"{len(torn)} bytes")


def test_a_file_that_is_torn_from_its_beginning_is_closed_too(files: Files) -> None:
    writer = files.writer(size=100)
    for _ in range(3):
        writer.append([ENTRY])
    files.newest.write_bytes(b"{")

    files.writer().append([ENTRY])

    assert files.actions()[-2:] == ["audit.repair", "blob.push"]
    assert files.check().broken is None


@pytest.mark.parametrize("left", [0, 1])
def test_lines_that_somebody_cut_off_under_a_writer_are_missed_for_ever(
    files: Files, left: int
) -> None:
    writer = files.writer()
    for _ in range(5):
        writer.append([ENTRY])
    lines = files.newest.read_bytes().splitlines(keepends=True)
    files.newest.write_bytes(b"".join(lines[: 1 + left]))

    writer.append([ENTRY])

    assert files.actions()[-2:] == ["audit.lost", "blob.push"]
    found = files.check().broken
    assert found is not None
    assert (found.wrong, found.seq) == (Wrong.MISSING, 2 + left)


def test_a_file_that_was_removed_under_a_writer_is_missed(files: Files) -> None:
    writer = files.writer()
    writer.append([ENTRY])
    files.newest.unlink()

    writer.append([ENTRY])

    assert "audit.lost" in files.actions()
    found = files.check().broken
    assert found is not None
    assert found.wrong is Wrong.MISSING


def test_a_last_line_edited_under_a_writer_is_found(files: Files) -> None:
    writer = files.writer()
    writer.append([ENTRY])
    files.newest.write_bytes(files.newest.read_bytes().replace(b"blob.push", b"blob.pull"))

    writer.append([ENTRY, ENTRY])

    found = files.check().broken
    assert found is not None
    assert (found.wrong, found.seq) == (Wrong.EDITED, 2)


@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("partly", [0, 10])
def test_what_could_not_be_written_is_not_there(
    files: Files, monkeypatch: pytest.MonkeyPatch, name: str, partly: int
) -> None:
    writer = files.writer()
    before = writer.append([ENTRY])
    real: Callable[..., int] = calls.pwrite

    def full(*arguments: object) -> int:
        if name == "pwrite" and partly and len(arguments[1]) > partly:  # type: ignore[arg-type]
            file, data, at = arguments
            return real(file, bytes(data)[:partly], at)  # type: ignore[call-overload,no-any-return]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(calls, name, full)
        with pytest.raises(OSError, match="No space left"):
            writer.append([{"action": "lost"}])

    assert files.check() == Checked(before, 2, None)
    writer.append([ENTRY])
    assert files.actions() == ["audit.begin", "blob.push", "blob.push"]


def test_an_append_is_one_write_and_one_sync(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = files.writer()
    writer.append([ENTRY])
    done: list[str] = []
    for name in ("pwrite", "fdatasync", "fsync", "pread", "listdir", "open"):
        real = getattr(calls, name)
        monkeypatch.setattr(
            calls, name, lambda *a, _name=name, _real=real: done.append(_name) or _real(*a)
        )

    writer.append([ENTRY] * 100)

    assert done == ["pwrite", "fdatasync"]


def test_a_reader_needs_no_right_to_write(files: Files) -> None:
    files.writer().append([ENTRY])
    files.newest.chmod(0o400)
    (files.root / "lock").chmod(0o400)

    assert files.check().broken is None
