"""Requests with two readings, each with one hidden where another program may see a request.

`NNN` stands for three digits of the payload's own, in whatever it asks for, so that both logs tell
which payload a line belongs to. The hidden request asks for `/v2/smuggled-NNN/…`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HIDDEN: Final = b"GET /v2/smuggled-NNN/tags/list HTTP/1.1\r\nHost: localhost\r\n\r\n"
_COMMON: Final = b"Host: localhost\r\nX-Request-Id: payload-NNN\r\n"
# A manifest is read to its end, and its connection kept.
PUT: Final = b"PUT /v2/payload-NNN/manifests/x HTTP/1.1\r\n" + _COMMON
# Answered at once: a body is not read.
POST: Final = b"POST /v2/payload-NNN/blobs/uploads/ HTTP/1.1\r\n" + _COMMON
NOWHERE: Final = b"PUT /payload-NNN/nowhere HTTP/1.1\r\n" + _COMMON
GET: Final = b"GET /v2/payload-NNN/tags/list HTTP/1.1\r\n" + _COMMON
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
END: Final = b"0\r\n\r\n"
SIZE: Final = len(HIDDEN)
LENGTH: Final = b"Content-Length: %d\r\n" % SIZE
IN_A_CHUNK: Final = b"%x\r\n%s\r\n" % (SIZE, HIDDEN) + END


@dataclass(frozen=True)
class Payload:
    kind: str
    name: str
    data: bytes
    two: bool = False
    """By the only reading, what is hidden elsewhere is a request of its own here."""

    def numbered(self, number: int) -> bytes:
        return self.data.replace(b"NNN", b"%03d" % number)


def _lengths() -> list[tuple[str, bytes]]:
    rows = [
        ("a length, then chunks of nothing", LENGTH + CHUNKED + b"\r\n" + END + HIDDEN),
        ("chunks of nothing, then a length", CHUNKED + LENGTH + b"\r\n" + END + HIDDEN),
        ("a short length, and chunks", b"Content-Length: 4\r\n" + CHUNKED + b"\r\n" + IN_A_CHUNK),
        ("chunks, and a length of nothing", CHUNKED + b"Content-Length: 0\r\n\r\n" + IN_A_CHUNK),
        ("twice the same length", LENGTH + LENGTH + b"\r\n" + HIDDEN),
        ("nothing, then a length", b"Content-Length: 0\r\n" + LENGTH + b"\r\n" + HIDDEN),
        ("a length, then nothing", LENGTH + b"Content-Length: 0\r\n\r\n" + HIDDEN),
    ]
    values = [
        ("a list of one length", b"%d, %d" % (SIZE, SIZE)),
        ("a list of two lengths", b"0, %d" % SIZE),
        ("a list with nothing in it", b"%d," % SIZE),
        ("a sign", b"+%d" % SIZE),
        ("a minus", b"-%d" % SIZE),
        ("minus nothing", b"-0"),
        ("a hexadecimal length", b"0x%x" % SIZE),
        ("leading zeros", b"000000%d" % SIZE),
        ("many leading zeros", b"0" * 30 + b"%d" % SIZE),
        ("many spaces", b"   \t %d \t " % SIZE),
        ("a space within", b"0 %d" % SIZE),
        ("a fraction", b"%d.0" % SIZE),
        ("an exponent", b"0e%d" % SIZE),
        ("an underscore", b"0_%d" % SIZE),
        ("no digits", b""),
        ("2^64 and the length", b"%d" % ((1 << 64) + SIZE)),
        ("2^63 and the length", b"%d" % ((1 << 63) + SIZE)),
        ("2^32 and the length", b"%d" % ((1 << 32) + SIZE)),
        ("2^64", b"%d" % (1 << 64)),
        ("a NUL before it", b"\x00%d" % SIZE),
        ("a NUL behind it", b"%d\x00" % SIZE),
        ("a vertical tab before it", b"\x0b%d" % SIZE),
        ("Arabic digits", "\u0663".encode()),
    ]
    rows += [(name, b"Content-Length: " + value + b"\r\n\r\n" + HIDDEN) for name, value in values]
    fields = [
        ("a space before the colon of a length", b"Content-Length : %d\r\n"),
        ("a space before a length's name", b" Content-Length: %d\r\n"),
        ("a tab before a length's name", b"\tContent-Length: %d\r\n"),
        ("a folded length", b"Content-Length:\r\n %d\r\n"),
        ("a length in a folded line", b"X: y\r\n Content-Length: %d\r\n"),
        ("a length behind a bare line feed", b"X: y\nContent-Length: %d\r\n"),
        ("a length behind a bare carriage return", b"X: y\rContent-Length: %d\r\n"),
        ("a length behind a NUL", b"X: y\x00\r\nContent-Length: %d\r\n"),
        ("an underscore in a length's name", b"Content_Length: %d\r\n"),
        ("a NUL in a length's name", b"Content\x00-Length: %d\r\n"),
    ]
    return rows + [(name, field % SIZE + b"\r\n" + HIDDEN) for name, field in fields]


def _codings() -> list[tuple[str, bytes]]:
    fields = [
        ("chunks in capitals", b"Transfer-Encoding: CHUNKED\r\n"),
        ("chunks behind gzip", b"Transfer-Encoding: gzip, chunked\r\n"),
        ("chunks before gzip", b"Transfer-Encoding: chunked, gzip\r\n"),
        ("chunks before identity", b"Transfer-Encoding: chunked, identity\r\n"),
        ("chunks of chunks", b"Transfer-Encoding: chunked, chunked\r\n"),
        ("chunks twice", CHUNKED + CHUNKED),
        ("chunks, then identity", CHUNKED + b"Transfer-Encoding: identity\r\n"),
        ("identity, then chunks", b"Transfer-Encoding: identity\r\n" + CHUNKED),
        ("chunks, then nonsense", CHUNKED + b"Transfer-Encoding: x\r\n"),
        ("identity alone", b"Transfer-Encoding: identity\r\n"),
        ("xchunked", b"Transfer-Encoding: xchunked\r\n"),
        ("chunkedx", b"Transfer-Encoding: chunkedx\r\n"),
        ("quoted chunks", b'Transfer-Encoding: "chunked"\r\n'),
        ("chunks with a parameter", b"Transfer-Encoding: chunked;q=1\r\n"),
        ("nothing, a comma and chunks", b"Transfer-Encoding: ,chunked\r\n"),
        ("chunks and a comma", b"Transfer-Encoding: chunked,\r\n"),
        ("an empty coding", b"Transfer-Encoding:\r\n"),
        ("no space before chunks", b"Transfer-Encoding:chunked\r\n"),
        ("a tab before chunks", b"Transfer-Encoding:\tchunked\r\n"),
        ("a vertical tab before chunks", b"Transfer-Encoding: \x0bchunked\r\n"),
        ("a NUL behind chunks", b"Transfer-Encoding: chunked\x00\r\n"),
        ("a space before the colon", b"Transfer-Encoding : chunked\r\n"),
        ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n"),
        ("a space before the name", b" Transfer-Encoding: chunked\r\n"),
        ("a folded coding", b"Transfer-Encoding:\r\n chunked\r\n"),
        ("a coding in a folded line", b"X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("a coding behind a bare line feed", b"X: y\nTransfer-Encoding: chunked\r\n"),
        ("a coding behind a bare carriage return", b"X: y\rTransfer-Encoding: chunked\r\n"),
        ("an underscore in the name", b"Transfer_Encoding: chunked\r\n"),
        ("a name that is not ASCII", b"Transfer\xad-Encoding: chunked\r\n"),
        ("TE in place of it", b"TE: chunked\r\n"),
    ]
    # Once as chunks that hide it, once beside a length by which it is what follows.
    rows = [(name, field + b"\r\n" + IN_A_CHUNK) for name, field in fields]
    hidden_by_length = b"Content-Length: %d\r\n" % (len(END) + SIZE)
    return rows + [
        (f"{name}, and a length", hidden_by_length + field + b"\r\n" + END + HIDDEN)
        for name, field in fields
    ]


def _chunks() -> list[tuple[str, bytes]]:
    size = b"%x" % SIZE
    bodies = [
        ("an extension", size + b";a=b\r\n" + HIDDEN + b"\r\n" + END),
        ("an extension with a line feed", b"1;a\n" + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("an extension with a quoted line break", b'1;a="\r\n' + HIDDEN + b'"\r\na\r\n' + END),
        ("an extension with a carriage return", b"1;a\r" + size + b"\r\na\r\n" + END + HIDDEN),
        ("an extension of 40 KiB", size + b";" + b"a" * 40960 + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a size that is none", b"g\r\n" + HIDDEN),
        ("a size with 0x", b"0x" + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a size with a sign", b"+" + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a negative size", b"-1\r\n" + HIDDEN + b"\r\n" + END),
        ("zeros before a size", b"0" * 20 + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a space before a size", b" " + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a space behind a size", size + b" \r\n" + HIDDEN + b"\r\n" + END),
        ("2^64 and a size", b"1" + size.rjust(16, b"0") + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("2^32 and a size", b"1" + size.rjust(8, b"0") + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("2^63", b"8000000000000000\r\n" + HIDDEN + b"\r\n" + END),
        ("no size", b"\r\n" + HIDDEN),
        ("a line feed behind a size", size + b"\n" + HIDDEN + b"\r\n" + END),
        ("a carriage return behind a size", size + b"\r" + HIDDEN + b"\r\n" + END),
        ("nothing behind a chunk", b"1\r\na0\r\n\r\n" + HIDDEN),
        ("a line feed behind a chunk", b"1\r\na\n" + END + HIDDEN),
        ("more in a chunk than its size", b"1\r\n" + HIDDEN + b"\r\n" + END),
        ("an end by line feeds", b"0\n\n" + HIDDEN),
        ("an end by a line feed", b"0\r\n\n" + HIDDEN),
        ("many zeros for the end", b"0" * 20 + b"\r\n\r\n" + HIDDEN),
        ("a NUL in a size", b"\x00" + size + b"\r\n" + HIDDEN + b"\r\n" + END),
        ("a length as trailer", b"0\r\n" + LENGTH + b"\r\n" + HIDDEN),
        ("a coding as trailer", b"0\r\n" + CHUNKED + b"\r\n" + HIDDEN),
        ("a hidden request as trailer", b"0\r\n" + HIDDEN),
        ("a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n" + HIDDEN),
    ]
    return [(name, CHUNKED + b"\r\n" + body) for name, body in bodies]


def _lines() -> list[tuple[str, bytes]]:
    """Heads of GET that may end before, or behind, a hidden request."""
    x = b"X: "
    return [
        ("a head that ends with a line feed", GET + b"\n" + HIDDEN),
        ("a head of line feeds", GET.replace(b"\r\n", b"\n") + b"\n" + HIDDEN),
        ("a line feed and a request in a value", GET + x + b"\n\n" + HIDDEN),
        ("carriage returns and a request in a value", GET + x + b"\r\r" + HIDDEN),
        ("a space and a line break", GET + b" \r\n" + HIDDEN),
        ("no line break before a request", GET + x + HIDDEN),
        ("a NUL in a value", GET + x + b"a\x00b\r\n\r\n"),
        ("a NUL in a name", GET + b"X\x00: a\r\n\r\n"),
        ("a space in a name", GET + b"X Y: a\r\n\r\n"),
        ("no name", GET + b": a\r\n\r\n"),
        ("no colon", GET + b"X\r\n\r\n"),
        ("a header of 40 KiB", GET + x + b"a" * 40960 + b"\r\n\r\n"),
        ("200 fields", GET + b"X: y\r\n" * 200 + b"\r\n"),
    ]


def _first_lines() -> list[tuple[str, bytes]]:
    path = b"/v2/payload-NNN/tags/list"
    host = _COMMON
    return [
        ("another host in the target", b"GET http://b" + path + b" HTTP/1.1\r\n" + host),
        ("the same host in the target", b"GET http://localhost" + path + b" HTTP/1.1\r\n" + host),
        ("a user in the target", b"GET http://b@localhost" + path + b" HTTP/1.1\r\n" + host),
        ("no host in the target", b"GET http://" + path + b" HTTP/1.1\r\n" + host),
        ("a target without a slash", b"GET " + path[1:] + b" HTTP/1.1\r\n" + host),
        ("two slashes", b"GET /" + path + b" HTTP/1.1\r\n" + host),
        ("dots in the target", b"GET /v2/../" + path[1:] + b" HTTP/1.1\r\n" + host),
        ("encoded dots", b"GET /%2e%2e" + path + b" HTTP/1.1\r\n" + host),
        ("an encoded slash", b"GET /v2%2fpayload-NNN/tags/list HTTP/1.1\r\n" + host),
        ("an encoded line break", b"GET " + path + b"%0d%0aX:y HTTP/1.1\r\n" + host),
        ("an encoded NUL", b"GET " + path + b"%00 HTTP/1.1\r\n" + host),
        ("a fragment", b"GET " + path + b"#x HTTP/1.1\r\n" + host),
        ("a space in the target", b"GET " + path + b" x HTTP/1.1\r\n" + host),
        ("a tab in the target", b"GET " + path + b"\tx HTTP/1.1\r\n" + host),
        ("a backslash", b"GET \\v2\\payload-NNN HTTP/1.1\r\n" + host),
        ("a target that is not ASCII", b"GET " + path + b"\xff HTTP/1.1\r\n" + host),
        ("two Hosts", GET + b"Host: b\r\n"),
        ("a Host with a user", b"GET " + path + b" HTTP/1.1\r\nHost: a@b\r\n"),
        ("a Host with a path", b"GET " + path + b" HTTP/1.1\r\nHost: a/b\r\n"),
        ("no Host", b"GET " + path + b" HTTP/1.1\r\n"),
        ("an empty Host", b"GET " + path + b" HTTP/1.1\r\nHost:\r\n"),
        ("HTTP/1.0 that is kept", b"GET " + path + b" HTTP/1.0\r\nConnection: keep-alive\r\n"),
        ("HTTP/0.9", b"GET " + path + b"\r\n"),
        ("HTTP/1.2", b"GET " + path + b" HTTP/1.2\r\n" + host),
        ("HTTP/2.0", b"GET " + path + b" HTTP/2.0\r\n" + host),
        ("HTTP/01.1", b"GET " + path + b" HTTP/01.1\r\n" + host),
        ("a method in lower case", b"get " + path + b" HTTP/1.1\r\n" + host),
        ("an unknown method", b"SMUGGLE " + path + b" HTTP/1.1\r\n" + host),
        ("two spaces", b"GET  " + path + b" HTTP/1.1\r\n" + host),
        ("a first line of 20 KiB", b"GET " + path + b"?" + b"a" * 20480 + b" HTTP/1.1\r\n" + host),
    ]


def _others() -> list[tuple[str, bytes]]:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    delete = b"DELETE /v2/payload-NNN/manifests/x HTTP/1.1\r\n" + _COMMON
    expect = b"Expect: 100-continue\r\n"
    names_coding = b"Connection: transfer-encoding\r\n"
    with_body = LENGTH + b"\r\n" + HIDDEN
    return [
        ("an upgrade with a body", PUT + upgrade + with_body),
        ("an upgrade with chunks", PUT + upgrade + CHUNKED + b"\r\n" + IN_A_CHUNK),
        ("a web socket with a body", PUT + upgrade.replace(b"h2c", b"websocket") + with_body),
        ("expectation, and the body at once", PUT + expect + with_body),
        ("an unknown expectation", PUT + b"Expect: 200-maybe\r\n" + with_body),
        ("an expectation that is refused", NOWHERE + expect + with_body),
        ("a kept HTTP/1.0 with chunks", PUT.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + END),
        ("Connection names a length", PUT + b"Connection: content-length\r\n" + with_body),
        ("Connection names the coding", PUT + names_coding + CHUNKED + b"\r\n" + IN_A_CHUNK),
        ("Connection names Host", PUT + b"Connection: host\r\n" + with_body),
        ("nothing after the last", GET + b"Connection: close\r\n\r\n" + HIDDEN),
        ("a GET with a body", GET + with_body),
        ("a GET with chunks", GET + CHUNKED + b"\r\n" + IN_A_CHUNK),
        ("a HEAD with a body", GET.replace(b"GET", b"HEAD") + with_body),
        ("a DELETE with a body", delete + with_body),
        ("a DELETE with chunks", delete + CHUNKED + b"\r\n" + IN_A_CHUNK),
        ("an OPTIONS with a body", GET.replace(b"GET", b"OPTIONS") + with_body),
        ("a method to override", GET + b"X-HTTP-Method-Override: PUT\r\n" + with_body),
    ]


def _early() -> list[tuple[str, bytes]]:
    """Answered before the body has come, which is full of requests."""
    many = HIDDEN * 512
    length = b"Content-Length: %d\r\n\r\n" % len(many)
    chunks = CHUNKED + b"\r\n%x\r\n" % len(many) + many + b"\r\n" + END
    too_large = b"Content-Length: %d\r\n\r\n" % (5 << 20)
    return [
        ("404 and a body", NOWHERE + length + many),
        ("404 and chunks", NOWHERE + chunks),
        ("404 and the half of a body", NOWHERE + length + many[: len(many) // 2]),
        ("404 and chunks without an end", NOWHERE + chunks[: len(chunks) // 2]),
        ("413 and some of a body", PUT + too_large + many),
        ("202 and a body", POST + length + many),
        ("202 and chunks", POST + chunks),
        ("405 and a body", GET.replace(b"GET", b"PUT") + length + many),
        ("400 for a name, and a body", PUT.replace(b"payload", b"PAYLOAD_", 1) + length + many),
        ("415 for an encoding, and a body", PUT + b"Content-Encoding: gzip\r\n" + length + many),
    ]


TWO_REQUESTS: Final = {
    "an underscore in a length's name",
    "many zeros for the end",
    "the same host in the target",
    "two slashes",
    "dots in the target",
    "encoded dots",
    "an encoded slash",
    "an encoded line break",
    "two spaces",  # RFC 9112, 3: "MAY instead parse on whitespace-delimited word boundaries"
}
"""By their only reading what is hidden elsewhere follows as a request of its own here."""


def _with(kind: str, head: bytes, rows: list[tuple[str, bytes]]) -> list[Payload]:
    return [Payload(kind, name, head + data, two=name in TWO_REQUESTS) for name, data in rows]


PAYLOADS: Final = [
    *_with("lengths", PUT, _lengths()),
    *_with("codings", PUT, _codings()),
    *_with("chunks", PUT, _chunks()),
    *_with("line breaks", b"", _lines()),
    *_with("first lines", b"", [(name, data + b"\r\n" + HIDDEN) for name, data in _first_lines()]),
    *_with("bodies of others", b"", _others()),
    *_with("early answers", b"", _early()),
]
