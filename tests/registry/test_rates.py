"""How often somebody may ask, and how much he may send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from registry.auth.identity import ANONYMOUS, ANYBODY, Kind, Principal
from registry.rates import DAY, Buckets, Rates, key, place
from registry.settings import Bytes, Rate, RateSettings, Seconds
from tests.asgi import Answer, Registry, digest_of, image, open_store


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


AMOUNTS = st.floats(0.01, 20, allow_nan=False)
STEPS = st.lists(st.tuples(st.floats(0, 100, allow_nan=False), AMOUNTS), max_size=60)


@given(rate=st.floats(0.01, 50), burst=st.floats(1, 50), steps=STEPS)
def test_no_more_is_given_than_came_and_was_there(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    clock, began = Clock(), 1000.0
    buckets, given_out = Buckets(rate, burst, clock=clock), 0.0
    for passed, amount in steps:
        clock.now += passed
        if buckets.take("a", amount) == 0:
            given_out += amount
    assert given_out <= (burst + rate * (clock.now - began)) * (1 + 1e-6)


@given(rate=st.floats(0.01, 50), burst=st.floats(1, 50), steps=STEPS, amount=AMOUNTS)
def test_who_waits_as_long_as_he_was_told_is_given_it(
    rate: float, burst: float, steps: list[tuple[float, float]], amount: float
) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock=clock)
    for passed, each in steps:
        clock.now += passed
        buckets.charge("a", each)
    seconds = buckets.take("a", amount)
    assert (seconds == float("inf")) == (amount > burst)
    if 0 < seconds < float("inf"):
        clock.now += seconds * 0.99
        assert buckets.wait("a", amount) > 0
        clock.now += seconds * 0.01 + 1e-3
        assert buckets.take("a", amount) == 0


@given(st.lists(st.integers(0, 30), max_size=100))
@example(list(range(31)))
def test_only_those_who_were_seen_last_are_known(keys: list[int]) -> None:
    buckets = Buckets(1, 1, clock=Clock(), known=10)
    for each in keys:
        buckets.take(str(each))
    last = list(dict.fromkeys(reversed(keys)))[:10]
    assert len(buckets) == len(last)
    assert all(buckets.wait(str(each), 1) > 0 for each in reversed(last))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("", "", True),
    ],
)
def test_a_64_of_ipv6_is_one_place(one: str, other: str, same: bool) -> None:
    assert (place(one) == place(other)) is same


class From:
    """As a server hands a request on that came from an address."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.address = "192.0.2.1"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "client": (self.address, 1)}, receive, send)


class Limited(Registry):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.source = From(self.app)
        self.app = self.source


@asynccontextmanager
async def limited(root: Path, clock: Clock, **rates: Any) -> AsyncIterator[Limited]:
    async with open_store(root) as store:
        yield Limited(store, rates=Rates(RateSettings(**rates), clock=clock))


def refused(answer: Answer, after: str) -> None:
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.header("retry-after") == after


async def test_an_address_may_ask_so_often_and_others_too(tmp_path: Path) -> None:
    clock = Clock()
    async with limited(tmp_path, clock, address=Rate(0.5), burst=Seconds(4)) as registry:
        for _ in range(2):
            assert (await registry("GET", "/v2/")).status == 200
        refused(await registry("GET", "/v2/"), "2")
        registry.source.address = "192.0.2.2"
        assert (await registry("GET", "/v2/")).status == 200
        registry.source.address = "192.0.2.1"
        clock.now += 2
        assert (await registry("GET", "/v2/")).status == 200


async def test_pushes_are_counted_by_their_manifests(tmp_path: Path) -> None:
    async with limited(tmp_path, Clock(), pushes=Rate(1), burst=Seconds(1)) as registry:
        await registry.push_image("app", "v1")
        await registry.push_blob("app", b"another")
        refused(await registry.push_manifest("app", "v2", image()), "1")
        assert (await registry("GET", "/v2/app/manifests/v1")).status == 200


async def test_bytes_of_a_day_are_counted_as_they_come(tmp_path: Path) -> None:
    clock = Clock()
    async with limited(tmp_path, clock, bytes=Bytes(1000)) as registry:
        await registry.push_blob("app", bytes(600))
        answer = await registry(
            "POST", f"/v2/app/blobs/uploads/?digest={digest_of(bytes(401))}", body=bytes(401)
        )
        refused(answer, "87")  # of the 86,400 seconds, for one byte in a thousand
        assert answer.reads == 0
        registry.chunked = True  # and so not announced: what was begun may end
        await registry.push_blob("app", bytes(500))
        refused(await registry("POST", "/v2/app/blobs/uploads/"), "8727")
        clock.now += DAY
        await registry.push_blob("app", bytes(601))


async def test_what_no_day_has_room_for_is_told_so(tmp_path: Path) -> None:
    async with limited(tmp_path, Clock(), bytes=Bytes(1000)) as registry:
        answer = await registry("POST", "/v2/app/blobs/uploads/?digest=x", body=bytes(1001))
        refused(answer, "86400")
        assert b"more than the 1000 bytes" in answer.body


ADA, BOB = (Principal(Kind.USER, name) for name in ("ada", "bob"))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((ADA, "192.0.2.1"), (ADA, "192.0.2.2"), True),
        ((ADA, "192.0.2.1"), (BOB, "192.0.2.1"), False),
        ((ADA, "192.0.2.1"), (ANONYMOUS, "192.0.2.1"), False),
        ((ANONYMOUS, "192.0.2.1"), (ANONYMOUS, "192.0.2.2"), False),
        ((ANYBODY, "192.0.2.1"), (ANONYMOUS, "192.0.2.1"), True),
    ],
)
def test_who_signed_in_is_counted_by_who_he_is(first: Any, second: Any, same: bool) -> None:
    assert (key(*first) == key(*second)) is same
