"""Distribution spec, "Pulling blobs" and "Checking if content exists": end-2."""

from __future__ import annotations

import pytest

from tests.asgi import Registry, digest_of

DATA = bytes(range(256)) * 8  # 2048 bytes


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("content", [DATA, b""], ids=["some", "empty"])
async def test_a_blob_is_described_by_its_headers(
    registry: Registry, method: str, algorithm: str, content: bytes
) -> None:
    """ "A successful response MUST contain the digest of the uploaded blob in the header
    `Docker-Content-Digest`", in the algorithm it was asked for by."""
    digest = await registry.push_blob("app", content, algorithm)
    answer = await registry(method, f"/v2/app/blobs/{digest}")
    assert answer.status == 200
    assert answer.header("docker-content-digest") == digest
    assert answer.header("content-length") == str(len(content))
    assert answer.header("content-type") == "application/octet-stream"
    assert answer.header("etag") == f'"{digest}"'
    assert answer.header("accept-ranges") == "bytes"
    assert answer.body == (content if method == "GET" else b"")


async def test_head_has_the_headers_of_get(registry: Registry) -> None:
    """RFC 9110, 9.3.2: "The server SHOULD send the same header fields in response to a HEAD
    request as it would have sent if the request method had been GET." """
    digest = await registry.push_blob("app", DATA)
    get = await registry("GET", f"/v2/app/blobs/{digest}")
    head = await registry("HEAD", f"/v2/app/blobs/{digest}")
    assert sorted(head.headers) == sorted(get.headers)


async def test_a_blob_of_many_pieces_arrives_whole(registry: Registry) -> None:
    data = DATA * 1500  # 3 MiB: more than is read at once
    digest = await registry.push_blob("app", data)
    assert (await registry("GET", f"/v2/app/blobs/{digest}")).body == data


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_unknown_blob_is_not_found(registry: Registry, method: str) -> None:
    """ "If the blob is not found in the repository, the response code MUST be `404 Not Found`." """
    await registry.push_blob("app", DATA)
    answer = await registry(method, f"/v2/app/blobs/{digest_of(b'nope')}")
    assert answer.status == 404
    if method == "GET":
        assert answer.code == "BLOB_UNKNOWN"


async def test_an_unknown_repository_is_named_as_such(registry: Registry) -> None:
    answer = await registry("GET", f"/v2/nobody/blobs/{digest_of(DATA)}")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_blob_is_seen_only_where_it_was_pushed(registry: Registry, method: str) -> None:
    digest = await registry.push_blob("one", DATA)
    await registry.push_blob("other", b"else")
    assert (await registry(method, f"/v2/other/blobs/{digest}")).status == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_blob_of_an_algorithm_unknown_here_is_not_found(
    registry: Registry, method: str
) -> None:
    await registry.push_blob("app", DATA)
    answer = await registry(method, f"/v2/app/blobs/md5:{'a' * 32}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("digest", ["sha256:short", "sha256:" + "g" * 64, "none"])
async def test_what_is_no_digest_is_refused(registry: Registry, digest: str) -> None:
    answer = await registry("GET", f"/v2/app/blobs/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_the_colon_of_a_digest_may_be_escaped(registry: Registry) -> None:
    digest = await registry.push_blob("app", DATA)
    answer = await registry("GET", f"/v2/app/blobs/{digest.replace(':', '%3A')}")
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_blob_is_not_sent_it_again(registry: Registry, method: str) -> None:
    digest = await registry.push_blob("app", DATA)
    known = {"If-None-Match": f'"{digest}"'}
    assert (await registry(method, f"/v2/app/blobs/{digest}", headers=known)).status == 304


async def test_who_has_a_blob_that_is_not_here_learns_so(registry: Registry) -> None:
    await registry.push_blob("app", DATA)
    absent = digest_of(b"nope")
    answer = await registry(
        "GET", f"/v2/app/blobs/{absent}", headers={"If-None-Match": f'"{absent}"'}
    )
    assert answer.status == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=0-0", 0, 0),
        ("bytes=-9999", 0, 2047),
    ],
)
async def test_a_range_is_sent_alone(
    registry: Registry, algorithm: str, asked: str, first: int, last: int
) -> None:
    """ "A registry SHOULD support the `Range` request header in accordance with RFC 9110." """
    digest = await registry.push_blob("app", DATA, algorithm)
    answer = await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert answer.status == 206
    assert answer.header("content-range") == f"bytes {first}-{last}/2048"
    assert answer.header("docker-content-digest") == digest
    assert answer.body == DATA[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"])
async def test_a_range_outside_of_the_blob_is_refused(registry: Registry, asked: str) -> None:
    """RFC 9110, 15.5.17: 416 "SHOULD generate a Content-Range header field specifying the current
    length of the selected representation"."""
    digest = await registry.push_blob("app", DATA)
    answer = await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.header("content-range")) == (416, "bytes */2048")


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=a-b", "bytes", "0-5"])
async def test_a_range_that_cannot_be_read_is_ignored(registry: Registry, asked: str) -> None:
    """RFC 9110, 14.2: "A server … MAY ignore the Range header field"; and it "MUST ignore" one
    with a unit it does not know."""
    digest = await registry.push_blob("app", DATA)
    answer = await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, DATA)


async def test_a_range_means_nothing_to_head(registry: Registry) -> None:
    """RFC 9110, 14.2: "A server MUST ignore a Range header field received with a request method
    that is unrecognized or for which range handling is not defined"; GET alone has it defined."""
    digest = await registry.push_blob("app", DATA)
    answer = await registry("HEAD", f"/v2/app/blobs/{digest}", headers={"Range": "bytes=0-9"})
    assert (answer.status, answer.header("content-length")) == (200, "2048")


async def test_a_range_of_nothing_is_all_of_it(registry: Registry) -> None:
    digest = await registry.push_blob("app", b"")
    answer = await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": "bytes=0-9"})
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(("matching", "status"), [(True, 206), (False, 200)])
async def test_if_range_guards_a_range(registry: Registry, matching: bool, status: int) -> None:
    """RFC 9110, 13.1.5: if the validator does not match, "the recipient SHOULD ignore the Range
    header field"."""
    digest = await registry.push_blob("app", DATA)
    validator = f'"{digest}"' if matching else '"other"'
    headers = {"Range": "bytes=0-9", "If-Range": validator}
    assert (await registry("GET", f"/v2/app/blobs/{digest}", headers=headers)).status == status


async def test_many_ranges_are_sent_as_parts_in_their_order(registry: Registry) -> None:
    """RFC 9110, 15.3.7.2: multiple parts are sent as `multipart/byteranges`, and each "MUST" have
    a Content-Range of its own."""
    digest = await registry.push_blob("app", DATA)
    answer = await registry(
        "GET", f"/v2/app/blobs/{digest}", headers={"Range": "bytes=10-19, 0-4,-3"}
    )
    assert answer.status == 206
    kind, _, boundary = (answer.header("content-type") or "").partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert boundary.isalnum()
    head, *parts, end = answer.body.split(f"--{boundary}".encode())
    assert (head, end) == (b"", b"--\r\n")
    assert [part.partition(b"\r\n\r\n")[::2] for part in parts] == [
        (f"\r\nContent-Type: application/octet-stream\r\n{where}".encode(), data + b"\r\n")
        for where, data in [
            ("Content-Range: bytes 10-19/2048", DATA[10:20]),
            ("Content-Range: bytes 0-4/2048", DATA[:5]),
            ("Content-Range: bytes 2045-2047/2048", DATA[-3:]),
        ]
    ]


async def test_too_many_ranges_are_refused_so_that_the_client_asks_for_fewer(
    registry: Registry,
) -> None:
    """podman halves the number of ranges after a 400, and gives up after anything else."""
    digest = await registry.push_blob("app", DATA)
    many = "bytes=" + ",".join(["0-0"] * 1025)
    assert (await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": many})).status == 400


async def test_overlapping_ranges_do_not_multiply_a_blob(registry: Registry) -> None:
    digest = await registry.push_blob("app", DATA)
    many = "bytes=" + ",".join(["0-"] * 100)
    answer = await registry("GET", f"/v2/app/blobs/{digest}", headers={"Range": many})
    assert (answer.status, answer.body) == (200, DATA)
