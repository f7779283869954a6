"""An audit in a directory, for tests: opened, read again, and on a disk that can be full."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from registry.audit_log import AuditLog
from storage import chain
from storage.chain import Checked, Head
from storage.filesystem.chained import ChainFiles, read_files
from storage.filesystem.layout import AuditRoom
from storage.reserve import Boundless, Reserve

OWN = ("seq", "time", "previous", "request", "address")


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(raw) for _, found in read_files(AuditRoom(directory)) for raw in found]


def told(directory: Path, *without: str) -> list[dict[str, Any]]:
    """The lines of requests and of whoever else acts, without what no test can foresee."""
    left_out = {*OWN, *without}
    return [
        {name: value for name, value in line.items() if name not in left_out}
        for line in lines(directory)
        if not line["action"].startswith(("audit.", "server."))
    ]


def check(directory: Path, noted: Head | None = None) -> Checked:
    return chain.verify(read_files(AuditRoom(directory)), noted)


@asynccontextmanager
async def open_log(directory: Path, reserve: Reserve | None = None) -> AsyncIterator[AuditLog]:
    files = ChainFiles(AuditRoom.open(directory), size=1 << 20, keep=0, now=lambda: 1e9)
    audit = AuditLog(files, reserve or Boundless())
    try:
        yield audit
    finally:
        await audit.close()
