"""Upgrades under load: no request fails, and an old instance is left alone only when it is idle."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from registry.deploy.routes import Target

HOST = "hello.apps.example"


async def work_a_little(instance, head, reader, writer):
    await asyncio.sleep(0.01)
    body = instance.name.encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def test_a_switch_under_load_fails_no_request_and_never_goes_back(front, start):
    """Two hundred requests a second, GET and POST; the old instance stops when it is drained."""
    old, new = await start("old", work_a_little), await start("new", work_a_little)
    front.routes.point(HOST, old.target())
    answers: list[tuple[float, int, str]] = []
    loop = asyncio.get_running_loop()

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        began = loop.time()
        method = "POST" if number % 2 else "GET"
        url = f"http://127.0.0.1:{front.port}/"
        body = b"x" if number % 2 else None
        async with session.request(method, url, headers={"Host": HOST}, data=body) as response:
            answers.append((began, response.status, await response.text()))

    async def stop_when_drained(target: Target) -> None:
        assert await front.routes.drained(target, 5)
        await old.close()

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(ask(session, number))
            if number == 100:
                switched = loop.time()
                previous = front.routes.point(HOST, new.target())
                assert previous is not None

                group.create_task(stop_when_drained(previous))
            await asyncio.sleep(0.005)

    assert len(answers) == 200
    assert {status for _, status, _ in answers} == {200}
    assert {body for began, _, body in answers if began < switched - 0.1} == {"old"}
    assert {body for began, _, body in answers if began > switched} == {"new"}


async def test_a_request_in_flight_finishes_on_the_instance_it_began_on(front, start, eventually):
    release = asyncio.Event()

    async def wait_then_answer(instance, head, reader, writer):
        await release.wait()
        await work_a_little(instance, head, reader, writer)

    old, new = await start("old", wait_then_answer), await start("new", work_a_little)
    first = old.target()
    front.routes.point(HOST, first)
    begun = asyncio.create_task(front.get())
    await eventually(lambda: old.heads)
    assert front.routes.point(HOST, new.target()) is first
    assert (await front.get()).endswith(b"new")
    assert not await front.routes.drained(first, 0.01)
    release.set()
    assert await front.routes.drained(first, 5)
    assert (await begun).endswith(b"old")


async def test_a_drained_instance_has_no_connections_left(front, start, eventually):
    """A pool is closed with its target, kept connections and all."""
    old, new = await start("old"), await start("new")
    front.routes.point(HOST, old.target())
    await front.get()
    assert old.closed == 0
    front.routes.point(HOST, new.target())
    await eventually(lambda: old.closed == old.accepted == 1)


async def test_a_target_that_comes_back_is_reached_again(front, start):
    old, new = await start("old"), await start("new")
    target = old.target()
    front.routes.point(HOST, target)
    await front.get()
    front.routes.point(HOST, new.target())
    await front.get()
    front.routes.point(HOST, target)
    assert (await front.get()).endswith(b"old")


async def hang_up(instance, head, reader, writer):
    writer.transport.abort()


async def stop_in_the_middle(instance, head, reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
    await writer.drain()
    writer.transport.abort()


async def nonsense(instance, head, reader, writer):
    writer.write(b"nonsense\r\n\r\n")


@pytest.mark.parametrize("behave", [work_a_little, hang_up, stop_in_the_middle, nonsense])
async def test_every_end_of_a_request_is_counted_once(front, start, behave):
    instance = await start("one", behave)
    target = instance.target()
    front.routes.point(HOST, target)
    await asyncio.gather(*(front.get() for _ in range(20)))
    assert await front.routes.drained(target, 5)
    assert target.in_flight == 0


async def test_a_cancelled_request_is_counted_as_ended(front, start, eventually):
    """The server cancels what is left when it stops."""
    ended = asyncio.Event()

    async def hang(instance, head, reader, writer):
        await ended.wait()

    instance = await start("one", hang)
    target = instance.target()
    front.routes.point(HOST, target)
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "raw_path": b"/",
        "query_string": b"",
        "client": None,
        "headers": [(b"host", HOST.encode())],
    }

    async def receive():
        return await asyncio.Event().wait()

    async def send(message):
        raise AssertionError("nothing may be sent")

    task = asyncio.create_task(front.gateway(scope, receive, send))
    await eventually(lambda: instance.heads)
    assert target.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert target.in_flight == 0
