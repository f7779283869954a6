"""A disk that refuses a write: Linux tells it once, forgets the bytes, and then says all is well.

What a server was about to make durable must not be acknowledged then, nor served; the same push
must succeed when the disk is well again; and while a disk refuses to flush, what is there can still
be pulled. Run as a program, with a mode of tests.power.served and "pushes" or "checkpoints": prints
what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from registry import server as serving
from registry.config import load
from storage.digest import SHA256
from tests.asgi import IMAGE
from tests.power.filesystems import FILESYSTEMS, REFUSED, ROOM, memory, recording
from tests.power.history import History, Key, Step
from tests.power.images import prefix
from tests.power.log import Log
from tests.power.replay import Recording, replay
from tests.power.scenario import SHOP, WARM, Client, Inside, image

MARK: Final = b"no disk will have this"
LATER: Final = b"nor this when it is copied"
PUSHES: Final = ("blob", "blob in chunks", "manifest")


class Refusals:
    """Pushes what the disk refuses; `wrong` says in sentences what should not be."""

    def __init__(self, client: Client, history: History, refused: Path, log: Path) -> None:
        self.wrong: list[str] = []
        self._client = client
        self._history = history
        self._refused = refused
        self._log = log
        self._large = 0

    @contextmanager
    def _refusing(self, what: bytes) -> Iterator[None]:
        draft = self._refused.with_name("draft")
        times = self._refused.with_name(f"{self._refused.name}.times")
        times.write_bytes(b"")
        draft.write_bytes(what)
        draft.rename(self._refused)
        yield
        self._refused.unlink()
        if not times.read_bytes():
            self.wrong.append(f"nothing was refused that has {what!r}")

    def writes(self, kind: str, data: bytes) -> None:
        """Push bytes that the disk refuses, then again those that it takes."""
        with self._refusing(MARK):
            status = self._push(kind, data)
        if status < 500:
            self.wrong.append(f"{kind}: {status} for what the disk refused")
        else:
            found = self._get(kind, data)
            if found != 404:
                self.wrong.append(f"{kind}: {found} for what was refused")
            if (status := self._push(kind, data)) != 201:
                self.wrong.append(f"{kind}: {status} when the disk is well again")
        if (found := self._get(kind, data)) != 200:
            self.wrong.append(f"{kind}: {found} for what was acknowledged")

    def checkpoints(self) -> None:
        """What SQLite's log has already cannot be copied from there into its file."""
        # Long, so that its pages have nothing else, and no other transaction writes them.
        long = "x" * 50_000 + LATER.decode() + "x" * 50_000
        if (status := self._push("manifest", content("manifest", long))) != 201:
            self.wrong.append(f"{status} for a manifest")
        with self._refusing(LATER):
            self._fill_log()
        self._fill_log()

    def _fill_log(self) -> None:
        """Until SQLite copies it. What is acknowledged must last; more is not asked for."""
        for _ in range(4):
            self._large += 1
            self._push("manifest", content("manifest", f"{self._large}" + "x" * (WARM // 2)))

    def flushes(self, known: bytes) -> None:
        with self._refusing(b""):
            for kind in PUSHES:
                status = self._push(kind, content(kind, f"unflushed {kind}"))
                if status < 500:
                    self.wrong.append(f"{kind}: {status} and no flush")
            if (found := self._get("blob", known)) != 200:
                self.wrong.append(f"{found} for a blob while the disk refuses to flush")

    def _push(self, kind: str, data: bytes) -> int:
        """The status; what was acknowledged goes into the history."""
        digest = SHA256.digest(data).text
        self._history.contents[digest] = data
        began = self._length()
        if kind == "manifest":
            path = f"/v2/{SHOP}/manifests/{digest}"
            status, _, _ = self._client.answer("PUT", path, data, {"Content-Type": IMAGE})
        elif kind == "blob":
            path = f"/v2/{SHOP}/blobs/uploads/?digest={digest}"
            status, _, _ = self._client.answer("POST", path, data)
        else:
            status, location, _ = self._client.answer("POST", f"/v2/{SHOP}/blobs/uploads/", b"")
            for piece in (data[:5000], data[5000:]):
                if status == 202:
                    status, _, _ = self._client.answer("PATCH", location, piece)
            if status == 202:
                status, _, _ = self._client.answer("PUT", f"{location}?digest={digest}", b"")
        if status == 201:
            changes = {_key(kind, digest): digest}
            self._history.steps.append(Step(kind, began, self._length(), changes))
        return status

    def _get(self, kind: str, data: bytes) -> int:
        key = _key(kind, SHA256.digest(data).text)
        path = f"/v2/{key.repository}/{key.kind}/{key.reference}"
        status, _, body = self._client.answer("GET", path)
        if status == 200 and body != data:
            self.wrong.append(f"{kind}: other bytes")
        return status

    def _length(self) -> int:
        return self._log.stat().st_size


def _keep_writes_small(directory: Path) -> None:
    """So that each is one request to our disk.

    Of several, the loop driver takes it for a success when the first ones succeeded.
    """
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    Path(f"/sys/dev/block/{number}/queue/max_sectors_kb").write_text("64")


def _key(kind: str, digest: str) -> Key:
    return Key("manifests" if kind == "manifest" else "blobs", SHOP, digest)


def content(kind: str, note: str) -> bytes:
    if kind != "manifest":
        return random.Random(note).randbytes(40_000) + note.encode() + bytes(9000)
    manifest = image({"digest": SHA256.digest(b"{}").text, "size": 2}, note=note)
    return json.dumps(manifest).encode()


def main(mode: str, what: str) -> int:
    filesystem = FILESYSTEMS["ext4"]
    history = History()
    with tempfile.TemporaryDirectory() as directory, memory(Path(directory)) as scratch:
        base, log, inside = scratch / "base", scratch / "log", scratch / "inside"
        data = inside / "data"
        inside.mkdir()
        (scratch / "outside").mkdir()
        filesystem.format(base)
        with filesystem.mounted(base, inside):
            asyncio.run(serving.prepare(load(flags={"data": str(data), **ROOM})))
        server = Inside(data, scratch / "server.log", mode)
        with recording(base, log, scratch / "outside") as disk, filesystem.mounted(disk, inside):
            _keep_writes_small(inside)
            client = Client(history, lambda: log.stat().st_size, random.Random(0))
            try:
                server.start()
                client.connect(server.registry)
                known = b"{}"  # the config of all images here
                history.contents[SHA256.digest(known).text] = known
                client.blob(SHOP, known)
                trial = Refusals(client, history, Path(f"{log}{REFUSED}"), log)
                if what == "checkpoints":
                    trial.checkpoints()
                else:
                    for number in range(3):
                        for kind in PUSHES:
                            trial.writes(kind, content(kind, f"{MARK.decode()} {kind} {number}"))
                    trial.flushes(known)
            finally:
                client.close()
                server.kill()
            size = log.stat().st_size
        found = Log.read(log, size)
        recorded = Recording(base, found, history.counted(found.count))
        last = [prefix(found.records, len(found.records))]
        for _, checked in replay(recorded, filesystem, scratch, last):
            trial.wrong += [one.sentence for one in getattr(checked, "wrong", [])]
            if not getattr(checked, "promises", 0):
                trial.wrong.append(f"nothing was promised: {checked}")
    print(*trial.wrong, sep="\n")
    return 1 if trial.wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
