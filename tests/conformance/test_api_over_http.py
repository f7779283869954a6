"""Distribution spec, "API": what only shows between a server and a socket.

"Where this specification does not define specific behavior, implementations SHOULD follow the HTTP
semantics defined in RFC 9110." A whole server, asked byte for byte.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

from tests.asgi import IMAGE, descriptor, digest_of, image
from tests.servers import PATIENCE, Spindle

BLOB: Final = b"bytes that any compression would make fewer " * 200
MANIFEST: Final = image(layers=[descriptor(BLOB, "application/vnd.example.layer")])
SUBJECT: Final = digest_of(MANIFEST)
REFERRER: Final = image(subject=descriptor(MANIFEST), annotations={"org.example.long": "x" * 5000})
LIMIT: Final = 4 << 20  # bytes of a manifest
FOREVER: Final = 200 << 20  # bytes that nobody takes, and the sockets between cannot hold


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        [value, *more] = [value for key, value in self.headers if key == name] or [None]
        assert not more, f"{name} was sent more than once"
        return value


class Wire:
    """A connection. What is written is exactly what is given."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.answers = connection.makefile("rb")

    def send(self, method: str, target: str, *headers: str, body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: registry.test", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def head(self) -> Answer:
        """A status and headers, without a body."""
        line = self.answers.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = []
        while (field := self.answers.readline()) != b"\r\n":
            name, _, value = field.decode().partition(":")
            headers.append((name.lower(), value.strip()))
        return Answer(int(line.split()[1]), headers, b"")

    def receive(self, method: str) -> Answer:
        """The answer to a request by that method, held to what is true of every answer."""
        head = self.head()
        length = head.header("content-length")
        assert head.header("transfer-encoding") is None
        assert head.header("content-encoding") is None
        assert head.header("warning") is None
        assert (length is None) == (head.status in (204, 304))
        body = self.answers.read(int(length or 0)) if method != "HEAD" else b""
        return Answer(head.status, head.headers, body)

    def ask(self, method: str, target: str, *headers: str, body: bytes = b"") -> Answer:
        self.send(method, target, *headers, body=body)
        return self.receive(method)

    def ended(self) -> bool:
        """Whether the server ends it, and says nothing more."""
        return self.answers.read() == b""

    def pour(self, amount: int, piece: bytes) -> int:
        """Send chunks for as long as they are taken; return how many bytes were."""
        sent = 0
        with suppress(ConnectionError):
            while sent < amount:
                self.socket.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sent += len(piece)
        return sent


@contextmanager
def connected(server: Spindle) -> Iterator[Wire]:
    host, _, port = server.registry.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        wire = Wire(connection)
        with wire.answers:
            yield wire


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    data: Path = tmp_path_factory.mktemp("http") / "data"
    with Spindle(data) as running:
        with connected(running) as wire:
            for blob in (BLOB, b"{}"):
                target = f"/v2/app/blobs/uploads/?digest={digest_of(blob)}"
                assert wire.ask("POST", target, body=blob).status == 201
            for reference, body in (("v1", MANIFEST), ("v2", MANIFEST), ("sbom", REFERRER)):
                answer = wire.ask("PUT", f"/v2/app/manifests/{reference}", body=body)
                assert answer.status == 201
        yield running


@pytest.fixture
def wire(server: Spindle) -> Iterator[Wire]:
    with connected(server) as made:
        yield made


def session(wire: Wire) -> str:
    """The Location of a new upload."""
    answer = wire.ask("POST", "/v2/app/blobs/uploads/", "Content-Length: 0")
    assert answer.status == 202
    return answer.header("location") or ""


READ = [
    ("/v2/", 200),
    ("/v2", 200),
    ("/v2/_catalog", 200),
    ("/v2/_oci/ext/discover", 200),
    ("/v2/app/_oci/ext/discover", 200),
    ("/v2/app/manifests/v1", 200),
    (f"/v2/app/manifests/{SUBJECT}", 200),
    (f"/v2/app/blobs/{digest_of(BLOB)}", 200),
    ("/v2/app/tags/list", 200),
    ("/v2/app/tags/list?n=1", 200),
    (f"/v2/app/referrers/{SUBJECT}", 200),
    ("SESSION", 204),
    ("/v2/app/manifests/absent", 404),
    ("/v2/nobody/manifests/v1", 404),
    (f"/v2/app/blobs/{digest_of(b'absent')}", 404),
    ("/v2/nobody/tags/list", 404),
    ("/v2/app/blobs/uploads/absent", 404),
    ("/v2/app/no/such/path", 404),
    ("/v2/Not-A-Name/manifests/v1", 400),
    ("/v2/app/blobs/sha256:bad", 400),
    ("/v2/app/referrers/sha256:bad", 400),
    ("/v2/app/tags/list?n=-1", 400),
    ("/v2/app/blobs/uploads/", 405),
]


@pytest.mark.parametrize(("target", "status"), READ)
def test_head_has_the_headers_of_get_and_no_body(wire: Wire, target: str, status: int) -> None:
    """RFC 9110, 9.3.2: HEAD is "identical to GET except that the server MUST NOT send content"; and
    8.6: it "MUST NOT send Content-Length … unless its field value equals" that of the GET. On one
    connection, so that a byte too many would be read as the start of the next answer."""
    target = session(wire) if target == "SESSION" else target
    head, get = wire.ask("HEAD", target), wire.ask("GET", target)
    assert (head.status, get.status) == (status, status)
    fleeting = ("date", "x-request-id")
    assert sorted(pair for pair in head.headers if pair[0] not in fleeting) == sorted(
        pair for pair in get.headers if pair[0] not in fleeting
    )
    assert head.body == b""
    assert wire.ask("HEAD", target).status == status


@pytest.mark.parametrize(
    "target", [f"/v2/app/blobs/{digest_of(BLOB)}", "/v2/app/manifests/v1"], ids=["blob", "manifest"]
)
def test_a_304_has_neither_a_body_nor_the_length_of_one(wire: Wire, target: str) -> None:
    """RFC 9110, 15.4.5: "A 304 response is terminated by the end of the header section"."""
    tag = wire.ask("HEAD", target).header("etag")
    for method in ("GET", "HEAD"):
        assert wire.ask(method, target, f"If-None-Match: {tag}").status == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("encoding", ["gzip", "zstd, gzip, deflate", "br;q=1.0, *;q=0.5"])
@pytest.mark.parametrize("target", [target for target, status in READ if status == 200])
def test_nothing_is_compressed_for_those_who_would_take_it(
    wire: Wire, target: str, encoding: str, method: str
) -> None:
    """A digest is that of the bytes, and "A successful response MUST contain the size in bytes of
    the uploaded blob or manifest in the header `Content-Length`"; Go removes the length of a gzip
    answer."""
    plain = wire.ask(method, target)
    offered = wire.ask(method, target, f"Accept-Encoding: {encoding}")
    assert (offered.status, offered.body) == (200, plain.body)
    assert offered.header("content-length") == plain.header("content-length")
    assert offered.header("docker-content-digest") == plain.header("docker-content-digest")


def test_no_answer_says_more_of_us_than_it_has_to(wire: Wire) -> None:
    """`X-Registry-Supports-Signatures` would have podman use another API; `Server` helps nobody."""
    answer = wire.ask("GET", "/v2/")
    assert answer.header("docker-distribution-api-version") == "registry/2.0"
    assert answer.header("x-registry-supports-signatures") is None
    assert answer.header("server") is None


REFUSED_UNREAD = [
    ("PUT", "/v2/app/manifests/x", (), 413),
    ("PUT", "/v2/app/manifests/-x", (), 400),
    ("PUT", "/v2/app/manifests/x?tag=y", (), 400),
    ("PUT", "/v2/app/manifests/x", ("If-Match: *",), 412),
    ("PUT", "/v2/app/manifests/x", ("Content-Encoding: gzip",), 415),
    ("POST", "/v2/Not-A-Name/blobs/uploads/?digest=" + digest_of(b"x"), (), 400),
    ("POST", "/v2/app/blobs/uploads/?digest=sha256:bad", (), 400),
    ("POST", f"/v2/app/blobs/uploads/?digest=blake3:{'a' * 64}", (), 400),
    ("PATCH", "/v2/app/blobs/uploads/absent", (), 404),
    ("PATCH", "SESSION", ("Content-Range: 7-9",), 416),
    ("PATCH", "SESSION", ("Content-Range: bytes 0-9/10",), 400),
    ("PUT", "SESSION", (), 400),
    ("PUT", f"SESSION?digest=sha256:{'A' * 64}", (), 400),
    ("POST", "/v2/app/manifests/x", (), 405),
]


@pytest.mark.parametrize(("method", "target", "headers", "status"), REFUSED_UNREAD)
def test_who_waits_for_100_continue_is_refused_at_once_and_without_one(
    wire: Wire, method: str, target: str, headers: tuple[str, ...], status: int
) -> None:
    """RFC 9110, 10.1.1: "an immediate response with a final status code, if that status can be
    determined by examining just the method, target URI, and header fields"; and it "SHOULD indicate
    whether it intends to close the connection … or continue reading the request content"."""
    if target.startswith("SESSION"):
        target = target.replace("SESSION", session(wire))
    length = f"Content-Length: {LIMIT + 1}"
    answer = wire.ask(method, target, *headers, length, "Expect: 100-continue")
    assert (answer.status, answer.header("connection")) == (status, "close")
    assert json.loads(answer.body)["errors"]
    assert wire.ended()


@pytest.mark.parametrize("where", ["manifest", "single post", "chunk", "closing put"])
def test_who_waits_for_100_continue_is_told_to_go_on_once_all_else_is_good(
    wire: Wire, where: str
) -> None:
    """RFC 9110, 15.2.1: 100 says that the request "has not yet been rejected by the server"."""
    data = image(annotations={"by": where})
    match where:
        case "manifest":
            method, target, status = "PUT", f"/v2/app/manifests/{digest_of(data)}", 201
        case "single post":
            method, target, status = "POST", f"/v2/app/blobs/uploads/?digest={digest_of(data)}", 201
        case "chunk":
            method, target, status = "PATCH", session(wire), 202
        case _:
            method, target, status = "PUT", f"{session(wire)}?digest={digest_of(data)}", 201
    wire.send(method, target, f"Content-Length: {len(data)}", "Expect: 100-continue")
    assert wire.head().status == 100
    wire.socket.sendall(data)
    assert wire.receive(method).status == status
    assert wire.ask("GET", "/v2/").status == 200


def test_a_manifest_in_chunks_is_refused_where_it_is_too_large(wire: Wire) -> None:
    """ "A registry that enforces this limit SHOULD respond … with a response code `413 Payload Too
    Large`": while the client is still sending; and it is told how much would do."""
    wire.send("PUT", "/v2/app/manifests/x", "Transfer-Encoding: chunked")
    sent = wire.pour(FOREVER, bytes(1 << 20))
    assert LIMIT < sent < FOREVER
    answer = wire.receive("PUT")
    assert (answer.status, answer.header("connection")) == (413, "close")
    [error] = json.loads(answer.body)["errors"]
    assert error["code"] == "SIZE_INVALID"
    assert f"larger than the {LIMIT} bytes" in error["message"]


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", f"Content-Length: {FOREVER}"])
def test_a_stream_for_the_wrong_place_is_cut_off_and_the_upload_is_not_harmed(
    server: Spindle, framing: str
) -> None:
    """ "If a chunk is uploaded out of order, the registry MUST respond with a `416 Requested Range
    Not Satisfiable` code", also to those who do not wait for it; the next one goes on."""
    with connected(server) as wire:
        location = session(wire)
        assert wire.ask("PATCH", location, body=b"x" * 10).header("range") == "0-9"
        wire.send("PATCH", location, f"Content-Range: 20-{FOREVER + 19}", framing)
        assert wire.pour(FOREVER, bytes(1 << 20)) < FOREVER
        answer = wire.receive("PATCH")
        assert (answer.status, answer.header("range")) == (416, "0-9")
        assert answer.header("connection") == "close"
    with connected(server) as wire:
        assert wire.ask("GET", location).header("range") == "0-9"
        answer = wire.ask("PATCH", location, "Content-Range: 10-19", body=b"x" * 10)
        assert (answer.status, answer.header("range")) == (202, "0-19")


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_a_body_in_chunks_is_a_body(wire: Wire, size: int) -> None:
    """RFC 9112, 6.3: "If a Transfer-Encoding header field is present …, the message body length is
    determined by reading and decoding the chunked data": no route needs a Content-Length."""
    data = b"z" * size
    location = session(wire)
    wire.send("PATCH", location, "Transfer-Encoding: chunked")
    if size:
        wire.pour(size, data)
    wire.socket.sendall(b"0\r\n\r\n")
    assert wire.receive("PATCH").header("range") == f"0-{max(size - 1, 0)}"
    wire.send("PUT", f"{location}?digest={digest_of(data)}", "Transfer-Encoding: chunked")
    wire.socket.sendall(b"0\r\n\r\n")
    assert wire.receive("PUT").status == 201
    assert wire.ask("GET", f"/v2/app/blobs/{digest_of(data)}").body == data


def test_a_manifest_in_chunks_is_a_manifest(wire: Wire) -> None:
    """Nothing tells its length before its end, and the conformance program sends all of them so."""
    body = image(annotations={"sent": "in chunks"})
    wire.send(
        *("PUT", "/v2/app/manifests/chunked"),
        *(f"Content-Type: {IMAGE}", "Transfer-Encoding: chunked"),
    )
    wire.pour(len(body), body)
    wire.socket.sendall(b"0\r\n\r\n")
    assert wire.receive("PUT").header("docker-content-digest") == digest_of(body)
    assert wire.ask("DELETE", "/v2/app/manifests/chunked").status == 202


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("PUT", "/v2/fresh%0A/manifests/x", 400, "NAME_INVALID"),
        ("PUT", "/v2/fresh/manifests/x%0A", 400, "NAME_INVALID"),
        ("PUT", f"/v2/fresh/manifests/{SUBJECT}%0A", 400, "DIGEST_INVALID"),
        ("PUT", f"/v2/fresh/manifests/{SUBJECT}?tag=x%0A", 400, "NAME_INVALID"),
        ("POST", "/v2/fresh%0A/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", f"/v2/fresh/blobs/uploads/?digest={digest_of(BLOB)}%0A", 400, "DIGEST_INVALID"),
        ("POST", f"/v2/fresh/blobs/uploads/?mount={digest_of(BLOB)}%0A", 400, "DIGEST_INVALID"),
        ("POST", "/v2/fresh/blobs/uploads/?digest-algorithm=sha256%0A", 400, "UNSUPPORTED"),
        ("PUT", f"SESSION?digest={digest_of(BLOB)}%0A", 400, "DIGEST_INVALID"),
        ("GET", "/v2/app%0A/manifests/v1", 400, "NAME_INVALID"),
        ("GET", "/v2/app/manifests/v1%0A", 404, "MANIFEST_UNKNOWN"),
        ("GET", f"/v2/app/manifests/{SUBJECT}%0A", 400, "DIGEST_INVALID"),
        ("GET", f"/v2/app/blobs/{digest_of(BLOB)}%0A", 400, "DIGEST_INVALID"),
        ("GET", f"/v2/app/referrers/{SUBJECT}%0A", 400, "DIGEST_INVALID"),
        ("GET", "/v2/app/tags/list?n=1%0A", 400, "UNSUPPORTED"),
        ("DELETE", "/v2/app/manifests/v1%0A", 404, "MANIFEST_UNKNOWN"),
        ("DELETE", f"/v2/app/blobs/{digest_of(BLOB)}%0A", 400, "DIGEST_INVALID"),
    ],
)
def test_a_newline_at_the_end_is_part_of_what_was_sent_and_refused(
    server: Spindle, wire: Wire, method: str, target: str, status: int, code: str
) -> None:
    """`<name>`, `<tag-or-digest>` and digests "MUST match the following regular expression", all
    of them: in many languages `$` lets a newline follow."""
    if target.startswith("SESSION"):
        target = target.replace("SESSION", session(wire))
    body = MANIFEST if method == "PUT" else b""
    answer = wire.ask(method, target, body=body)
    assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (status, code)
    with connected(server) as other:  # the first has ended, if a body was left unread
        assert json.loads(other.ask("GET", "/v2/_catalog").body)["repositories"] == ["app"]
        found = json.loads(other.ask("GET", "/v2/app/tags/list").body)["tags"]
        assert found == ["sbom", "v1", "v2"]
        assert other.ask("HEAD", f"/v2/app/blobs/{digest_of(BLOB)}").status == 200


def test_a_name_may_be_as_long_as_any_client_can_send(wire: Wire) -> None:
    """ "Many clients impose a limit of 255 characters on the length of the concatenation of the
    registry hostname (and optional port), `/`, and `<name>` value." """
    name = "/".join(["a" * 50] * 5)
    assert len(name) == 254
    for longer, status in ((f"{name}a", 202), (f"{name}aa", 400)):
        assert wire.ask("POST", f"/v2/{longer}/blobs/uploads/").status == status


def test_a_digest_may_be_escaped_wherever_it_stands(wire: Wire) -> None:
    """Clients differ in whether they escape its colon, in a path and in a query."""
    escaped = quote(digest_of(BLOB), safe="")
    assert "%3A" in escaped
    assert wire.ask("GET", f"/v2/app/blobs/{escaped}").body == BLOB
    assert wire.ask("GET", f"/v2/app/manifests/{quote(SUBJECT, safe='')}").body == MANIFEST
    found = json.loads(wire.ask("GET", f"/v2/app/referrers/{quote(SUBJECT, safe='')}").body)
    assert [entry["digest"] for entry in found["manifests"]] == [digest_of(REFERRER)]
    answer = wire.ask("PUT", f"{session(wire)}?digest={escaped}", body=BLOB)
    assert answer.header("location") == f"/v2/app/blobs/{digest_of(BLOB)}"


def test_as_many_ranges_as_a_client_asks_for_first_fit_into_a_request(wire: Wire) -> None:
    """podman asks for up to 1024 at once, and counts the parts."""
    asked = ",".join(f"{at * 4}-{at * 4}" for at in range(1024))
    answer = wire.ask("GET", f"/v2/app/blobs/{digest_of(BLOB)}", f"Range: bytes={asked}")
    assert answer.status == 206
    assert answer.body.count(b"Content-Range: ") == 1024
