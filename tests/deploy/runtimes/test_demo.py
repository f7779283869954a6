"""The demonstration application."""

from __future__ import annotations

import pytest

from registry import demo


async def test_it_greets_as_it_is_told(start, app):
    running = await start(app({"hello": demo.component('Grüße, "version 2"\n\\')}))
    reply = await running.request("/")
    assert reply.text == 'Grüße, "version 2"\n\\'
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


def test_each_greeting_is_another_component():
    assert demo.component("version 1") != demo.component("version 2")
    assert demo.component("version 1") == demo.component("version 1")


def test_a_greeting_that_is_too_long_is_refused():
    assert demo.component("x" * demo.MOST)
    with pytest.raises(ValueError, match="at most"):
        demo.component("x" * (demo.MOST + 1))
