"""Distribution spec, "Pushing a blob in chunks" and "Cancel a blob upload": end-5, 6, 13, 14."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.asgi import GONE, Answer, Registry, digest_of

DATA = bytes(range(250)) * 10
DIGEST = digest_of(DATA)


async def patch(registry: Registry, location: str, data: bytes, at: int | None = None) -> Answer:
    headers = {} if at is None else {"Content-Range": f"{at}-{at + len(data) - 1}"}
    return await registry("PATCH", location, body=data, headers=headers)


async def kept(registry: Registry, location: str) -> str | None:
    answer = await registry("GET", location)
    assert answer.status == 204
    return answer.header("range")


async def test_chunks_follow_one_another(registry: Registry) -> None:
    """ "The response for each successful chunk upload MUST be `202 Accepted`, and MUST have …
    `Location` … `Range: 0-<end-of-range>`", "the position of the last uploaded byte"."""
    location = await registry.start_upload("app")
    for at in (0, 1000, 2000):
        answer = await patch(registry, location, DATA[at : at + 1000], at)
        assert answer.status == 202
        assert answer.header("location") == location
        assert answer.header("range") == f"0-{min(at + 1000, 2500) - 1}"
        assert answer.header("docker-upload-uuid") == location.rpartition("/")[2]
    answer = await registry("PUT", f"{location}?digest={DIGEST}", headers={"Content-Length": "0"})
    assert answer.status == 201
    assert (await registry("GET", f"/v2/app/blobs/{DIGEST}")).body == DATA


async def test_a_stream_goes_to_the_end(registry: Registry) -> None:
    """Docker and podman send one chunk without Content-Length and Content-Range."""
    location = await registry.start_upload("app")
    answer = await registry("PATCH", location, body=[DATA[:1000], DATA[1000:]])
    assert (answer.status, answer.header("range")) == (202, "0-2499")
    answer = await registry("PUT", f"{location}?digest={DIGEST}")
    assert answer.status == 201


async def test_the_last_chunk_may_come_with_the_closing_put(registry: Registry) -> None:
    """ "The final chunk MAY be uploaded using a `PATCH` request or it MAY be uploaded in the
    closing `PUT` request." """
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:2000], 0)
    answer = await registry(
        "PUT",
        f"{location}?digest={DIGEST}",
        body=DATA[2000:],
        headers={"Content-Range": "2000-2499"},
    )
    assert answer.status == 201
    assert (await registry("GET", f"/v2/app/blobs/{DIGEST}")).body == DATA


@pytest.mark.parametrize("hint", ["", "?digest-algorithm=sha512"])
async def test_a_blob_of_another_algorithm_needs_no_hint(registry: Registry, hint: str) -> None:
    """ "When pushing a blob with a digest algorithm other than `sha256`, the post request SHOULD
    include the `digest-algorithm` parameter": a client may leave it out."""
    digest = digest_of(DATA, "sha512")
    location = await registry.start_upload("app", hint)
    await patch(registry, location, DATA)
    answer = await registry("PUT", f"{location}?digest={digest}")
    assert (answer.status, answer.header("docker-content-digest")) == (201, digest)


async def test_the_hint_does_not_bind(registry: Registry) -> None:
    location = await registry.start_upload("app", "?digest-algorithm=sha512")
    await patch(registry, location, DATA)
    assert (await registry("PUT", f"{location}?digest={DIGEST}")).status == 201


@pytest.mark.parametrize("name", ["md5", "blake3", "SHA256", "sha256%0A", "sha256%20", "sha-256"])
async def test_an_unknown_algorithm_is_refused_at_once(registry: Registry, name: str) -> None:
    """ "If the client … uses an unsupported algorithm, the registry SHOULD respond with a response
    code `400 Bad Request`"."""
    answer = await registry("POST", f"/v2/app/blobs/uploads/?digest-algorithm={name}")
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")


@pytest.mark.parametrize(("stored", "at"), [(0, 1000), (1000, 0), (1000, 999), (1000, 1001)])
async def test_a_chunk_out_of_order_is_refused_unread(
    registry: Registry, stored: int, at: int
) -> None:
    """ "If a chunk is uploaded out of order, the registry MUST respond with a `416 Requested Range
    Not Satisfiable` code." """
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:stored])
    answer = await patch(registry, location, DATA[at : at + 500], at)
    assert (answer.status, answer.code, answer.reads) == (416, "BLOB_UPLOAD_INVALID", 0)
    assert answer.header("location") == location
    assert answer.header("docker-upload-uuid") == location.rpartition("/")[2]
    assert answer.header("range") == (f"0-{stored - 1}" if stored else None)
    assert await kept(registry, location) == f"0-{max(stored - 1, 0)}"


async def test_a_closing_put_out_of_order_leaves_the_session_usable(registry: Registry) -> None:
    """ "If the final chunk is uploaded out of order, the registry MUST respond with a `416` code",
    and "a GET request may be used to retrieve the current valid offset", at that URL too."""
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:1000], 0)
    url = f"{location}?digest={DIGEST.replace(':', '%3A')}"
    wrong = await registry("PUT", url, body=DATA[2000:], headers={"Content-Range": "2000-2499"})
    assert (wrong.status, wrong.header("location")) == (416, location)
    status = await registry("GET", url)
    assert (status.status, status.header("range")) == (204, "0-999")
    assert status.header("location") == location
    right = await registry("PUT", url, body=DATA[1000:], headers={"Content-Range": "1000-2499"})
    assert right.status == 201


async def test_a_closing_put_with_the_wrong_digest_leaves_the_session_usable(
    registry: Registry,
) -> None:
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:2000], 0)
    wrong = await registry(
        "PUT",
        f"{location}?digest={digest_of(b'')}",
        body=DATA[2000:],
        headers={"Content-Range": "2000-2499"},
    )
    assert (wrong.status, wrong.code) == (400, "DIGEST_INVALID")
    assert (await registry("PUT", f"{location}?digest={DIGEST}")).status == 201


@pytest.mark.parametrize(
    "form",
    [
        *("bytes 0-99/2500", "bytes 0-99", "0-99/100", "99-0", "0-", "-99", "a-b", "0-99, 0-99"),
        *("0-99\n", " 0-99", "0 - 99", "+0-99", ""),
    ],
)
async def test_a_content_range_of_another_form_is_refused(registry: Registry, form: str) -> None:
    """ "It MUST match the following regular expression: `^[0-9]+-[0-9]+$`"."""
    location = await registry.start_upload("app")
    answer = await registry("PATCH", location, body=DATA[:100], headers={"Content-Range": form})
    assert (answer.status, answer.code, answer.reads) == (400, "BLOB_UPLOAD_INVALID", 0)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("length", [99, 101])
async def test_a_chunk_of_another_length_than_its_range_changes_nothing(
    registry: Registry, chunked: bool, length: int
) -> None:
    registry.chunked = chunked
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:100])
    answer = await registry(
        "PATCH", location, body=DATA[100 : 100 + length], headers={"Content-Range": "100-199"}
    )
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    assert answer.reads == (1 if chunked else 0)
    assert await kept(registry, location) == "0-99"


async def test_an_empty_chunk_is_none(registry: Registry) -> None:
    """The spec has no words for the range of nothing; docker reads `0-0` so."""
    location = await registry.start_upload("app")
    answer = await patch(registry, location, b"")
    assert (answer.status, answer.header("range")) == (202, "0-0")
    assert await kept(registry, location) == "0-0"


async def test_what_a_vanished_client_sent_is_kept(registry: Registry) -> None:
    location = await registry.start_upload("app")
    assert await registry.ask("PATCH", location, body=[DATA[:600], DATA[600:700], GONE]) is None
    assert await kept(registry, location) == "0-699"
    await patch(registry, location, DATA[700:], 700)
    assert (await registry("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_a_client_that_vanished_while_closing_can_close_again(registry: Registry) -> None:
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:500], 0)
    url = f"{location}?digest={DIGEST}"
    last = {"Content-Range": "500-2499"}
    assert await registry.ask("PUT", url, body=[DATA[500:600], GONE], headers=last) is None
    again = await registry("PUT", url, body=DATA[600:], headers={"Content-Range": "600-2499"})
    assert again.status == 201


@pytest.mark.parametrize("before", [0, 500])
async def test_a_closing_put_that_does_not_say_where_it_goes_can_be_sent_once_more(
    registry: Registry, before: int
) -> None:
    """regctl sends the whole blob again when the connection broke: what came of the first try
    must not stand before it."""
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:before])
    url = f"{location}?digest={DIGEST}"
    assert await registry.ask("PUT", url, body=[DATA[before : before + 100], GONE]) is None
    assert await kept(registry, location) == f"0-{max(before - 1, 0)}"
    assert (await registry("PUT", url, body=DATA[before:])).status == 201


async def test_a_closing_put_of_other_bytes_can_be_sent_once_more(registry: Registry) -> None:
    location = await registry.start_upload("app")
    url = f"{location}?digest={DIGEST}"
    assert (await registry("PUT", url, body=DATA + b"!")).status == 400
    assert await kept(registry, location) == "0-0"
    assert (await registry("PUT", url, body=DATA)).status == 201


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("how", ["never opened", "finished", "cancelled", "of another repository"])
async def test_a_session_that_is_not_there_is_not_found(
    registry: Registry, method: str, how: str
) -> None:
    """ "404 Not Found" is the failure of end-5, end-6, end-13 and end-14."""
    location = await registry.start_upload("app")
    match how:
        case "never opened":
            location += "x"
        case "finished":
            await registry("PUT", f"{location}?digest={DIGEST}", body=DATA)
        case "cancelled":
            await registry("DELETE", location)
        case _:
            location = location.replace("/v2/app/", "/v2/other/")
    body = DATA if method in ("PATCH", "PUT") else None
    answer = await registry(method, f"{location}?digest={DIGEST}", body=body)
    assert (answer.status, answer.code, answer.reads) == (404, "BLOB_UPLOAD_UNKNOWN", 0)


@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "PUT", "DELETE"])
async def test_a_session_is_not_touched_through_another_repository(
    registry: Registry, method: str
) -> None:
    """The session is "for the upload to follow", which is into one repository: whoever may push to
    another does nothing to it there, not even learn of it."""
    location = await registry.start_upload("app")
    await patch(registry, location, DATA[:1000])
    await registry.push_blob("other", b"so that it exists")
    there = f"{location.replace('/v2/app/', '/v2/other/')}?digest={digest_of(DATA[:1000])}"
    body = b"x" if method == "PATCH" else None
    assert (await registry(method, there, body=body)).status == 404
    assert await kept(registry, location) == "0-999"
    assert (await registry("HEAD", f"/v2/other/blobs/{digest_of(DATA[:1000])}")).status == 404
    await patch(registry, location, DATA[1000:], 1000)
    assert (await registry("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_every_location_of_a_session_goes_on_answering(registry: Registry) -> None:
    """ "The `<blob-push-location>` refers to the URL obtained from any preceding `POST` or `PATCH`
    request": also the oldest of them tells how far the newest got, and takes the next chunk."""
    locations = [await registry.start_upload("app")]
    for at in (0, 1000):
        answer = await patch(registry, locations[-1], DATA[at : at + 1000], at)
        locations.append(answer.header("location") or "")
        for location in locations:
            status = await registry("GET", location)
            assert (status.status, status.header("range")) == (204, f"0-{at + 999}")
            assert status.header("location")
    answer = await patch(registry, locations[0], DATA[2000:], 2000)
    assert (answer.status, answer.header("range")) == (202, "0-2499")
    answer = await registry("PUT", f"{locations[1]}?digest={DIGEST}")
    assert answer.status == 201


@pytest.mark.parametrize("stored", [b"", DATA], ids=["empty", "some"])
async def test_a_cancelled_session_takes_no_more_room(
    registry: Registry, data: Path, stored: bytes
) -> None:
    """ "Clients SHOULD send this request when aborting a blob upload, releasing server
    resources." """
    before = set((data / "uploads").iterdir())
    location = await registry.start_upload("app")
    await patch(registry, location, stored)
    [file] = set((data / "uploads").iterdir()) - before
    assert file.stat().st_size == len(stored)
    assert (await registry("DELETE", location)).status == 204
    assert set((data / "uploads").iterdir()) == before
    for method in ("HEAD", "GET", "PATCH", "PUT", "DELETE"):
        answer = await registry(method, f"{location}?digest={digest_of(stored)}")
        assert answer.status == 404
    assert (await registry("HEAD", f"/v2/app/blobs/{digest_of(stored)}")).status == 404


async def test_a_session_can_be_cancelled(registry: Registry) -> None:
    """ "If successful, the response SHOULD be a `204 No Content` response code." """
    location = await registry.start_upload("app")
    await patch(registry, location, DATA)
    assert (await registry("DELETE", location)).status == 204
    assert (await registry("HEAD", f"/v2/app/blobs/{DIGEST}")).status == 404


async def test_no_minimum_of_a_chunk_is_announced_and_one_byte_will_do(registry: Registry) -> None:
    answer = await registry("POST", "/v2/app/blobs/uploads/", headers={"Content-Length": "0"})
    assert answer.header("oci-chunk-min-length") is None
    assert (await patch(registry, answer.header("location") or "", b"x", 0)).status == 202
