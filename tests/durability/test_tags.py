"""Tags are linearizable, also through two workers. The long form is `scripts/workers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.durability.register import Kind, Result, check
from tests.durability.tags import explained, record
from tests.durability.workers import Workers
from tests.servers import Spindle

CALLS = 150


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    with Spindle(tmp_path_factory.mktemp("tags") / "data", "--workers", "2") as server:
        yield server


@pytest.fixture(scope="module")
def workers(server: Spindle) -> Workers:
    return Workers(server)


def test_there_is_one_order_in_which_a_tag_moved(server: Spindle, workers: Workers) -> None:
    done = Counter[tuple[Kind, Result]]()
    for seed in range(8):
        history = record(server, workers, seed=seed, calls=CALLS, kill=False)
        verdict = check(history)
        assert verdict.linearizable, explained(verdict)
        assert len(history) == CALLS
        done.update((call.kind, call.result) for call in history)
    assert done[Kind.SWAP, Result.DONE] > 0
    assert done[Kind.SWAP, Result.REFUSED] > 0
    assert done[Kind.DELETE, Result.DONE] > 0


def test_and_so_there_is_when_a_worker_is_killed_meanwhile(
    server: Spindle, workers: Workers
) -> None:
    for seed in (100, 101):
        verdict = check(record(server, workers, seed=seed, calls=CALLS, kill=True))
        assert verdict.linearizable, explained(verdict)
