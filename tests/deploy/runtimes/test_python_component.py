"""A real component, built from Python by componentize-py: the whole surface that SDKs use."""

from __future__ import annotations

import asyncio
import os

import h11
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_component_built_from_python_answers(python):
    reply = await python.request("/hello")
    assert (reply.status, reply.body) == (200, b"hello from Python")
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["content-length"] == "17"


async def test_a_connection_is_kept_for_the_next_request(python):
    async with python.exchange() as exchange:
        for _ in range(3):
            await exchange.begin("GET", "/hello")
            await exchange.send(h11.EndOfMessage())
            assert (await exchange.reply()).body == b"hello from Python"
            exchange.wire.start_next_cycle()


async def test_requests_that_are_sent_ahead_are_answered_in_order(python):
    async with python.exchange() as exchange:
        one = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"
        exchange.writer.write(one % b"hello" + one % b"status?204" + one % b"hello")
        text = b""
        while text.count(b"hello from Python") < 2:
            text += await exchange.reader.read(4096)
    assert text.index(b" 204 ") > text.index(b"hello from Python")


async def test_a_head_request_gets_the_head_only(python):
    reply = await python.request("/hello", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.whole


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_a_body_comes_back_as_it_was_sent(python, size):
    body = os.urandom(size)
    reply = await python.request("/echo", method="POST", body=body)
    assert reply.body == body


async def test_the_method_reaches_the_guest(python):
    assert (await python.request("/echo", method="PATCH")).headers["x-method"] == "Method_Patch"
    assert (await python.request("/echo", method="PURGE")).headers["x-method"] == "Method_Other"


async def test_a_request_body_is_answered_while_it_arrives(python):
    async with asyncio.timeout(10), python.exchange() as exchange:
        await exchange.begin("POST", "/echo", {"transfer-encoding": "chunked"})
        await exchange.send(h11.Data(data=b"first"))
        assert (await exchange.event()).status_code == 200
        assert (await exchange.event()).data == b"first"
        await exchange.send(h11.Data(data=b"second"))
        assert (await exchange.event()).data == b"second"
        await exchange.send(h11.EndOfMessage())
        assert isinstance(await exchange.event(), h11.EndOfMessage)


async def test_a_client_that_asks_first_is_told_to_go_on(python):
    async with asyncio.timeout(10), python.exchange() as exchange:
        headers = {"expect": "100-continue", "content-length": "4"}
        await exchange.begin("POST", "/count", headers)
        assert (await exchange.event()).status_code == 100
        await exchange.send(h11.Data(data=b"body"))
        await exchange.send(h11.EndOfMessage())
        assert (await exchange.reply()).body == b"4"


async def test_a_request_body_that_breaks_off_is_an_error_for_the_guest(python):
    async with asyncio.timeout(10), python.exchange() as exchange:
        await exchange.begin("POST", "/count", {"content-length": "100"})
        await exchange.send(h11.Data(data=b"only this"))
        exchange.writer.write_eof()
        assert (await exchange.reply()).status == 500


async def test_the_first_bytes_arrive_before_the_guest_ends(python):
    async with asyncio.timeout(10), python.exchange() as exchange:
        await exchange.begin("GET", "/drip?1000")
        await exchange.send(h11.EndOfMessage())
        assert (await exchange.event()).status_code == 200
        assert (await exchange.event()).data == b"drip 0\n"


async def test_a_large_response_is_whole(python):
    reply = await python.request("/large?10000000")
    assert reply.whole
    assert reply.headers["content-length"] == "10000000"
    assert reply.body == (bytes(range(256)) * 39063)[:10_000_000]


async def test_the_status_is_the_guests(python):
    assert (await python.request("/status?418")).status == 418


async def test_a_status_that_is_not_final_is_refused(python):
    assert (await python.request("/status?102")).status == 555


async def test_an_error_code_instead_of_a_response_is_a_500(python):
    assert (await python.request("/refuse")).status == 500
    assert "loop-detected" in python.lines()[-1]["line"]


async def test_a_body_can_be_consumed_once(python):
    assert (await python.request("/twice", method="POST", body=b"x")).body == b"once"


async def test_fields_obey_their_rules(python):
    reply = await python.request("/fields")
    assert reply.text.splitlines() == [
        "plain: ok",
        "name: HeaderError_InvalidSyntax",
        "newline: HeaderError_InvalidSyntax",
        "nul: HeaderError_InvalidSyntax",
        "forbidden: HeaderError_Forbidden",
        "host: HeaderError_Forbidden",
        "request: HeaderError_Immutable",
        "delete: HeaderError_Immutable",
        "set: ok",
        "get: [b'2', b'3']",
        "clone: ok",
    ]


async def test_the_guest_sees_the_request_but_not_the_connection(python):
    headers = {
        "x-mine": "1",
        "connection": "close, x-mine",
        "te": "trailers",
        "spin-client-addr": "6.6.6.6",
        "Spin-Full-Url": "http://evil/",
        "x-spindle-client-addr": "192.0.2.1:1234",
        "x-forwarded-proto": "https",
    }
    reply = await python.request("/headers?q=1", headers=headers)
    assert reply.text.splitlines() == [
        "x-mine: 1",
        "x-forwarded-proto: https",
        "spin-full-url: https://app.test/headers?q=1",
        "spin-path-info: /headers",
        "spin-matched-route: /...",
        "spin-base-path: /",
        "spin-raw-component-route: /...",
        "spin-component-route: ",
        "spin-client-addr: 192.0.2.1:1234",
        "authority: app.test",
    ]


async def test_a_response_shorter_than_it_says_has_no_proper_end(python):
    reply = await python.request("/short")
    assert (reply.status, reply.whole) in [(500, True), (200, False)]


async def test_a_response_longer_than_it_says_is_cut_and_the_guest_is_told(python, until):
    reply = await python.request("/long")
    assert reply.body == b"abc"
    # What the guest prints after its response is in the log after the client has read it.
    told = "StreamError_LastOperationFailed"
    await until(lambda: told in [line["line"] for line in python.lines()])


async def test_a_client_of_http_1_0_gets_no_part_of_a_response_that_fails(python):
    async with asyncio.timeout(10), python.exchange() as exchange:
        exchange.writer.write(b"GET /late HTTP/1.0\r\n\r\n")
        assert (await exchange.reader.read()).startswith(b"HTTP/1.1 500 ")
    async with asyncio.timeout(10), python.exchange() as exchange:
        exchange.writer.write(b"GET /drip?2 HTTP/1.0\r\n\r\n")
        text = await exchange.reader.read()
        assert b"\r\ncontent-length: 14\r\n" in text
        assert text.endswith(b"\r\n\r\ndrip 0\ndrip 1\n")
    async with asyncio.timeout(10), python.exchange() as exchange:
        exchange.writer.write(b"GET /endless HTTP/1.0\r\n\r\n")
        assert (await exchange.reader.read()).startswith(b"HTTP/1.1 500 ")


async def test_a_guest_that_fails_before_it_answers_is_a_500_and_a_line_in_the_log(python):
    reply = await python.request("/trap")
    assert (reply.status, reply.body) == (500, b"")
    streams = {(line["stream"], line["line"]) for line in python.lines()}
    assert ("stderr", "about to fail") in streams
    assert ("host", "GET /trap: wasm `unreachable` instruction executed") in streams


async def test_a_guest_that_fails_in_the_middle_leaves_no_clean_end(python):
    reply = await python.request("/late")
    assert reply.status == 200
    assert reply.body == b"a beginning, but no end"
    assert not reply.whole


async def test_a_guest_that_exits_is_a_500(python):
    assert (await python.request("/exit")).status == 500
    assert "exit" in python.lines()[-1]["line"]


async def test_a_guest_without_a_response_is_a_500(python):
    assert (await python.request("/silent")).status == 500


async def test_what_a_guest_prints_is_in_the_log(python):
    await python.request("/print?2")
    assert [
        (line["component"], line["stream"], line["revision"], line["line"])
        for line in python.lines()[-2:]
    ] == [("py", "stdout", 7, "line 0"), ("py", "stdout", 7, "line 1")]


async def test_a_wait_of_one_guest_does_not_hold_up_another(python):
    async with asyncio.timeout(10):
        slow = asyncio.create_task(python.request("/sleep?1.5"))
        for _ in range(20):
            assert (await python.request("/hello")).status == 200
        assert not slow.done()
        assert (await slow).body == b"slept"
