"""What a component imports: what is not provided traps, but only when it is called."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise

UNKNOWN = "acme:things/box@1.0.0"


async def test_calling_what_is_not_provided_is_a_500_and_named_in_the_log(start, app, wat):
    running = await start(app({"a": wat.calls(UNKNOWN, "open-box")}))
    assert (await running.request("/")).status == 500
    line = running.lines()[-1]["line"]
    assert f"it called {UNKNOWN}#open-box, which the embedded runtime does not provide" in line


async def test_calling_it_at_the_start_fails_the_start(start, app, wat, failing):
    reason = await failing(start(app({"a": wat.calls(UNKNOWN, "open-box", at_start=True)})))
    assert "component a does not start" in reason
    assert f"{UNKNOWN}#open-box" in reason


async def test_requests_at_the_same_time_do_not_mix(start, app, python_app):
    running = await start(app({"py": python_app}), concurrency=8, workers=2)

    async def echo(i):
        body = b"%d:" % i + os.urandom(5000)
        reply = await running.request("/echo", method="POST", body=body)
        return (reply.status, reply.body) == (200, body)

    async def trap(i):
        return (await running.request("/trap")).status == 500

    async def fields(i):
        reply = await running.request(f"/headers?{i}", headers={"x-number": str(i)})
        return f"x-number: {i}\n" in reply.text and f"/headers?{i}\n" in reply.text

    kinds = [echo, fields, echo, trap]
    outcomes = await asyncio.gather(*(kinds[i % 4](i) for i in range(80)))
    assert all(outcomes)


async def test_a_worker_does_not_grow_with_its_requests(start, app, python_app):
    running = await start(app({"py": python_app}), concurrency=2)
    (pid,) = running.instance.pids

    def resident():
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    async def some():
        for _ in range(40):
            reply = await running.request("/echo", method="POST", body=bytes(100_000))
            assert len(reply.body) == 100_000
            assert (await running.request("/trap")).status == 500

    await some()
    sizes = [resident()]
    for _ in range(4):
        await some()
        sizes.append(resident())
    # A round moves 8 MB, as values of 32 bytes for each byte. A leak of any of it is there in every
    # round; what an allocator keeps for itself is not.
    assert min(after - before for before, after in pairwise(sizes)) < 1 << 20, sizes
