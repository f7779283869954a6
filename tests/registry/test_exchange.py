"""Reading a request and writing its answer, on bare ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from registry.errors import BodyTooLarge, ClientDisconnect, EncodingRefused, QueryInvalid
from registry.exchange import Exchange, Registry
from tests.asgi import GONE, Answer, Client, Gone

NOTHING: Any = Registry(None, lambda: None, 1000, None, 100)  # no test here needs a store


async def answered(
    handler: Callable[[Exchange], Awaitable[None]],
    target: str = "/",
    body: bytes | Iterable[bytes | Gone] | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await handler(Exchange(scope, receive, send, NOTHING))

    return await Client(app)("PUT", target, body=body, headers=headers)


async def test_a_repeated_header_is_one_list() -> None:
    """RFC 9110, 5.3: "A recipient MAY combine multiple field lines … by appending each subsequent
    field line value … separated by a comma"."""

    async def handler(exchange: Exchange) -> None:
        assert exchange.header(b"if-match") == '"a", "b"'
        assert exchange.header(b"absent") is None
        await exchange.reply(200)

    await answered(handler, headers=[("If-Match", '"a"'), ("X", "y"), ("If-Match", '"b"')])


async def test_a_request_has_the_id_of_the_log() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["request_id"] = b"c0ffee"
        exchange = Exchange(scope, receive, send, NOTHING)
        assert exchange.request_id == "c0ffee"
        await exchange.reply(204)

    await Client(app)("GET", "/")


async def test_a_query_parameter_is_the_last_one_or_all() -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.query("a") == "2 +"
        assert exchange.queries("a") == ["1", "2 +"]
        assert (exchange.query("b"), exchange.query("c")) == ("", None)
        await exchange.reply(200)

    await answered(handler, "/?a=1&b=&a=2+%2B")


async def test_a_query_parameter_has_no_nul() -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(QueryInvalid):
            exchange.query("a")
        await exchange.reply(200)

    await answered(handler, "/?a=1&b=%00")


@pytest.mark.parametrize(
    ("body", "headers", "length"),
    [
        (None, (), 0),
        (b"", (), 0),
        (b"abc", (), 3),
        ([b"abc"], (), None),
        ([], (), 0),
    ],
)
async def test_the_length_of_a_body_is_known_or_not(
    body: Any, headers: Any, length: int | None
) -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.length == length if body != [] else True
        await exchange.reply(200)

    await answered(handler, body=body, headers=headers)


async def test_a_body_comes_in_the_pieces_that_it_came_in() -> None:
    async def handler(exchange: Exchange) -> None:
        assert [piece async for piece in exchange.body()] == [b"a", b"bc", b"d"]
        await exchange.reply(200)

    await answered(handler, body=[b"a", b"", b"bc", b"d", b""])


async def test_a_body_ends_where_it_is_too_large() -> None:
    async def handler(exchange: Exchange) -> None:
        pieces = exchange.body(3)
        assert await anext(pieces) == b"ab"
        with pytest.raises(BodyTooLarge):
            await anext(pieces)
        await exchange.reply(204)

    answer = await answered(handler, body=[b"ab", b"cd", b"ef"])
    assert (answer.reads, answer.header("connection")) == (2, "close")


@pytest.mark.parametrize("size", [0, 3])
async def test_a_body_may_be_as_large_as_the_limit(size: int) -> None:
    async def handler(exchange: Exchange) -> None:
        assert b"".join([piece async for piece in exchange.body(size)]) == b"x" * size
        await exchange.reply(200)

    await answered(handler, body=[b"x"] * size + [b""])


async def test_a_client_that_vanishes_ends_the_body_with_an_error() -> None:
    async def handler(exchange: Exchange) -> None:
        pieces = exchange.body()
        assert await anext(pieces) == b"a"
        with pytest.raises(ClientDisconnect):
            await anext(pieces)
        await exchange.reply(200)

    await answered(handler, body=[b"a", GONE])


@pytest.mark.parametrize(
    ("length", "encoding", "refusal"),
    [
        ("10", None, None),
        ("11", None, BodyTooLarge),
        ("10", "gzip", EncodingRefused),
        ("10", "Identity", None),
        ("10", "identity, gzip", EncodingRefused),
        ("10", "", EncodingRefused),
    ],
)
async def test_what_is_announced_is_refused_unread(
    length: str, encoding: str | None, refusal: type[Exception] | None
) -> None:
    async def handler(exchange: Exchange) -> None:
        if refusal is None:
            exchange.check_body(10)
        else:
            with pytest.raises(refusal):
                exchange.check_body(10)
        await exchange.reply(200)

    headers = [("Content-Length", length)]
    if encoding is not None:
        headers.append(("Content-Encoding", encoding))
    assert (await answered(handler, body=b"", headers=headers)).reads == 0


@pytest.mark.parametrize(
    ("body", "read", "closes"),
    [
        (None, False, False),
        (b"", False, False),
        (b"abc", False, True),
        ([b"abc"], False, True),
        (b"abc", True, False),
        ([b"a", b"b"], True, False),
    ],
)
async def test_a_body_left_unread_ends_the_connection(body: Any, read: bool, closes: bool) -> None:
    """The server would swallow the rest of it, as fast as the client sends."""

    async def handler(exchange: Exchange) -> None:
        if read:
            async for _ in exchange.body():
                pass
        await exchange.reply(200)

    answer = await answered(handler, body=body)
    assert answer.header("connection") == ("close" if closes else None)


class Pieces:
    """An iterator that tells whether it was closed, and may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.closed = False

    async def run(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                await asyncio.sleep(0)  # as a disk would
        finally:
            self.closed = True


async def test_pieces_are_one_answer() -> None:
    pieces = Pieces(b"ab", b"cd", b"e")
    answer = await answered(lambda it: it.stream(200, [], 5, pieces.run()))
    assert answer.body == b"abcde"
    assert pieces.closed


@pytest.mark.parametrize(
    ("message", "whole"),
    [
        ({"type": "http.disconnect"}, False),
        ({"type": "http.request", "body": b"not asked for", "more_body": True}, True),
    ],
)
async def test_pieces_end_with_the_client(message: Message, whole: bool) -> None:
    pieces = Pieces(*[b"x"] * 1000)

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        async def receive() -> Message:
            return message

        await Exchange(scope, receive, send, NOTHING).stream(200, [], 1000, pieces.run())
        assert pieces.closed

    answer = await Client(app)("GET", "/")
    assert (len(answer.body) == 1000) == whole


async def test_an_answer_begins_with_its_first_piece() -> None:
    """So that bytes which cannot be read are an error, not a 200 that breaks off."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(OSError, match="bad sector"):
            await exchange.stream(200, [], 5, Pieces(OSError("bad sector")).run())
        assert not exchange.started
        await exchange.reply(204)

    assert (await answered(handler)).status == 204


async def test_an_answer_that_was_begun_is_broken_off() -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(OSError, match="bad sector"):
            await exchange.stream(200, [], 5, Pieces(b"ab", OSError("bad sector")).run())
        assert exchange.started

    assert (await answered(handler)).body == b"ab"
