"""The life of a revision, over every pair of phase and observation."""

from __future__ import annotations

import itertools

import pytest

from registry.deploy.rollout import (
    OBSERVATIONS,
    TRANSITIONS,
    Accepted,
    Answering,
    Died,
    Faulty,
    Impossible,
    Launched,
    Observation,
    Overtaken,
    Phase,
    Proven,
    Replaced,
    Resumed,
    Staged,
    next_step,
)

COMING = ["received", "validated", "staged", "starting", "checking"]

EXPECTED = {
    ("received", "Accepted"): "validated",
    ("validated", "Staged"): "staged",
    ("staged", "Launched"): "starting",
    ("starting", "Answering"): "checking",
    ("checking", "Proven"): "live",
    ("live", "Replaced"): "draining",
    ("live", "Died"): "live",
    ("draining", "Drained"): "retired",
    **{(phase, "Faulty"): "failed" for phase in COMING},
    **{(phase, "Overtaken"): "superseded" for phase in COMING},
    ("received", "Resumed"): "received",
    ("validated", "Resumed"): "validated",
    ("staged", "Resumed"): "staged",
    ("starting", "Resumed"): "staged",
    ("checking", "Resumed"): "staged",
    ("live", "Resumed"): "live",
    ("draining", "Resumed"): "retired",
}


def make(kind: type[Observation]) -> Observation:
    if kind is Accepted:
        return Accepted("hello")
    if kind is Faulty:
        return Faulty("no")
    if kind is Died:
        return Died("no")
    if kind is Overtaken:
        return Overtaken(2)
    if kind is Replaced:
        return Replaced(2)
    made: Observation = kind()  # type: ignore[call-arg]  # those that are left have no fields
    return made


@pytest.mark.parametrize(
    ("phase", "kind"),
    list(itertools.product(Phase, OBSERVATIONS)),
    ids=lambda value: value.value if isinstance(value, Phase) else value.__name__,
)
def test_every_pair_leads_where_the_table_says_or_is_an_error(
    phase: Phase, kind: type[Observation]
) -> None:
    expected = EXPECTED.get((phase.value, kind.__name__))
    if expected is None:
        with pytest.raises(Impossible):
            next_step(phase, make(kind))
    else:
        assert next_step(phase, make(kind)) is Phase(expected)


def test_the_straight_way_leads_from_received_to_retired() -> None:
    phase = Phase.RECEIVED
    for kind in ("Accepted", "Staged", "Launched", "Answering", "Proven", "Replaced", "Drained"):
        phase = next(
            target
            for (source, observed), target in TRANSITIONS.items()
            if source is phase and observed.__name__ == kind
        )
    assert phase is Phase.RETIRED


def test_nothing_leads_out_of_a_final_phase() -> None:
    assert not [source for source, _ in TRANSITIONS if source.final]


def test_every_phase_can_be_reached() -> None:
    assert {Phase.RECEIVED, *TRANSITIONS.values()} == set(Phase)


def test_a_deployer_that_takes_over_believes_in_no_instance() -> None:
    """Only a live revision stays what it is; its instance is started at once."""
    for phase in (Phase.STARTING, Phase.CHECKING, Phase.DRAINING):
        assert next_step(phase, Resumed()) not in (Phase.STARTING, Phase.CHECKING, Phase.DRAINING)


def test_a_step_is_taken_once() -> None:
    for observation in (Accepted("a"), Staged(), Launched(), Answering(), Proven()):
        sources = [source for source, kind in TRANSITIONS if kind is type(observation)]
        assert len(sources) == 1
