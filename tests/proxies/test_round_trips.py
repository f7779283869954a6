"""Clients that push and pull through a proxy, by its own address and with its certificate."""

from __future__ import annotations

import hashlib
import http.client
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.layouts import Layout, contents
from tests.proxies.programs import Proxy
from tests.servers import PATIENCE
from tests.tools import require, run

MIB = 1 << 20


@contextmanager
def asking(proxy: Proxy) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.create_default_context(cafile=str(proxy.directory / "cert.pem"))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", proxy.port, context=context, timeout=PATIENCE
    )
    with closing(connection):
        yield connection


def ask(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    **headers: str,
) -> tuple[http.client.HTTPResponse, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.mark.parametrize("program", ["oras", "crane"])
def test_a_client_gets_back_what_it_pushed(proxy: Proxy, program: str, tmp_path: Path) -> None:
    require(program)
    layout = Layout(tmp_path / "in")
    seed = 7100 + len(program) + len(proxy.name)
    layout.tag(layout.image(seed=seed, layers=2, size=4 * MIB), "v1")
    ref = f"127.0.0.1:{proxy.port}/through/{proxy.name}/{program}:v1"
    out = tmp_path / "out"
    if program == "oras":
        copy = ("oras", "cp", "--from-oci-layout", f"{layout.directory}:v1", "--to-insecure", ref)
        run(*copy)
        run("oras", "cp", "--from-insecure", ref, "--to-oci-layout", f"{out}:out")
    else:
        run("crane", "push", "--insecure", "--index", layout.directory, ref)
        run("crane", "pull", "--insecure", "--format", "oci", ref, out)
    assert contents(layout.directory).items() <= contents(out).items()


def test_an_upload_that_broke_off_goes_on_where_it_was(proxy: Proxy) -> None:
    """And every Location is relative, so it leads to the proxy."""
    blob = f"resumed through {proxy.name}".encode() * 100_000
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    half = len(blob) // 2
    with asking(proxy) as connection:
        answer, _ = ask(connection, "POST", "/v2/resumed/blobs/uploads/")
        assert answer.status == 202
        location = str(answer.getheader("Location"))
        assert location.startswith("/v2/resumed/blobs/uploads/")
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", str(len(blob)))
        connection.endheaders(blob[:half])
    # It left in the middle; whatever arrived counts.
    with asking(proxy) as connection:
        answer, _ = ask(connection, "GET", location)
        assert answer.status == 204
        came = int(str(answer.getheader("Range")).partition("-")[2]) + 1
        came = 0 if came == 1 else came
        answer, body = ask(
            connection,
            "PATCH",
            location,
            blob[came:],
            Content_Range=f"{came}-{len(blob) - 1}",
        )
        if answer.status == 416:  # more of it arrived since we asked
            came = int(str(answer.getheader("Range")).partition("-")[2]) + 1
            answer, body = ask(
                connection,
                "PATCH",
                location,
                blob[came:],
                Content_Range=f"{came}-{len(blob) - 1}",
            )
        assert answer.status == 202, body
        answer, body = ask(connection, "PUT", f"{location}?digest={digest}")
        assert answer.status == 201, body
        assert answer.getheader("Location") == f"/v2/resumed/blobs/{digest}"
        answer, body = ask(connection, "GET", f"/v2/resumed/blobs/{digest}")
        assert (answer.status, body == blob) == (200, True)


def test_a_body_in_chunks_and_then_its_head_and_a_part_of_it(proxy: Proxy) -> None:
    blob = f"in chunks through {proxy.name}".encode() * 100_000
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    with asking(proxy) as connection:
        connection.request(
            "POST",
            f"/v2/chunks/blobs/uploads/?digest={digest}",
            iter([blob[:MIB], blob[MIB:]]),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        answer.read()
        path = f"/v2/chunks/blobs/{digest}"
        answer, body = ask(connection, "HEAD", path)
        assert (answer.status, body) == (200, b"")
        assert answer.getheader("Content-Length") == str(len(blob))
        assert answer.getheader("Docker-Content-Digest") == digest
        answer, body = ask(connection, "GET", path, Range=f"bytes={MIB}-{MIB + 9}")
        assert (answer.status, body) == (206, blob[MIB : MIB + 10])
        assert answer.getheader("Content-Range") == f"bytes {MIB}-{MIB + 9}/{len(blob)}"


def test_what_a_client_says_of_where_it_came_from_changes_nothing(proxy: Proxy) -> None:
    with asking(proxy) as connection:
        answer, _ = ask(
            connection,
            "POST",
            "/v2/forwarded/blobs/uploads/",
            X_Forwarded_Host="evil.example.com",
            X_Forwarded_Proto="gopher",
            Forwarded="host=evil.example.com;proto=gopher",
        )
        assert answer.status == 202
        assert str(answer.getheader("Location")).startswith("/v2/forwarded/blobs/uploads/")
