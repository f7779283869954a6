"""The checker knows right histories from wrong ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from tests.durability.register import NEVER, Call, Kind, Result, check

REFUSED, UNKNOWN = Result.REFUSED, Result.UNKNOWN


def write(start: float, end: float, value: str, result: Result = Result.DONE) -> Call:
    return Call(Kind.WRITE, start, end, value, result=result)


def read(start: float, end: float, value: str | None) -> Call:
    return Call(Kind.READ, start, end, value)


def delete(start: float, end: float, result: Result = Result.DONE) -> Call:
    return Call(Kind.DELETE, start, end, result=result)


def swap(
    start: float, end: float, expected: str | None, value: str, result: Result = Result.DONE
) -> Call:
    return Call(Kind.SWAP, start, end, value, expected, result)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="nothing"),
        pytest.param([read(0, 1, None)], id="nothing is there at first"),
        pytest.param([write(0, 1, "a"), read(2, 3, "a")], id="one after another"),
        pytest.param(
            [write(0, 9, "a"), read(1, 2, None), read(3, 4, "a")], id="seen while it is written"
        ),
        pytest.param([write(0, 9, "a"), write(1, 8, "b"), read(10, 11, "a")], id="either is last"),
        pytest.param([write(0, 9, "a"), write(1, 8, "b"), read(10, 11, "b")], id="or the other"),
        pytest.param([write(0, 1, "a"), delete(2, 3), read(4, 5, None)], id="deleted"),
        pytest.param([write(0, 5, "a"), delete(1, 2, REFUSED)], id="nothing to delete yet"),
        pytest.param([write(0, NEVER, "a", UNKNOWN), read(5, 6, None)], id="unknown, not done"),
        pytest.param([write(0, NEVER, "a", UNKNOWN), read(5, 6, "a")], id="unknown, done"),
        pytest.param(
            [write(0, NEVER, "a", UNKNOWN), read(5, 6, None), read(7, 8, "a")],
            id="unknown, done late",
        ),
        pytest.param(
            [swap(0, 1, None, "a"), swap(2, 3, "a", "b"), read(4, 5, "b")], id="swapped twice"
        ),
        pytest.param(
            [swap(0, 5, None, "a"), swap(0, 5, None, "b", REFUSED), read(6, 7, "a")],
            id="one of two swaps",
        ),
        pytest.param(
            [write(0, 1, "a"), swap(2, 3, "z", "b", REFUSED), read(4, 5, "a")], id="swap refused"
        ),
    ],
)
def test_these_are(history: Sequence[Call]) -> None:
    assert check(history).linearizable


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([read(0, 1, "a")], id="out of nowhere"),
        pytest.param([write(0, 1, "a"), read(2, 3, None)], id="a lost write"),
        pytest.param([write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a")], id="a stale read"),
        pytest.param(
            [write(0, 9, "a"), read(1, 2, "a"), read(3, 4, None)], id="there, and gone again"
        ),
        pytest.param(
            [
                write(0, 9, "a"),
                write(0, 9, "b"),
                *(read(n, n + 1, v) for n, v in ((10, "a"), (12, "b"))),
            ],
            id="two are last",
        ),
        pytest.param([write(0, 1, "a"), delete(2, 3), read(4, 5, "a")], id="back from the dead"),
        pytest.param([write(0, 1, "a"), delete(2, 3, REFUSED)], id="it is there to delete"),
        pytest.param([delete(0, 1)], id="nothing was there to delete"),
        pytest.param([write(0, 1, "a"), delete(2, 5), delete(2, 5)], id="deleted twice"),
        pytest.param(
            [write(0, NEVER, "a", UNKNOWN), read(5, 6, "a"), read(7, 8, None)],
            id="unknown, done and undone",
        ),
        pytest.param(
            [write(4, NEVER, "a", UNKNOWN), read(1, 2, "a")], id="seen before it was asked for"
        ),
        pytest.param(
            [write(0, 1, "a"), swap(2, 5, "a", "b"), swap(2, 5, "a", "c")], id="a lost update"
        ),
        pytest.param(
            [write(0, 1, "a"), swap(2, 3, "a", "b", REFUSED)], id="refused without a reason"
        ),
        pytest.param([write(0, 1, "a"), swap(2, 3, None, "b")], id="something was there"),
    ],
)
def test_these_are_not(history: Sequence[Call]) -> None:
    verdict = check(history)
    assert not verdict.linearizable
    assert verdict.stuck


def a_history(chance: random.Random, length: int, clients: int, unknown: float) -> list[Call]:
    """What clients of a real register see: each call works at one moment of its own."""
    calls = []
    free = [0.0] * clients
    for _ in range(length):
        client = chance.randrange(clients)
        start = free[client] + chance.random()
        at = start + chance.random() * 3
        free[client] = at + chance.random() * 3
        calls.append((at, start, free[client]))
    held: str | None = None
    history = []
    for number, (_, start, end) in enumerate(sorted(calls)):
        kind = chance.choice(list(Kind))
        value = f"v{number}"
        expected = chance.choice([held, held, None, "v0"])
        lost = chance.random() < unknown
        works = {
            Kind.WRITE: True,
            Kind.READ: True,
            Kind.DELETE: held is not None,
            Kind.SWAP: held == expected,
        }[kind]
        if kind is Kind.READ:
            call = read(start, end, held)
        else:
            result = Result.DONE if works else REFUSED
            call = Call(kind, start, end, value, expected, result)
            if works and not (lost and chance.random() < 0.5):
                held = None if kind is Kind.DELETE else value
        if lost:
            call = replace(call, end=NEVER, result=UNKNOWN)
        history.append(call)
    return history


@pytest.mark.parametrize("seed", range(20))
def test_what_a_register_did_is(seed: int) -> None:
    assert check(a_history(random.Random(seed), 300, 6, unknown=0.01)).linearizable


@pytest.mark.parametrize("seed", range(20))
def test_it_is_not_with_one_read_of_long_ago(seed: int) -> None:
    history = a_history(random.Random(seed), 300, 6, unknown=0)
    times = sorted(call.end for call in history)
    written = [call for call in history if call.kind is Kind.WRITE]
    old = min(written, key=lambda call: call.end)
    history.append(read(times[-1] + 1, times[-1] + 2, old.value))
    assert not check(history).linearizable


def test_it_says_what_trying_all_orders_says() -> None:
    said = Counter[bool]()
    for seed in range(300):
        chance = random.Random(seed)
        history = a_history(chance, 6, 3, unknown=0.1)
        spoilt = chance.randrange(len(history))
        history[spoilt] = replace(history[spoilt], value=f"v{chance.randrange(6)}")
        linearizable = check(history).linearizable
        assert linearizable == any(
            allowed(order)
            for left_out in subsets([call for call in history if call.result is UNKNOWN])
            for order in permutations([call for call in history if call not in left_out])
        )
        said[linearizable] += 1
    assert min(said[True], said[False]) > 50


def subsets(calls: list[Call]) -> list[list[Call]]:
    if not calls:
        return [[]]
    rest = subsets(calls[1:])
    return rest + [[calls[0], *some] for some in rest]


def allowed(order: Sequence[Call]) -> bool:
    value: str | None = None
    for number, call in enumerate(order):
        after = call.after(value)
        if not after or any(later.end < call.start for later in order[number + 1 :]):
            return False
        (value,) = after
    return True
