from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.deploy.routes import HostUnknown, Routes, Target
from registry.deploy.runtimes import Address
from storage.digest import SHA256


def a_target(revision: int = 1) -> Target:
    return Target(Address(unix=Path("/nowhere")), "app", revision, SHA256.digest(b""))


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("hello.example", "hello.example"),
        ("hello.example", "HELLO.Example"),  # RFC 3986 section 3.2.2: hosts have no case
        ("HELLO.example", "hello.example"),
        ("hello.example", "hello.example:8080"),
        ("hello.example", "hello.example:"),
        ("hello.example", "hello.example."),  # the root dot
        ("hello.example", "Hello.Example.:443"),
        ("127.0.0.1", "127.0.0.1:5000"),
        ("[::1]", "[::1]:5000"),
        ("[::1]", "[::1]"),
    ],
)
def test_a_host_is_found_however_it_is_written(known, asked):
    routes = Routes()
    target = a_target()
    routes.point(known, target)
    assert routes.resolve(asked) is target


@pytest.mark.parametrize(
    "asked",
    [
        "",
        ":80",
        ".",
        "example",
        "other.example",
        "x.hello.example",
        "hello.example..",
        "hello.example:80:80",
        "hello.example:x",
        "user@hello.example",
        "[hello.example]",
        "[::1",
        "::1",
        "::1]:80",
        "hello.example\n",
        "héllo.example",
    ],
)
def test_any_other_host_is_unknown(asked):
    routes = Routes()
    routes.know("hello.example")
    with pytest.raises(HostUnknown):
        routes.resolve(asked)


def test_a_known_host_without_an_instance_leads_nowhere():
    routes = Routes()
    routes.know("hello.example")
    assert routes.resolve("hello.example") is None


def test_knowing_a_host_again_does_not_take_its_instance():
    routes = Routes()
    target = a_target()
    routes.point("hello.example", target)
    routes.know("HELLO.example")
    assert routes.resolve("hello.example") is target


def test_pointing_returns_where_the_host_led_before():
    routes = Routes()
    first, second = a_target(1), a_target(2)
    assert routes.point("hello.example", first) is None
    assert routes.point("hello.example", second) is first
    assert routes.point("hello.example", None) is second
    assert routes.resolve("hello.example") is None


def test_a_forgotten_host_is_unknown():
    routes = Routes()
    routes.point("hello.example", a_target())
    routes.forget("Hello.example")
    with pytest.raises(HostUnknown):
        routes.resolve("hello.example")
    routes.forget("hello.example")


async def test_an_idle_target_is_drained_at_once():
    assert await Routes().drained(a_target(), 0)


async def test_a_target_is_drained_when_the_last_request_ends():
    routes = Routes()
    target = a_target()
    target.begin()
    target.begin()
    waiting = asyncio.create_task(routes.drained(target, 60))
    await asyncio.sleep(0)
    target.end()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    target.end()
    assert await waiting


async def test_a_target_that_is_busy_for_too_long_is_not_drained():
    routes = Routes()
    target = a_target()
    target.begin()
    assert not await routes.drained(target, 0.01)


async def test_two_may_wait_for_one_target():
    routes = Routes()
    target = a_target()
    target.begin()
    waiting = [asyncio.create_task(routes.drained(target, 60)) for _ in range(2)]
    await asyncio.sleep(0)
    target.end()
    assert await asyncio.gather(*waiting) == [True, True]


def test_a_target_is_over_when_no_host_leads_to_it_and_nothing_is_in_flight():
    routes = Routes()
    target = a_target()
    over: list[str] = []
    routes.point("a.example", target)
    routes.point("b.example", target)
    target.begin()
    target.when_over(lambda: over.append("over"))
    routes.forget("a.example")
    routes.point("b.example", None)
    assert over == []
    target.end()
    assert over == ["over"]


def test_pointing_a_host_where_it_leads_already_does_not_end_the_target():
    routes = Routes()
    target = a_target()
    over: list[str] = []
    routes.point("a.example", target)
    target.when_over(lambda: over.append("over"))
    routes.point("a.example", target)
    assert over == []
