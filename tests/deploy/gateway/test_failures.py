"""Instances that refuse, break off or hang, and clients that go away."""

from __future__ import annotations

import asyncio
import json

import pytest

HOST = "hello.apps.example"
GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def code(answer: bytes) -> str:
    return json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["code"]


def request(method: str, *fields: str) -> bytes:
    lines = [f"{method} / HTTP/1.1", f"Host: {HOST}", "Connection: close", *fields, "", ""]
    return "\r\n".join(lines).encode()


def once_then(first, then):
    """Behave one way at the first request, another way after."""

    async def behave(instance, head, reader, writer):
        chosen = first if len(instance.heads) == 1 else then
        await chosen(instance, head, reader, writer)

    return behave


async def hang_up(instance, head, reader, writer):
    writer.transport.abort()


async def answer(instance, head, reader, writer):
    body = b"" if head.startswith(b"HEAD") else b"ok"
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + body)


async def hang(instance, head, reader, writer):
    await reader.read()  # until the gateway closes


async def test_an_instance_that_is_not_there_is_502(front, start):
    instance = await start()
    front.routes.point(HOST, instance.target())
    await instance.close()
    got = await front.get()
    assert got.startswith(b"HTTP/1.1 502 ")
    assert code(got) == "INSTANCE_FAILED"


async def test_an_instance_that_always_breaks_off_is_asked_twice_then_502(front, start):
    instance = await start(behave=hang_up)
    front.routes.point(HOST, instance.target())
    assert (await front.get()).startswith(b"HTTP/1.1 502 ")
    assert len(instance.heads) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"])
async def test_what_can_be_repeated_is_repeated_when_an_instance_breaks_off(front, start, method):
    instance = await start(behave=once_then(hang_up, answer))
    front.routes.point(HOST, instance.target())
    assert (await front.get(method=method)).startswith(b"HTTP/1.1 200 ")
    assert len(instance.heads) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_have_had_an_effect_is_not_repeated(front, start, method):
    instance = await start(behave=once_then(hang_up, answer))
    front.routes.point(HOST, instance.target())
    assert (await front.get(method=method)).startswith(b"HTTP/1.1 502 ")
    assert len(instance.heads) == 1


async def test_a_body_that_was_begun_is_not_sent_again(front, start):
    instance = await start(behave=once_then(hang_up, answer))
    front.routes.point(HOST, instance.target())
    got = await front.exchange(request("PUT", "Content-Length: 2") + b"ab")
    assert got.startswith(b"HTTP/1.1 502 ")
    assert len(instance.heads) == 1


async def test_the_second_try_goes_to_the_instance_that_is_current_then(front, start):
    old, new = await start("old"), await start("new", answer)
    front.routes.point(HOST, old.target())

    async def switch_and_hang_up(instance, head, reader, writer):
        front.routes.point(HOST, new.target())
        writer.transport.abort()

    old.behave = switch_and_hang_up
    assert (await front.get()).startswith(b"HTTP/1.1 200 ")
    assert (len(old.heads), len(new.heads)) == (1, 1)


async def test_a_post_is_repeated_when_the_instance_was_not_even_reached(front, start):
    """Nothing of it was sent, so nothing can happen twice."""
    old, new = await start("old"), await start("new", answer)
    stopped, current = old.target(), new.target()
    await old.close()
    front.routes.point(HOST, stopped)
    resolve = front.routes.resolve

    def resolve_then_switch(host):  # the switch falls between choosing the target and connecting
        chosen = resolve(host)
        front.routes.point(HOST, current)
        return chosen

    front.routes.resolve = resolve_then_switch
    got = await front.exchange(request("POST", "Content-Length: 0"))
    assert got.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_kept_connection_that_the_instance_closed_is_no_error(front, start, method):
    """The instance closes in the moment in which the next request is on its way."""

    async def answer_then_close(instance, head, reader, writer):
        await answer(instance, head, reader, writer)
        if instance.accepted == 1:
            await reader.read(1)  # the next request has arrived on the kept connection
            writer.transport.abort()

    instance = await start(behave=answer_then_close)
    front.routes.point(HOST, instance.target())
    assert (await front.get()).startswith(b"HTTP/1.1 200 ")
    assert (await front.get(method=method)).startswith(b"HTTP/1.1 200 ")


async def test_the_second_try_uses_no_kept_connection(front, start):
    """An instance that ends has closed all of them, and we may not have noticed of any yet."""
    both = asyncio.Barrier(2)

    async def answer_once_each(instance, head, reader, writer):
        if len(instance.heads) <= 2:
            await both.wait()  # so that there are two connections to keep
        elif instance.accepted == 2:
            writer.transport.abort()
            return
        await answer(instance, head, reader, writer)

    instance = await start(behave=answer_once_each)
    front.routes.point(HOST, instance.target())
    await asyncio.gather(front.get(), front.get())
    assert instance.accepted == 2
    assert (await front.get()).startswith(b"HTTP/1.1 200 ")


async def test_an_app_that_stops_between_two_tries_is_503(front, start):
    async def forget_and_hang_up(instance, head, reader, writer):
        front.routes.point(HOST, None)
        writer.transport.abort()

    instance = await start(behave=forget_and_hang_up)
    front.routes.point(HOST, instance.target())
    assert (await front.get()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-nonsense\r\n\r\n",
        b"HTTP/1.1 777 Beyond\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: minus\r\n\r\n",
    ],
)
async def test_an_instance_that_does_not_speak_http_is_502(front, start, nonsense):
    async def babble(instance, head, reader, writer):
        writer.write(nonsense)

    instance = await start(behave=babble)
    front.routes.point(HOST, instance.target())
    assert (await front.get()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly this",
    ],
)
async def test_an_answer_that_breaks_off_never_looks_whole(front, start, beginning):
    async def break_off(instance, head, reader, writer):
        writer.write(beginning)
        await writer.drain()
        writer.close()

    instance = await start(behave=break_off)
    front.routes.point(HOST, instance.target())
    reader, writer = await front.connect()
    writer.write(GET)  # no "Connection: close": it is the gateway that must hang up
    got = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"only this" in got
    assert not got.endswith(b"0\r\n\r\n")
    assert len(instance.heads) == 1


@pytest.mark.parametrize("limits", [{"first_byte_timeout": 0.05}])
async def test_an_instance_that_does_not_begin_to_answer_is_504(front, start):
    instance = await start(behave=hang)
    front.routes.point(HOST, instance.target())
    got = await front.get()
    assert got.startswith(b"HTTP/1.1 504 ")
    assert code(got) == "INSTANCE_TIMEOUT"


@pytest.mark.parametrize("limits", [{"first_byte_timeout": 0.05}])
async def test_an_instance_that_does_not_take_the_body_is_504(front, start):
    instance = await start(behave=lambda *_: asyncio.Event().wait())  # never reads
    front.routes.point(HOST, instance.target())
    reader, writer = await front.connect()
    writer.write(request("PUT", "Content-Length: 100000000") + bytes(4_000_000))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)).startswith(b"HTTP/1.1 504 ")
    writer.transport.abort()


@pytest.mark.parametrize("limits", [{"first_byte_timeout": 0.1}])
async def test_time_that_the_client_takes_is_not_the_instances(front, start):
    async def read_then_answer(instance, head, reader, writer):
        await reader.readexactly(3)
        await answer(instance, head, reader, writer)

    instance = await start(behave=read_then_answer)
    front.routes.point(HOST, instance.target())
    reader, writer = await front.connect()
    writer.write(request("PUT", "Content-Length: 3"))
    for byte in b"abc":
        await asyncio.sleep(0.12)  # longer than the limit: this pause is what is tested
        writer.write(bytes([byte]))
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("limits", [{"first_byte_timeout": 0.1}])
async def test_pauses_in_an_answer_are_not_limited(front, start):
    async def slow_stream(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.sleep(0.25)  # longer than the limit: this pause is what is tested
        writer.write(b"1\r\nb\r\n0\r\n\r\n")

    instance = await start(behave=slow_stream)
    front.routes.point(HOST, instance.target())
    assert (await front.get()).endswith(b"1\r\nb\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        GET,
        request("PUT", "Content-Length: 5") + b"hello",
        request("PUT", "Content-Length: 5") + b"hel",
        request("POST", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n",
    ],
)
async def test_a_client_that_goes_away_ends_the_request_at_the_instance(
    front, start, eventually, sent
):
    instance = await start(behave=hang)
    target = instance.target()
    front.routes.point(HOST, target)
    _, writer = await front.connect()
    writer.write(sent)
    await eventually(lambda: instance.heads)
    assert target.in_flight == 1
    writer.transport.abort()
    await eventually(lambda: instance.closed == 1)
    assert target.in_flight == 0


async def test_a_client_that_goes_away_in_the_middle_of_an_answer_ends_it(front, start, eventually):
    async def endless(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\na\r\n")
            await writer.drain()
            await asyncio.sleep(0.001)

    instance = await start(behave=endless)
    target = instance.target()
    front.routes.point(HOST, target)
    reader, writer = await front.connect()
    writer.write(GET)
    await reader.readuntil(b"a\r\n")
    writer.transport.abort()
    await eventually(lambda: instance.closed == 1 and target.in_flight == 0)


async def test_a_slow_client_slows_the_instance_down(front, start, eventually):
    """A gigabyte must not gather in the gateway."""
    sent = 0

    async def pour(instance, head, reader, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while sent < 1_000_000_000:
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    instance = await start(behave=pour)
    front.routes.point(HOST, instance.target())
    reader, writer = await front.connect()
    writer.write(GET)
    await reader.readexactly(1000)
    writer.transport.pause_reading()
    last = -1
    while last != sent:  # until it stands still
        last = sent
        await asyncio.sleep(0.2)
    assert sent < 64 << 20
    writer.transport.abort()


async def test_a_slow_instance_slows_the_client_down(front, start, eventually):
    instance = await start(behave=lambda *_: asyncio.Event().wait())  # never reads
    front.routes.point(HOST, instance.target())
    _, writer = await front.connect()
    writer.write(request("PUT", "Content-Length: 1000000000"))
    sent = 0

    async def pour():
        nonlocal sent
        while sent < 1_000_000_000:
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    pouring = asyncio.create_task(pour())
    last = -1
    while last != sent:  # until it stands still
        last = sent
        await asyncio.sleep(0.2)
    assert sent < 64 << 20
    pouring.cancel()
    writer.transport.abort()


async def test_both_directions_stream_at_once(front, start):
    async def echo(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        for _ in range(4):
            writer.write(await reader.readexactly(1))

    instance = await start(behave=echo)
    front.routes.point(HOST, instance.target())
    reader, writer = await front.connect()
    writer.write(request("POST", "Content-Length: 4") + b"a")
    await reader.readuntil(b"\r\n\r\n")
    for byte in (b"a", b"b", b"c", b"d"):
        assert await asyncio.wait_for(reader.readexactly(1), 5) == byte
        writer.write(bytes([byte[0] + 1]))
    writer.close()


async def test_an_instance_may_answer_before_it_has_the_body(front, start):
    async def refuse(instance, head, reader, writer):
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")

    instance = await start(behave=refuse)
    target = instance.target()
    front.routes.point(HOST, target)
    reader, writer = await front.connect()
    writer.write(request("PUT", "Content-Length: 1000000000") + bytes(1000))
    assert (await asyncio.wait_for(reader.readuntil(b"big"), 5)).startswith(b"HTTP/1.1 413 ")
    assert target.in_flight == 0
    writer.transport.abort()
