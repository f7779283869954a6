"""What is answered before its body has come: how much of the body is read all the same.

Measured by the kernel: what the server's process has read, from sockets and everything else.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.proxies.programs import PROXIES, UNVERIFIED, Proxy
from tests.servers import PATIENCE, Spindle, wait_for

BODY = 64 << 20
DRAINED = 1 << 20  # connections.drain_bytes
ASIDE = 512 << 10  # bytes of one read, before the answer, and of other things meanwhile


@pytest.fixture(scope="module", params=[None, *PROXIES], ids=["alone", "nginx", "haproxy"])
def place(
    request: pytest.FixtureRequest, server: Spindle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy | None]:
    if request.param is None:
        yield None
        return
    with request.param(tmp_path_factory.mktemp("proxy"), server.registry) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _warm(server: Spindle) -> None:
    """The first refusal reads what Python loads for it: nearly a megabyte."""
    for _ in range(2):
        server.get("/nowhere")
        server.get("/v2/EARLY/tags/list")


def connect(server: Spindle, proxy: Proxy | None) -> socket.socket:
    if proxy is None:
        host, _, port = server.registry.rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE)
    return UNVERIFIED.wrap_socket(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE))


def read_by(server: Spindle) -> int:
    """Bytes that the process has read since it began."""
    found = re.search(
        r"^rchar: (\d+)$", Path(f"/proc/{server.processes[0]}/io").read_text(), re.MULTILINE
    )
    assert found
    return int(found[1])


def sent_until_refused(connection: socket.socket, head: bytes, piece: bytes) -> tuple[int, bytes]:
    """How much was taken of a client that sends until it cannot, and what it was answered."""
    connection.settimeout(PATIENCE)
    sent = 0
    with suppress(OSError):
        connection.sendall(head)
        while sent < BODY:
            connection.sendall(piece)
            sent += len(piece)
    answer = b""
    with suppress(OSError):
        while came := connection.recv(1 << 16):
            answer += came
    return sent, answer


PATHS = {
    404: b"PUT /nowhere HTTP/1.1\r\n",
    413: b"PUT /v2/early/manifests/x HTTP/1.1\r\n",
    405: b"PUT /v2/early/tags/list HTTP/1.1\r\n",
    400: b"PUT /v2/EARLY/manifests/x HTTP/1.1\r\n",
    202: b"POST /v2/early/blobs/uploads/ HTTP/1.1\r\n",
}


@pytest.mark.parametrize("status", PATHS)
def test_of_a_body_that_nobody_wants_no_more_than_a_little_is_read(
    server: Spindle, place: Proxy | None, status: int
) -> None:
    """RFC 9112, 9.3: what is left of it must be read, or the connection closed."""
    head = PATHS[status] + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % BODY
    before = read_by(server)
    with connect(server, place) as connection:
        sent, answer = sent_until_refused(connection, head, bytes(1 << 14))
    read = read_by(server) - before
    print(f"{place.name if place else 'alone'} {status}: {sent} bytes sent, {read} read")
    assert read <= DRAINED + ASIDE
    # Who does not wait may see the connection reset instead, and nginx tells such a client of it.
    told = (status, 502) if place is not None and place.name == "nginx" else (status,)
    assert answer == b"" or int(answer[9:12]) in told


@pytest.mark.parametrize("status", PATHS)
def test_a_client_that_waits_sees_the_answer_and_is_told_that_nothing_follows(
    server: Spindle, place: Proxy | None, status: int
) -> None:
    head = PATHS[status] + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % BODY
    with connect(server, place) as connection:
        connection.sendall(head + bytes(1 << 14))
        connection.settimeout(PATIENCE)
        answer = connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if place is None and PATHS[status].find(b" /v2/") > 0:
        assert b"\r\nconnection: close\r\n" in answer


def test_a_header_of_64_mib_is_refused_before_more_than_32_kib_of_it_are_kept(
    server: Spindle, place: Proxy | None
) -> None:
    head = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: "
    before = read_by(server)
    with connect(server, place) as connection:
        connection.sendall(head)
        sent, answer = sent_until_refused(connection, b"", b"a" * (1 << 14))
    read = read_by(server) - before
    print(f"{place.name if place else 'alone'} header: {sent} bytes sent, {read} read")
    assert read <= (DRAINED + ASIDE if place is None else ASIDE)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_the_refusal_of_a_long_header_comes_with_its_32_kib(server: Spindle) -> None:
    """A byte at the limit's other side is enough: nothing more has to come."""
    with connect(server, None) as connection:
        head = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: "
        before = read_by(server)
        connection.sendall(head + b"a" * ((32 << 10) - len(head) + 1))
        answer = connection.recv(1 << 16)
        print(f"header of 32 KiB and 1: {read_by(server) - before} read")
        assert answer.startswith(b"HTTP/1.1 431 ")


def test_and_the_next_client_is_answered(server: Spindle, place: Proxy | None) -> None:
    head = PATHS[413] + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % BODY
    for _ in range(5):
        with connect(server, place) as connection:
            connection.sendall(head + bytes(1 << 12))
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
            with connect(server, place) as other:
                other.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert other.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: server.get("/v2/")[0] == 200, "the server to answer")
