"""What the unit and the image promise of the process: read from the files, line by line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import require

PACKAGING = Path(__file__).parents[2] / "scripts" / "packaging"
UNIT = (PACKAGING / "spindle.service").read_text()
IMAGE = (PACKAGING / "Containerfile").read_text()

UNIT_LINES = [
    *(
        "ExecStart=/opt/spindle/.venv/bin/spindle serve --data %S/private/spindle",
        "DynamicUser=yes",
    ),
    *("ExecReload=/bin/kill -HUP $MAINPID", "Restart=on-failure", "UMask=0077"),
    *("StateDirectory=spindle", "StateDirectoryMode=0700", "ProtectSystem=strict"),
    *("ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "PrivateUsers=yes"),
    *("PrivateIPC=yes", "PrivateMounts=yes", "ProtectProc=invisible", "ProtectClock=yes"),
    *("ProtectHostname=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes"),
    *("ProtectKernelLogs=yes", "ProtectControlGroups=yes", "RemoveIPC=yes"),
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "AmbientCapabilities="),
    *("RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes"),
    *("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "LockPersonality=yes"),
    *("KeyringMode=private", "SystemCallArchitectures=native", "DevicePolicy=closed"),
    *("SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"),
    *("SystemCallErrorNumber=EPERM", "LimitNOFILE=65536", "MemoryMax=4G", "TasksMax=1024"),
]
# Of the stage that is kept, which is the last.
IMAGE_LINES = [
    "USER 10001:10001",
    "RUN mkdir --mode 0700 /data && chown 10001:10001 /data",
    'VOLUME ["/data"]',
    "STOPSIGNAL SIGTERM",
    'ENTRYPOINT ["spindle"]',
    "COPY --from=build /opt/spindle /opt/spindle",
]
LOCKED = "--no-deps --require-hashes --requirement requirements.lock"


def broken_of_unit(text: str) -> list[str]:
    lines = text.splitlines()
    broken = [line for line in UNIT_LINES if lines.count(line) != 1]
    given = [line.partition("=")[0] for line in lines if re.match(r"[A-Z]\w+=", line)]
    # A second one could take back what the first says.
    many = {"SystemCallFilter", "Environment"}
    broken += [f"{name} twice" for name in set(given) - many if given.count(name) > 1]
    filters = [line for line in lines if line.startswith("SystemCallFilter=")]
    if filters[2:] != ["SystemCallFilter=setpriority"]:
        broken.append("more system calls than are told of")
    forbidden = {"User", "Group", "ReadWritePaths", "BindPaths", "MemoryDenyWriteExecute"}
    return broken + sorted(forbidden & set(given))


def broken_of_image(text: str) -> list[str]:
    build, _, kept = text.rpartition("\nFROM ")
    lines = kept.splitlines()
    broken = [line for line in IMAGE_LINES if lines.count(line) != 1]
    if LOCKED not in build:
        broken.append("what is installed is not what is locked")
    if "HEALTHCHECK " not in kept:
        broken.append("no health check")
    if sum(line.startswith("USER ") for line in lines) != 1:
        broken.append("somebody else at the end")
    if len(re.findall(r"^VOLUME ", kept, re.MULTILINE)) != 1 or "pip" in kept:
        broken.append("more than the program and one volume")
    if re.search(r"^ADD |https?://|curl|wget|chmod 777|sudo", text, re.MULTILINE):
        broken.append("something from elsewhere")
    return broken


def test_both_keep_their_promises() -> None:
    assert broken_of_unit(UNIT) == []
    assert broken_of_image(IMAGE) == []


@pytest.mark.parametrize("line", UNIT_LINES)
def test_each_line_of_the_unit_is_missed(line: str) -> None:
    assert line in broken_of_unit(UNIT.replace(f"\n{line}\n", "\n"))


@pytest.mark.parametrize("line", IMAGE_LINES)
def test_each_line_of_the_image_is_missed(line: str) -> None:
    assert line in broken_of_image(IMAGE.replace(f"\n{line}\n", "\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ProtectHome=yes", "ProtectHome=yes\nProtectHome=no"),
        ("UMask=0077", "UMask=0077\nUser=root"),
        ("SystemCallFilter=setpriority", "SystemCallFilter=setpriority @mount"),
        ("UMask=0077", "UMask=0077\nReadWritePaths=/"),
    ],
)
def test_what_takes_a_promise_of_the_unit_back_is_seen(old: str, new: str) -> None:
    assert broken_of_unit(UNIT.replace(f"\n{old}\n", f"\n{new}\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--require-hashes ", ""),
        ("USER 10001:10001", "USER 10001:10001\nUSER root"),
        ("HEALTHCHECK ", "LABEL "),
        ('VOLUME ["/data"]', 'VOLUME ["/data"]\nVOLUME ["/etc"]'),
        ('VOLUME ["/data"]', 'VOLUME ["/data"]\nRUN pip install more'),
    ],
)
def test_what_takes_a_promise_of_the_image_back_is_seen(old: str, new: str) -> None:
    assert broken_of_image(IMAGE.replace(old, new))


def exposed(unit: str, directory: Path) -> float:
    """What `systemd-analyze security` gives: from 0, for nothing, to 10."""
    file = directory / "spindle.service"
    file.write_text(unit.replace("/opt/spindle/.venv/bin/spindle", shutil.which("true") or ""))
    for words in (["verify"], ["security", "--offline=true", "--no-pager"]):
        done = subprocess.run(
            ["systemd-analyze", *words, str(file)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found
    return float(found[1])


def test_systemd_finds_little_exposed(tmp_path: Path) -> None:
    require("systemd-analyze")
    assert exposed(UNIT, tmp_path) <= 1.5
    assert exposed(re.sub(r"(?m)^CapabilityBoundingSet=\n", "", UNIT), tmp_path) > 1.5
