"""A short form of what `scripts/workers` does for ten minutes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.durability.storm import storm
from tests.durability.wire import Ending, Framing, Half
from tests.durability.workers import Workers
from tests.servers import Spindle, wait_for


def test_no_promise_is_broken_while_workers_are_killed(tmp_path: Path) -> None:
    outcome = storm(tmp_path / "data", seconds=8)
    assert outcome.wrong == []
    # Some of what was uploaded was garbage, and is gone.
    assert outcome.done["uploaded"] > outcome.done["blobs at the end"], outcome.done


def test_a_worker_that_is_killed_lets_go_of_its_upload(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--workers", "2") as server:
        workers = Workers(server)
        lines = {pid: workers.line(pid) for pid in workers.registry}
        (mine, theirs) = lines
        session = lines[mine].ask("POST", "/v2/acme/shop/blobs/uploads/", b"").headers["location"]
        assert lines[mine].ask("PATCH", session, b"kept").status == 202
        half = Half(server.registry, "PATCH", session, b" half", whole=100, framing=Framing.LENGTH)
        wait_for(lambda: workers.unread(half.port) == 0, "the server to read")
        holder = workers.holder(half.port)
        assert holder is not None
        other = lines[theirs if holder == mine else mine]
        lines[holder].ask("GET", "/v2/")  # what it read before is with its handler then
        assert other.ask("PATCH", session, b"").status == 416
        os.kill(holder, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{holder}").exists(), "it to be dead")
        answer = other.ask("PATCH", session, b" whole", {"Content-Range": "4-9"})
        assert (answer.status, answer.kept) == (202, 10)
        half.cut(Ending.FIN)
        for line in lines.values():
            line.close()
