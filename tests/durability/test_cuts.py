"""Clients that vanish. The long form is `scripts/workers`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.durability.cuts import Vanishing, chosen, every, hasty, vanishing
from tests.durability.wire import Ending, Framing
from tests.servers import Spindle


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vanishing]:
    with vanishing(tmp_path_factory.mktemp("vanishing") / "data") as clients:
        yield clients


@pytest.fixture(autouse=True)
def _nothing_wrong_yet(clients: Vanishing) -> None:
    clients.wrong.clear()


@pytest.mark.parametrize("framing", Framing, ids=lambda framing: framing.value)
@pytest.mark.parametrize("ending", Ending, ids=lambda ending: ending.value)
def test_what_is_kept_of_a_vanished_client_is_told_and_can_be_gone_on_from(
    clients: Vanishing, ending: Ending, framing: Framing
) -> None:
    """At every border: of nothing, of what is read at once, of a piece, and of the whole."""
    for cut in every(ending, framing):
        clients.go(cut)
        assert clients.wrong == []
    assert clients.kept > 0


def test_so_it_is_anywhere(clients: Vanishing) -> None:
    for cut in chosen(seed=1, count=150):
        clients.go(cut)
        assert clients.wrong == []


def test_who_goes_on_at_once_after_every_break_arrives(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--workers", "2") as server:
        wrong = [sentence for seed in range(10) for sentence in hasty(server.registry, seed)]
    assert wrong == []
