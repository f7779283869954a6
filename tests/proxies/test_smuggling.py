"""Requests with two readings, through real proxies: both logs tell of the same requests.

RFC 9112, 11.2: "Request smuggling is a technique that exploits differences in protocol parsing
among various recipients to hide additional requests (which might otherwise be blocked or disabled
by policy) within an apparently harmless request."
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.proxies.conversations import Asked, Conversation, compare, hold_all
from tests.proxies.payloads import PAYLOADS, Payload
from tests.proxies.programs import PROXIES, Passed
from tests.servers import Spindle


@pytest.fixture(scope="module", params=[None, *PROXIES], ids=["alone", "nginx", "haproxy"])
def held(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Conversation]:
    """All of it at once, on connections that everybody shares."""
    directory: Path = tmp_path_factory.mktemp("smuggling")
    with Spindle(directory / "data") as server:
        if request.param is None:
            return hold_all(server, None)
        with request.param(directory / "proxy", server.registry) as proxy:
            return hold_all(server, proxy)


@pytest.mark.parametrize("payload", PAYLOADS, ids=[f"{one.kind}: {one.name}" for one in PAYLOADS])
def test_both_logs_tell_of_the_same_requests_and_nobody_gets_the_answer_of_another(
    held: list[Conversation], payload: Payload
) -> None:
    one = held[PAYLOADS.index(payload)]
    assert one.problems == [], f"{one.passed}\n{one.asked}\n{one.answer!r}"


def test_much_is_forwarded_and_much_is_refused(held: list[Conversation]) -> None:
    """Else the agreement could be that of two who were never asked."""
    outcomes = Counter(one.outcome for one in held)
    assert outcomes["forwarded"] > 40
    assert outcomes["refused by the proxy" if held[0].proxied else "refused by Spindle"] > 60


def _sent(path: str, status: int = 404, *, forwarded: bool = True) -> Passed:
    return Passed("GET", path, status, forwarded)


def _asked(path: str, status: int | None = 404) -> Asked:
    return Asked("GET", path, status)


@pytest.mark.parametrize(
    ("passed", "asked", "agree"),
    [
        ([], [], True),
        ([_sent("/a"), _sent("/b")], [_asked("/a"), _asked("/b")], True),
        ([_sent("/a", 400)], [], True),  # Spindle refused the head
        ([_sent("/a", 400), _sent("/b")], [_asked("/b")], True),
        ([_sent("/a", 400)], [_asked("/a", None)], True),  # and here the body
        ([_sent("/a", 499)], [_asked("/a")], True),  # the client left
        ([_sent("/a", forwarded=False)], [], True),
        ([_sent("/a", forwarded=False)], [_asked("/a")], False),
        ([], [_asked("/a")], False),
        ([_sent("/a")], [], False),
        ([_sent("/a")], [_asked("/a"), _asked("/a")], False),
        ([_sent("/a")], [_asked("/a"), _asked("/smuggled")], False),
        ([_sent("/a"), _sent("/b")], [_asked("/b"), _asked("/a")], False),
        ([_sent("/a", 200)], [_asked("/a", 404)], False),
    ],
)
def test_a_log_that_tells_of_something_else_is_noticed(
    passed: list[Passed], asked: list[Asked], agree: bool
) -> None:
    assert (compare(passed, asked) == []) is agree
