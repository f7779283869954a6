"""A server that many slow clients hold answers a healthy one, and throws them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Spindle, wait_for
from tests.slow.attackers import KINDS
from tests.slow.holding import attack, fill, healthy

COUNT = 120

# Low, so that nobody has to wait long; and fewer connections than there are attackers.
IMPATIENT = {
    "first_byte": "1",
    "header": "1",
    "body_grace": "1",
    "body_window": "1",
    "stall": "1",
    "idle": "1",
    "limit": "100",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Spindle, str]]:
    arguments = [
        part
        for name, value in IMPATIENT.items()
        if name != "limit"
        for part in ("--set", f"connections.{name}={value}")
    ]
    with Spindle(tmp_path_factory.mktemp("slow") / "data", *arguments) as server:
        yield server, fill(server)


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_client_is_answered_and_the_others_are_thrown_out(
    served: tuple[Spindle, str], kind: str
) -> None:
    server, blob = served
    with attack(kind, server.registry, blob, COUNT, "--once", "--pause", "0.2") as attackers:
        assert healthy(server.registry, 0, least=200).failed == []
        assert attackers.stdout is not None
        assert attackers.stdout.readline() == f"{COUNT}\n"


@pytest.mark.parametrize("kind", ["silent", "header"])
def test_a_healthy_client_has_a_place_although_all_are_taken(tmp_path: Path, kind: str) -> None:
    with Spindle(tmp_path / "data", "--set", f"connections.limit={IMPATIENT['limit']}") as server:
        blob = fill(server)
        with attack(kind, server.registry, blob, COUNT, "--pause", "0.2"):
            assert healthy(server.registry, 0, least=200).failed == []
            wait_for(lambda: '"evicted"' in server.log.read_text(), "somebody to go")
