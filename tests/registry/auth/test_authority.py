"""What clients call us: the Host of a request, unless the settings say better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.auth.authority import called, is_authority
from registry.config import ConfigInvalid, load
from tests.asgi import Registry, open_store
from tests.registry.auth.granting import Granting


@pytest.mark.parametrize(
    "text",
    [
        *("localhost", "localhost:5000", "r.example.org", "R.Example.org:443", "my_registry:5000"),
        *("127.0.0.1:5000", "[::1]", "[::1]:5000", "[2001:db8::1]:443", "a-b.c:1", "x:65535"),
    ],
)
def test_an_authority(text: str) -> None:
    assert is_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":5000", "a b", "a@b", "user@evil.example", "evil.example/path", "evil?x", "evil#x"),
        *("a,b", "a.example, b.example", "a:b", "a:", "a:1:2", "a:123456", "a:65536", "-a", ".a"),
        *("a..b", "::1", "[::1", "::1]", "[::1]x", "[zz]", "[127.0.0.1]", "[:::]", "a\r\nb", "a\n"),
        *('a"', "a\\b", "a%41", "é", "a\0", "[::1%25eth0]", "http://a", "a" * 300, "\uff41"),
    ],
)
def test_what_is_none(text: str) -> None:
    assert not is_authority(text)


def _scope(*hosts: bytes, **more: Any) -> dict[str, Any]:
    return {"headers": [(b"host", host) for host in hosts], "server": ("192.0.2.1", 5000), **more}


def test_we_are_called_what_the_client_calls_us() -> None:
    assert called(_scope(b"r.example.org")) == "http://r.example.org"
    assert called(_scope(b"[::1]:5000", scheme="https")) == "https://[::1]:5000"


def test_where_that_is_nonsense_we_are_called_where_we_listen() -> None:
    for hosts in ([], [b"evil@x"], [b"a.example", b"b.example"], [b'x",realm="http://evil']):
        assert called(_scope(*hosts)) == "http://192.0.2.1:5000"
    assert called(_scope(server=("2001:db8::1", 443))) == "http://[2001:db8::1]:443"
    assert called(_scope(server=("/run/spindle.sock", None))) == "http://localhost"
    assert called(_scope(server=None)) == "http://localhost"


async def test_the_settings_know_better_than_a_client(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        registry = Registry(store, gate=Granting(), url="https://r.example.org")
        answer = await registry("GET", "/v2/")
    challenge = answer.header("www-authenticate") or ""
    assert challenge.startswith('Bearer realm="https://r.example.org/auth/token"')


@pytest.mark.parametrize("url", ["", "https://r.example.org", "http://[::1]:5000"])
def test_a_url_is_set(url: str) -> None:
    assert load(flags={"registry.url": url}).registry.url == url


def test_a_slash_behind_it_is_none_of_it() -> None:
    assert load(flags={"registry.url": "https://a.example/"}).registry.url == "https://a.example"


@pytest.mark.parametrize(
    "url",
    [
        *("r.example.org", "ftp://a", "https://", "https://a/b", "https://u@a", "https://a?b"),
        *("https://a#b", "https://a b", "https://a:b", "https://a\n", "//a", "HTTPS://a"),
    ],
)
def test_what_is_no_url_of_a_registry_is_refused(url: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"registry\.url"):
        load(flags={"registry.url": url})
