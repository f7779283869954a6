"""What is listened on, before and after settings were read again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from registry.config import load
from registry.server import Sockets, address
from registry.settings import Config


def listening(registry: str, gateway: str) -> Config:
    return load(flags={"registry.listen": registry, "gateway.listen": gateway})


ANY = "127.0.0.1:0"


@pytest.fixture
def old() -> Iterator[Sockets]:
    sockets = Sockets.bind(listening(ANY, ANY))
    yield sockets
    sockets.registry.close()
    sockets.gateway.close()


def test_who_is_told_nothing_new_listens_where_he_did(old: Sockets) -> None:
    """Also on a port that was any free one."""
    again = old.again(listening(ANY, ANY), listening(ANY, ANY))
    again.close_but(old)
    old.close_but(again)
    assert (again.registry, again.gateway) == (old.registry, old.gateway)
    assert old.registry.fileno() >= 0


def test_another_address_is_listened_on_and_the_old_one_is_left(old: Sockets) -> None:
    before = address(old.registry)
    again = old.again(listening(ANY, ANY), listening("127.0.0.2:0", ANY))
    with closing(again.registry):
        assert again.gateway is old.gateway
        old.close_but(again)
        assert old.gateway.fileno() >= 0
        with closing(socket.socket()) as client:
            client.connect(again.registry.getsockname())
        with pytest.raises(ConnectionRefusedError), closing(socket.socket()) as client:
            client.connect((before.host, before.port))


def test_an_address_that_cannot_be_had_leaves_all_as_it_is(old: Sockets) -> None:
    """Not even the other one's new socket stays, which `-W error` would tell of."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        gateway = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="cannot listen"):
            old.again(listening(ANY, ANY), listening("127.0.0.2:0", gateway))
    assert old.registry.fileno() >= 0
