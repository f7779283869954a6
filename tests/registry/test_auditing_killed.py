"""A server that is killed: whatever it had answered with success is in the audit."""

from __future__ import annotations

import http.client
import signal
import threading
from pathlib import Path

import pytest

from tests.asgi import digest_of
from tests.registry.auditing import check, told
from tests.servers import Spindle, wait_for


class Pusher(threading.Thread):
    """Pushes one blob after the other until the server is gone."""

    def __init__(self, address: str, name: str, acknowledged: list[str]) -> None:
        super().__init__()
        self._address = address
        self._name = name
        self._acknowledged = acknowledged

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        number = len(self._acknowledged)
        try:
            while True:
                data = f"{self._name} {number}".encode()
                path = f"/v2/{self._name}/blobs/uploads/?digest={digest_of(data)}"
                connection.request("POST", path, data)
                answer = connection.getresponse()
                if answer.status == 201:
                    self._acknowledged.append(digest_of(data))
                answer.read()
                number += 1
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_change_that_was_answered_is_without_its_line(tmp_path: Path, workers: int) -> None:
    data = tmp_path / "data"
    # Some 20 lines fill a file, so that it is often killed while it begins one.
    server = Spindle(
        data,
        *("--set", "audit.enabled=true", "--set", "audit.size=8KiB"),
        *("--set", f"registry.workers={workers}"),
    )
    acknowledged: dict[str, list[str]] = {f"team/{number}": [] for number in range(3)}
    for round in range(1, 6):
        with server:
            pushers = [Pusher(server.registry, *each) for each in acknowledged.items()]
            for pusher in pushers:
                pusher.start()
            wanted = round * 41
            wait_for(lambda: sum(map(len, acknowledged.values())) >= wanted, "pushes", 60)  # noqa: B023
            server.stop(signal.SIGKILL)
            for pusher in pushers:
                pusher.join()
        found = {(line["repository"], line["digest"]) for line in told(data / "audit")}
        missing = {
            (name, digest) for name, digests in acknowledged.items() for digest in digests
        } - found
        assert missing == set()
    with server:
        pass
    checked = check(data / "audit")
    assert checked.broken is None
    assert len(list((data / "audit").glob("*.jsonl"))) > 3
