"""`spindle audit`: what it prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from storage.filesystem.chained import ChainFiles
from storage.filesystem.layout import AuditRoom
from tests.servers import SPINDLE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    times = iter(range(1_777_600_000, 1_777_700_000, 3600))
    room = AuditRoom.open(tmp_path / "data" / "audit")
    files = ChainFiles(room, size=1 << 20, keep=0, now=lambda: float(next(times)))
    for number in range(20):
        files.append(
            [
                {
                    "action": ("tag.delete", "manifest.push")[number % 2],
                    "outcome": "done",
                    "principal": f"user:u{number % 4}",
                    "repository": ("acme/shop", "other/app")[number % 5 == 0],
                    "reference": f"v{number}",
                    "detail": "\x1b[31m\u202e\x7f",
                }
            ]
        )
    files.close()
    return tmp_path / "data"


def audit(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SPINDLE, "audit", arguments[0], "--data", data, *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def edit(data: Path, old: bytes, new: bytes) -> None:
    [path] = (data / "audit").glob("*.jsonl")
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_an_audit_that_nobody_changed_is_whole_and_its_head_can_be_noted(data: Path) -> None:
    head = audit(data, "head")
    assert head.returncode == 0
    assert head.stdout.startswith("21:")

    for noted in ([], ["--head", head.stdout.strip()]):
        whole = audit(data, "verify", *noted)
        assert (whole.returncode, whole.stderr) == (0, "")
        assert whole.stdout == f"21 lines are as they were written; the head is {head.stdout}"


def test_a_changed_line_is_named(data: Path) -> None:
    edit(data, b'"v7"', b'"v8" ')
    found = audit(data, "verify")
    assert found.returncode == 1
    assert "line 9 (seq 9): edited" in found.stdout
    assert "8 lines before it" in found.stdout
    assert audit(data, "head").returncode == 1


def test_lines_cut_off_are_missed_by_a_head(data: Path) -> None:
    head = audit(data, "head").stdout.strip()
    [path] = (data / "audit").glob("*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    assert audit(data, "verify").returncode == 0
    found = audit(data, "verify", "--head", head)
    assert found.returncode == 1
    assert "(seq 19): missing" in found.stdout
    path.unlink()
    assert audit(data, "verify", "--head", head).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "versions"),
    [
        (["--repository", "other/*"], [0, 5, 10, 15]),
        (["--principal", "user:u1"], [1, 5, 9, 13, 17]),
        (["--action", "tag.*", "--repository", "other/app"], [0, 10]),
        (["--since", "2026-05-01T18:46:40Z"], [17, 18, 19]),
        (["--since", "1h"], []),
    ],
)
def test_show_prints_what_is_asked_for(
    data: Path, arguments: list[str], versions: list[int]
) -> None:
    shown = audit(data, "show", *arguments)
    assert shown.returncode == 0, shown.stderr
    assert [line.split(":v")[1].split()[0] for line in shown.stdout.splitlines()] == [
        str(version) for version in versions
    ]
    as_json = audit(data, "show", "--json", *arguments)
    found = [json.loads(line)["reference"] for line in as_json.stdout.splitlines()]
    assert found == [f"v{version}" for version in versions]


def test_what_is_shown_cannot_steer_a_terminal(data: Path) -> None:
    for option in ([], ["--json"]):
        shown = audit(data, "show", *option).stdout
        assert shown.isascii()
        assert {*shown} <= {chr(code) for code in range(0x20, 0x7F)} | {"\n"}


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    for verb in ("verify", "head", "show"):
        ended = audit(tmp_path / "none", verb)
        assert ended.returncode == 2
        assert "there is no audit" in ended.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["verify", "--head", "7"], "SEQ:HASH"), (["show", "--since", "soon"], "2026-05-01")],
)
def test_what_cannot_be_is_said(data: Path, arguments: list[str], said: str) -> None:
    ended = audit(data, *arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
