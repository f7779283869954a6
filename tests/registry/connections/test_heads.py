"""What the head of a request may look like: a table, with a reason for each row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.heads import Field, Limits, Refused, check

LIMITS = Limits(size=1000, count=10, line=100, literal=False)
HOST: Field = (b"host", b"registry.test")


def judge(
    *fields: Field,
    method: bytes = b"GET",
    target: bytes = b"/v2/",
    version: str = "1.1",
    limits: Limits = LIMITS,
) -> int | bool:
    """The status of a refusal, or whether a body follows."""
    try:
        return check(method, target, version, fields, limits)
    except Refused as refused:
        return refused.status


def length(text: bytes) -> Field:
    return (b"content-length", text)


def coding(text: bytes) -> Field:
    return (b"transfer-encoding", text)


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        pytest.param([HOST], False, id="what nearly all send"),
        pytest.param([HOST, (b"accept", b"*/*"), (b"x", b"")], False, id="other fields"),
        pytest.param([HOST, (b"connection", b"close")], False, id="the last request"),
        pytest.param([HOST, length(b"0")], False, id="a body of nothing"),
        pytest.param([HOST, length(b"5")], True, id="a body"),
        pytest.param([HOST, length(b"5 \t")], True, id="space behind a length"),
        pytest.param([HOST, length(b"5000000000")], True, id="a body of 5 GB"),
        pytest.param([HOST, coding(b"chunked")], True, id="chunks"),
        pytest.param([HOST, coding(b"CHUNKED ")], True, id="chunks in capitals"),
        pytest.param([HOST, (b"upgrade", b"h2c")], False, id="an upgrade can be ignored"),
        pytest.param([], 400, id="no Host"),
        pytest.param([HOST, HOST], 400, id="the same Host twice"),
        pytest.param([HOST, (b"host", b"other")], 400, id="two Hosts"),
        pytest.param([HOST, (b"upgrade", b"h2c"), length(b"5")], True, id="upgrade and a body"),
        pytest.param([HOST, length(b"5"), coding(b"chunked")], 400, id="length and chunks"),
        pytest.param([HOST, length(b"5"), length(b"5")], 400, id="two lengths"),
        pytest.param([HOST, length(b"5"), length(b"6")], 400, id="two different lengths"),
        pytest.param([HOST, length(b"5, 5")], 400, id="a list of lengths"),
        pytest.param([HOST, length(b"+5")], 400, id="a length with a sign"),
        pytest.param([HOST, length(b"-5")], 400, id="a negative length"),
        pytest.param([HOST, length(b"0x5")], 400, id="a hexadecimal length"),
        pytest.param([HOST, length(b"5_0")], 400, id="a length as Python writes it"),
        pytest.param([HOST, length(b"")], 400, id="an empty length"),
        pytest.param([HOST, length(b"\xd9\xa3")], 400, id="a digit of another script"),
        pytest.param([HOST, length(b"1" * 20)], 400, id="a length that overflows"),
        pytest.param([HOST, coding(b"gzip, chunked")], 400, id="another coding before chunks"),
        pytest.param([HOST, coding(b", chunked")], 400, id="an empty coding before chunks"),
        pytest.param([HOST, coding(b"chunked, chunked")], 400, id="chunks in chunks"),
        pytest.param([HOST, coding(b"chunked"), coding(b"chunked")], 400, id="chunks twice"),
        pytest.param([HOST, coding(b"xchunked")], 400, id="a coding that ends alike"),
        pytest.param([HOST, coding(b"identity")], 400, id="no coding, which was a coding once"),
        pytest.param([HOST, coding(b"chunked;q=1")], 400, id="chunks with a parameter"),
        pytest.param([HOST, coding(b"\x0bchunked")], 400, id="space that is none"),
        pytest.param([HOST, coding(b"")], 400, id="an empty coding"),
        pytest.param([HOST, *[(b"x", b"y")] * 9], False, id="as many fields as may be"),
        pytest.param([HOST, *[(b"x", b"y")] * 10], 431, id="one too many"),
        pytest.param([HOST, (b"x", b"y" * 900)], False, id="a large field"),
        pytest.param([HOST, (b"x", b"y" * 1000)], 431, id="a field too large"),
        pytest.param([HOST, (b"y" * 1000, b"")], 431, id="a name too large"),
    ],
)
def test_fields(fields: list[Field], verdict: int | bool) -> None:
    assert judge(*fields) == verdict


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        (b"registry.test", False),
        (b"registry.test:5000", False),
        (b"my_registry:5000", False),  # of a network of containers
        (b"127.0.0.1:5000", False),
        (b"[::1]:5000", False),
        (b"registry.test:", False),  # RFC 3986: a port may be empty
        (b"", 400),
        (b"a@b", 400),
        (b"a/b", 400),
        (b"a\\b", 400),
        (b"a b", 400),
        (b"a,b", False),  # RFC 3986 has a comma in names; it is one Host still
        (b"a:b", 400),
        (b"a:5000:5000", 400),
        (b"a:500000", 400),
        (b"[::1", 400),
        (b"a?b", 400),
        (b"a#b", 400),
        (b"a\tb", 400),
        (b"b\xc3\xbccher", 400),
        (b"a\n", 400),
    ],
)
def test_hosts(host: bytes, verdict: int | bool) -> None:
    assert judge((b"host", host)) == verdict
    assert judge((b"host", host), length(b"0")) == verdict  # the longer way through the checks


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (b"/", False),
        (b"/v2/?n=1&last=a%2Fb", False),
        (b"//registry.test/v2/", False),  # a path that begins with two slashes, and no host
        (b"http://registry.test/v2/", False),
        (b"HTTP://Registry.TEST/v2/", False),
        (b"http://registry.test", False),
        (b"http://registry.test?x", False),
        (b"http://other.test/v2/", 400),
        (b"http://registry.test:80/v2/", 400),
        (b"http://user@registry.test/v2/", 400),
        (b"http:///v2/", 400),
        (b"ftp://registry.test/v2/", 400),
        (b"*", 400),
        (b"registry.test:80", 400),
        (b"@registry.test", 400),
        (b"v2/", 400),
        (b"", 400),
        (b"/a\0b", 400),
        (b"/a%00b", 400),
        (b"/?a=%00", 400),
        (b"http://registry.test/%00", 400),
        (b"/a#b", 400),
        (b"/a b", 400),
        (b"/a\x7f", 400),
        (b"/\xc3\xbc", 400),
        (b"/" + b"a" * 84, False),
        (b"/" + b"a" * 86, 414),
    ],
)
def test_targets(target: bytes, verdict: int | bool) -> None:
    assert judge(HOST, target=target) == verdict


@pytest.mark.parametrize("target", [b"/a%00b", b"/a#b"])
def test_what_only_an_application_can_judge_is_left_to_it(target: bytes) -> None:
    assert judge(HOST, target=target, limits=replace(LIMITS, literal=True)) is False


@pytest.mark.parametrize(
    ("version", "fields", "verdict"),
    [
        ("1.0", [], False),  # Host came with HTTP/1.1
        ("1.0", [HOST], False),
        ("1.0", [HOST, HOST], 400),
        ("1.0", [length(b"5")], True),
        ("1.0", [coding(b"chunked")], 400),  # RFC 9112, 6.1: "faulty"
        ("0.9", [], 505),
        ("0.9", [HOST], 505),
        ("2.0", [HOST], 505),
    ],
)
def test_versions(version: str, fields: list[Field], verdict: int | bool) -> None:
    assert judge(*fields, version=version) == verdict


def test_a_long_method_counts_as_part_of_the_first_line() -> None:
    assert judge(HOST, method=b"M" * 100) == 414
