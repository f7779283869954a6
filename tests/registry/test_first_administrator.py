"""A registry that asks people to sign in, when it starts for the first time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import bcrypt

from registry.auth import htpasswd
from tests.servers import SPINDLE

PATIENCE = 60


def started(data: Path, *arguments: str, enabled: bool = True) -> tuple[str, str]:
    """Start a server, stop it once it has said all it has to say; the two outputs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")}
    process = subprocess.Popen(
        [
            *(SPINDLE, "serve", "--data", data, "--set", "limits.reserve=64KiB"),
            *("--listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"),
            *("--set", f"auth.enabled={str(enabled).lower()}", *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if "spindle demo" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest, log = process.communicate(timeout=PATIENCE)
    return said + rest, log


def test_the_first_administrator_is_shown_once_and_only_on_standard_output(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said, log = started(data)
    found = re.search(r"^first administrator: admin / (\S{24,})$", said, re.MULTILINE)
    assert found
    password = found[1]
    admin = htpasswd.read(data / "htpasswd").find("admin")
    assert admin
    assert bcrypt.checkpw(password.encode(), admin.hash.encode())
    assert password not in log
    for path in data.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes()
    assert "whoever reaches it may push" not in said
    assert "docker login" in said

    again, log = started(data)
    assert "first administrator" not in again
    assert password not in again + log
    assert htpasswd.read(data / "htpasswd").by_name.keys() == {"admin"}


def test_nobody_is_made_where_there_is_a_user_or_a_robot(tmp_path: Path) -> None:
    for number, command in enumerate(
        (["user", "add", "ada", "--generate"], ["token", "create", "ci"])
    ):
        data = tmp_path / f"data-{number}"
        subprocess.run(
            [SPINDLE, *command, "--data", data], check=True, capture_output=True, timeout=PATIENCE
        )
        said, _ = started(data)
        assert "first administrator" not in said
        assert htpasswd.read(data / "htpasswd").find("admin") is None


def test_nobody_is_made_where_nobody_has_to_sign_in(tmp_path: Path) -> None:
    data = tmp_path / "data"
    said, _ = started(data, enabled=False)
    assert "(whoever reaches it may push)" in said
    assert "docker login" not in said
    assert not (data / "htpasswd").exists()


def test_a_start_that_fails_afterwards_has_shown_the_password(tmp_path: Path) -> None:
    """It is kept by then, and the next start makes no other."""
    data = tmp_path / "data"
    said, log = started(data, "--listen", "192.0.2.1:1")  # no address of this machine
    assert "cannot listen on 192.0.2.1:1" in log
    assert "first administrator: admin / " in said


def test_a_users_file_that_is_none_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("ada:s3cret\n")
    said, log = started(tmp_path / "data", "--set", f"auth.users={file}")
    assert f"{file}: line 1: what is there for 'ada' is no bcrypt hash" in log
    assert "s3cret" not in said + log
    assert "Traceback" not in log
    assert "registry " not in said
