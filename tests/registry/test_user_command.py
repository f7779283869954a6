"""`spindle user`: what it asks, what it keeps, and what it never shows."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import bcrypt
import pytest

from registry.auth import htpasswd
from tests.servers import SPINDLE


def user(
    data: Path, *arguments: str, given: str | bytes = b"", ok: bool = True
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [SPINDLE, "user", *arguments, "--data", data],
        input=given.encode() if isinstance(given, str) else given,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) is ok, done
    return done


def fits(data: Path, name: str, password: str) -> bool:
    found = htpasswd.read(data / "htpasswd").find(name)
    return found is not None and bcrypt.checkpw(password.encode(), found.hash.encode())


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_on_standard_input_is_its_first_line(tmp_path: Path, end: str) -> None:
    data = tmp_path / "data"
    done = user(data, "add", "ada", "--password-stdin", given=f"correct horse {end}")
    assert fits(data, "ada", "correct horse ")
    assert b"correct horse" not in done.stdout + done.stderr
    assert (data / "htpasswd").stat().st_mode & 0o777 == 0o600


def test_a_made_up_password_is_printed_once_and_not_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    name, _, password = user(data, "add", "ada", "--generate").stdout.decode().strip().split()
    assert name == "ada"
    assert len(password) >= 24
    assert fits(data, "ada", password)
    assert password not in (data / "htpasswd").read_text()


def test_users_are_listed_changed_and_removed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("bob", "ada"):
        user(data, "add", name, "--password-stdin", given="first")
    assert user(data, "list").stdout == b"ada\nbob\n"
    user(data, "passwd", "ada", "--password-stdin", given="second")
    assert fits(data, "ada", "second")
    assert fits(data, "bob", "first")
    user(data, "remove", "bob")
    assert user(data, "list").stdout == b"ada\n"


@pytest.mark.parametrize(
    ("arguments", "given", "sentence"),
    [
        (("add", "ada", "--password-stdin"), "x", "there is a user 'ada' already"),
        (("add", "a:b", "--password-stdin"), "x", "no name of a user"),
        (("add", "eve", "--password-stdin"), "", "at least one character"),
        (("add", "eve", "--password-stdin"), "s3cret-" * 11, "at most 72 bytes"),
        (("add", "eve", "--password-stdin"), b"s3cret\xff", "not UTF-8"),
        (("add", "eve", "--password-stdin"), "spt_s3cret", "does not begin with"),
        (("add", "eve", "--password-stdin", "--generate"), "x", "exclude each other"),
        (("add", "eve"), "s3cret", "there is no terminal"),
        (("passwd", "eve", "--generate"), "", "no user 'eve'"),
        (("remove", "eve"), "", "no user 'eve'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], given: str | bytes, sentence: str
) -> None:
    data = tmp_path / "data"
    user(data, "add", "ada", "--password-stdin", given="right")
    before = (data / "htpasswd").read_bytes()
    done = user(data, *arguments, given=given, ok=False)
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert b"s3cret" not in done.stdout + done.stderr
    assert (data / "htpasswd").read_bytes() == before


def test_a_file_with_another_hash_is_not_touched(tmp_path: Path) -> None:
    data = tmp_path / "data"
    user(data, "list")
    (data / "htpasswd").write_text("old:$apr1$abc$def\n")
    done = user(data, "add", "ada", "--generate", ok=False)
    assert "line 1" in done.stderr.decode()
    assert (data / "htpasswd").read_text() == "old:$apr1$abc$def\n"


def test_another_file_can_be_named(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "people"
    user(data, "add", "ada", "--generate", "--set", f"auth.users={file}")
    assert file.read_text().startswith("ada:$2b$12$")
    assert not (data / "htpasswd").exists()


@pytest.mark.parametrize("second", ["right horse", "wrong horse"])
def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(
    tmp_path: Path, second: str
) -> None:
    data = tmp_path / "data"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(SPINDLE, ["spindle", "user", "add", "ada", "--data", str(data)])
    shown = b""

    def until(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            shown += os.read(terminal, 1024)

    until(b"Password of ada: ")
    os.write(terminal, b"right horse\n")
    until(b"Once more: ")
    os.write(terminal, f"{second}\n".encode())
    until(b"can sign in" if second == "right horse" else b"not the same")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert b"horse" not in shown
    assert (os.waitstatus_to_exitcode(status) == 0) is (second == "right horse")
    assert fits(data, "ada", "right horse") is (second == "right horse")
