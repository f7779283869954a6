"""A guest that takes too much loses its request; the worker and its other requests live on."""

from __future__ import annotations

import asyncio

import h11

from registry import demo


async def test_an_endless_loop_ends_when_its_cpu_time_is_used_up(start, app, wat):
    running = await start(
        app({"loop": wat.loops(), "hello": demo.component("hi")}, {"/loop": "loop", "/": "hello"}),
        cpu=0.3,
    )
    pids = running.instance.pids
    reply = await running.request("/loop")
    assert (reply.status, reply.body) == (504, b"")
    assert "CPU time" in running.lines()[-1]["line"]
    assert (await running.request("/")).body == b"hi"
    assert running.instance.pids == pids


async def test_others_have_their_turn_while_a_guest_computes(start, app, wat):
    running = await start(
        app({"loop": wat.loops(), "hello": demo.component("hi")}, {"/loop": "loop", "/": "hello"}),
        cpu=2.0,
    )
    loop = asyncio.create_task(running.request("/loop"))
    for _ in range(5):
        assert (await running.request("/")).body == b"hi"
    assert not loop.done()
    assert (await loop).status == 504


async def test_waiting_costs_no_cpu_time(start, app, python_app):
    running = await start(app({"py": python_app}), cpu=0.5)
    assert (await running.request("/sleep?1")).body == b"slept"


async def test_a_wait_ends_at_the_time_limit(start, app, python_app):
    running = await start(app({"py": python_app}), wall=0.5)
    pids = running.instance.pids
    assert (await running.request("/sleep?60")).status == 504
    assert "within the time" in running.lines()[-1]["line"]
    assert running.instance.pids == pids


async def test_a_request_that_waits_for_its_turn_too_long_is_a_504(start, app, wat):
    made = app({"loop": wat.loops(), "py": wat.silent()}, {"/loop": "loop", "/": "py"})
    running = await start(made, cpu=60.0, wall=0.5, concurrency=2)
    loops = [asyncio.create_task(running.request("/loop")) for _ in range(2)]
    assert [(await loop).status for loop in loops] == [504, 504]


async def test_memory_ends_at_its_limit(start, app, wat):
    running = await start(
        app({"grow": wat.grows(), "hello": demo.component("hi")}, {"/grow": "grow", "/": "hello"}),
        memory=64 << 20,
    )
    pids = running.instance.pids
    assert (await running.request("/grow")).status == 500
    assert (await running.request("/")).body == b"hi"
    assert running.instance.pids == pids


async def test_memory_of_a_python_guest_ends_at_its_limit(start, app, python_app):
    running = await start(app({"py": python_app}), memory=128 << 20)
    assert (await running.request("/alloc")).status == 500
    assert (await running.request("/hello")).status == 200


async def test_memory_in_many_pieces_ends_the_worker_and_another_takes_over(start, app, wat, until):
    running = await start(
        app({"hoard": wat.hoards(), "hello": demo.component("hi")}, {"/h": "hoard", "/": "hello"}),
        memory=50 << 20,
        concurrency=1,
        cpu=60.0,
    )
    (pid,) = running.instance.pids
    hoarding = asyncio.create_task(running.request("/h"))
    await until(lambda: running.instance.pids not in ([pid], []))
    assert (await running.request("/")).body == b"hi"
    assert "too much memory" in running.lines()[-1]["line"]
    hoarding.cancel()


async def test_a_component_that_needs_more_memory_than_there_is_does_not_start(
    start, app, python_app, failing
):
    reason = await failing(start(app({"py": python_app}), memory=1 << 20))
    assert "component py does not start" in reason
    assert "memory" in reason


async def test_a_guest_that_never_answers_is_a_500(start, app, wat):
    running = await start(app({"silent": wat.silent()}))
    assert (await running.request("/")).status == 500
    assert "without a response" in running.lines()[-1]["line"]


async def test_what_a_computing_guest_wrote_is_sent_meanwhile(start, app, wat):
    running = await start(app({"wat": wat.begins_and_loops()}), cpu=5.0)
    async with asyncio.timeout(4), running.exchange() as exchange:
        await exchange.begin("GET", "/")
        await exchange.send(h11.EndOfMessage())
        assert (await exchange.event()).status_code == 200
        assert (await exchange.event()).data == b"begun"


async def test_a_guest_is_ended_when_its_client_hangs_up(start, app, wat):
    running = await start(app({"wat": wat.begins_and_loops()}), cpu=60.0, wall=60.0, concurrency=1)
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
    # The only thread is free again, or this would wait for a minute.
    async with asyncio.timeout(5):
        assert (await running.request("/.well-known/spin/health")).status == 200


async def test_a_guest_that_waits_is_ended_when_its_client_hangs_up(start, app, python_app):
    running = await start(app({"py": python_app}), wall=60.0, concurrency=1)
    async with running.exchange() as exchange:
        await exchange.begin("GET", "/nap?50")
        await exchange.send(h11.EndOfMessage())
        await exchange.event()
        assert (await exchange.event()).data == b"now"
        await asyncio.sleep(0.2)  # so that it is, most likely, in the middle of its nap
    async with asyncio.timeout(5):
        assert (await running.request("/hello")).status == 200


async def test_a_slow_client_holds_up_the_guest_and_not_the_memory(start, app, wat):
    running = await start(app({"wat": wat.floods()}), body=1 << 18, concurrency=1)
    (pid,) = running.instance.pids

    def resident():
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    async with running.exchange() as exchange:
        await exchange.begin("GET", "/")
        await exchange.send(h11.EndOfMessage())
        assert (await exchange.event()).status_code == 200
        received = 0
        while received < 20_000_000:
            received += len((await exchange.event()).data)
        before = resident()  # after 20 MB, which it will not have kept either
        await asyncio.sleep(0.5)  # nobody reads: the guest must be waiting
        assert resident() - before < 8 << 20
    assert (await running.request("/.well-known/spin/health")).status == 200


async def test_a_response_without_end_ends_at_the_time_limit_and_not_cleanly(start, app, wat):
    running = await start(app({"wat": wat.floods()}), wall=0.7)
    reply = await running.request("/")
    assert reply.status == 200
    assert not reply.whole


async def test_a_flood_of_lines_is_bounded_and_the_loss_is_counted(start, app, python_app):
    running = await start(app({"py": python_app}))
    await running.request("/print?20000")
    size = running.log.stat().st_size
    rotated = running.log.with_name("app.jsonl.1")
    size += rotated.stat().st_size if rotated.exists() else 0
    assert size < 4 << 20
    await asyncio.sleep(0.2)  # the budget grows again
    await running.request("/print?1")
    assert any("lines were dropped" in line["line"] for line in running.lines())
