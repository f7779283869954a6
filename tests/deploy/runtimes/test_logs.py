"""The file that guests' output goes to."""

from __future__ import annotations

import json

import pytest

from registry.deploy.runtimes.wasmtime import logs
from registry.deploy.runtimes.wasmtime.logs import Lines, Log


@pytest.fixture
def log(tmp_path):
    return Log(str(tmp_path / "log"), 3)


def records(tmp_path):
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def test_a_line_is_a_record(log, tmp_path):
    lines = Lines(log)
    lines.write("c", "stdout", b"one\ntwo\n")
    first, second = records(tmp_path)
    assert set(first) == {"time", "component", "stream", "revision", "line"}
    assert (first["component"], first["stream"], first["revision"]) == ("c", "stdout", 3)
    assert (first["line"], second["line"]) == ("one", "two")


def test_a_line_may_come_in_pieces_and_without_its_end(log, tmp_path):
    lines = Lines(log)
    lines.write("c", "stdout", b"he")
    lines.write("c", "stderr", b"other\n")
    lines.write("c", "stdout", b"llo")
    lines.close()
    assert [record["line"] for record in records(tmp_path)] == ["other", "hello"]


def test_a_long_line_is_cut_not_lost(log, tmp_path):
    lines = Lines(log)
    lines.write("c", "stdout", b"x" * 20_000 + b"\n")
    found = [record["line"] for record in records(tmp_path)]
    assert "".join(found) == "x" * 20_000
    assert max(map(len, found)) == logs.LINE


def test_nothing_that_is_printed_breaks_a_record(log, tmp_path):
    log.line("c", "stdout", b'\x1b[31m"\r\0\xff \xe2\x80\xa8')
    text = (tmp_path / "log").read_bytes()
    assert text.count(b"\n") == 1
    assert b"\x1b" not in text
    assert text.isascii()
    assert records(tmp_path)[0]["line"] == '\x1b[31m"\r\0\ufffd \u2028'


def test_the_file_is_rotated_once_it_is_long(tmp_path):
    for _ in range(70):  # each a worker of its own, with a fresh budget
        log = Log(str(tmp_path / "log"), 1)
        for _ in range(12):
            log.line("c", "stdout", b"y" * logs.LINE)
    assert (tmp_path / "log.1").stat().st_size > logs.MOST
    assert (tmp_path / "log").stat().st_size < logs.MOST


def test_two_writers_rotate_once(tmp_path):
    one, two = Log(str(tmp_path / "log"), 1), Log(str(tmp_path / "log"), 2)
    filler = b"z" * (logs.MOST + 1)
    (tmp_path / "log").write_bytes(filler)
    one.line("c", "stdout", b"from one")  # moves the long file away
    two.line("c", "stdout", b"from two")  # still has it open, and must not move the new one
    assert (tmp_path / "log.1").read_bytes().startswith(filler[:10])
    one.line("c", "stdout", b"again one")
    two.line("c", "stdout", b"again two")
    assert {record["line"] for record in records(tmp_path)} == {"again one", "again two"}


def test_too_much_is_dropped_and_counted(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    log = Log(str(tmp_path / "log"), 1)
    for _ in range(1000):
        log.line("c", "stdout", b"y" * 4000)
    kept = len(records(tmp_path))
    assert kept == logs.BURST // 4128
    now += 1.0
    log.line("c", "stdout", b"later")
    dropped, last = records(tmp_path)[kept:]
    assert dropped["line"] == f"{1000 - kept} lines were dropped: the app printed too much"
    assert last["line"] == "later"
