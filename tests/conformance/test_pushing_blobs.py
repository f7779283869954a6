"""Distribution spec, "Pushing a blob monolithically": end-4a, end-4b, end-6."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage.store import Store
from tests.asgi import GONE, Registry, digest_of

DATA = b"some bytes of a layer" * 100
SHA256 = digest_of(DATA)
SHA512 = digest_of(DATA, "sha512")


@pytest.fixture(params=[False, True], ids=["length", "chunked"])
def registry(store: Store, request: pytest.FixtureRequest) -> Registry:
    """Bodies with a Content-Length, and without one: no rule depends on it."""
    made = Registry(store)
    made.chunked = request.param
    return made


async def test_a_session_has_a_location_of_its_own(registry: Registry) -> None:
    """ "Upon success, the response MUST have a code of `202 Accepted`, and MUST include …
    `Location`", with "a UUID representing a unique session ID"."""
    one, other = await registry.start_upload("a/b"), await registry.start_upload("a/b")
    assert one != other
    assert one.startswith("/v2/a/b/blobs/uploads/")
    assert len(one.removeprefix("/v2/a/b/blobs/uploads/")) >= 22


async def test_a_session_can_be_opened_without_the_slash(registry: Registry) -> None:
    answer = await registry("POST", "/v2/app/blobs/uploads")
    assert answer.status == 202
    assert (answer.header("location") or "").startswith("/v2/app/blobs/uploads/")


async def test_a_session_names_itself_for_docker(registry: Registry) -> None:
    answer = await registry("POST", "/v2/app/blobs/uploads/")
    uuid = answer.header("docker-upload-uuid")
    assert answer.header("location") == f"/v2/app/blobs/uploads/{uuid}"
    assert answer.header("range") == "0-0"


@pytest.mark.parametrize("digest", [SHA256, SHA512], ids=["sha256", "sha512"])
async def test_post_then_put_makes_a_blob(registry: Registry, digest: str) -> None:
    """ "Upon successful completion of the request, the response MUST have code `201 Created` and
    MUST have the following header: `Location: <blob-location>`, … a pullable blob URL"."""
    location = await registry.start_upload("app")
    answer = await registry("PUT", f"{location}?digest={digest.replace(':', '%3A')}", body=DATA)
    assert answer.status == 201
    assert answer.header("location") == f"/v2/app/blobs/{digest}"
    assert answer.header("docker-content-digest") == digest
    assert (await registry("GET", f"/v2/app/blobs/{digest}")).body == DATA


@pytest.mark.parametrize("digest", [SHA256, SHA512], ids=["sha256", "sha512"])
async def test_a_single_post_makes_a_blob(registry: Registry, digest: str) -> None:
    """ "Successful completion of the request MUST return a `201 Created` and MUST include the
    following header: `Location: <blob-location>`"."""
    answer = await registry("POST", f"/v2/app/blobs/uploads/?digest={digest}", body=DATA)
    assert answer.status == 201
    assert answer.header("location") == f"/v2/app/blobs/{digest}"
    assert answer.header("docker-content-digest") == digest
    assert (await registry("GET", f"/v2/app/blobs/{digest}")).body == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_the_empty_blob_can_be_pushed_either_way(registry: Registry, algorithm: str) -> None:
    digest = digest_of(b"", algorithm)
    once = await registry("POST", f"/v2/one/blobs/uploads/?digest={digest}", body=b"")
    location = await registry.start_upload("two")
    twice = await registry("PUT", f"{location}?digest={digest}", body=b"")
    assert (once.status, twice.status) == (201, 201)
    assert (await registry("HEAD", f"/v2/two/blobs/{digest}")).header("content-length") == "0"


async def test_a_digest_without_its_bytes_opens_a_session(registry: Registry) -> None:
    location = await registry.start_upload("app", f"?digest={SHA256}")
    assert (await registry("HEAD", f"/v2/app/blobs/{SHA256}")).status == 404
    answer = await registry("PUT", f"{location}?digest={SHA256}", body=DATA)
    assert answer.status == 201


@pytest.mark.parametrize("pieces", [[], [b""], [b"", b""]])
async def test_a_digest_whose_bytes_do_not_come_is_never_kept(
    registry: Registry, pieces: list[bytes]
) -> None:
    """ "The `<digest>` MUST match the blob's digest", and no bytes are the empty blob."""
    answer = await registry("POST", f"/v2/app/blobs/uploads/?digest={SHA256}", body=pieces)
    assert answer.status in (202, 400)
    assert (await registry("HEAD", f"/v2/app/blobs/{SHA256}")).status == 404


async def test_the_digest_outweighs_the_hint(registry: Registry) -> None:
    """The hint is "the algorithm the registry should use", and a digest names it as well."""
    path = f"/v2/app/blobs/uploads/?digest-algorithm=sha256&digest={SHA512}"
    answer = await registry("POST", path, body=DATA)
    assert (answer.status, answer.header("docker-content-digest")) == (201, SHA512)


async def test_a_repository_begins_with_its_first_blob_not_with_a_session(
    registry: Registry,
) -> None:
    """Nothing has to be set up for a push; and who only began one has made nothing."""
    location = await registry.start_upload("fresh")
    assert (await registry("GET", "/v2/fresh/tags/list")).code == "NAME_UNKNOWN"
    assert (await registry("GET", "/v2/_catalog")).json == {"repositories": []}
    assert (await registry("PUT", f"{location}?digest={SHA256}", body=DATA)).status == 201
    assert (await registry("GET", "/v2/fresh/tags/list")).json == {"name": "fresh", "tags": []}
    assert (await registry("GET", "/v2/_catalog")).json == {"repositories": ["fresh"]}


async def test_the_same_blob_can_be_pushed_by_many_at_once(registry: Registry) -> None:
    """ "If process A and B upload the same layer at the same time, both operations will proceed and
    the first to complete will be stored in the registry." """
    locations = [await registry.start_upload(name) for name in ("one", "two", "two")]
    answers = await asyncio.gather(
        *(registry("PUT", f"{location}?digest={SHA256}", body=DATA) for location in locations),
        *(
            registry("POST", f"/v2/{name}/blobs/uploads/?digest={SHA256}", body=DATA)
            for name in ("one", "two")
        ),
    )
    assert [answer.status for answer in answers] == [201] * 5
    for name in ("one", "two"):
        assert (await registry("GET", f"/v2/{name}/blobs/{SHA256}")).body == DATA


@pytest.mark.parametrize(
    "digest",
    [digest_of(b"other"), digest_of(b"other", "sha512"), "sha256:bad", "md5:" + "a" * 32, ""],
    ids=["mismatch", "mismatch sha512", "malformed", "unsupported", "blank"],
)
class TestABadDigest:
    """ "If the client provided digest is invalid or uses an unsupported algorithm, the registry
    SHOULD respond with a response code `400 Bad Request`"."""

    async def test_ends_a_single_post(self, registry: Registry, digest: str) -> None:
        answer = await registry("POST", f"/v2/app/blobs/uploads/?digest={digest}", body=DATA)
        assert answer.status == 400
        assert answer.code in ("DIGEST_INVALID", "UNSUPPORTED")
        assert (await registry("GET", f"/v2/app/blobs/{SHA256}")).status == 404

    async def test_ends_post_then_put(self, registry: Registry, digest: str) -> None:
        location = await registry.start_upload("app")
        answer = await registry("PUT", f"{location}?digest={digest}", body=DATA)
        assert answer.status == 400
        assert answer.code in ("DIGEST_INVALID", "UNSUPPORTED")
        assert (await registry("GET", f"/v2/app/blobs/{SHA256}")).status == 404


async def test_a_put_without_a_digest_is_refused_and_the_session_lives(registry: Registry) -> None:
    location = await registry.start_upload("app")
    answer = await registry("PUT", location, body=DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await registry("PUT", f"{location}?digest={SHA256}", body=DATA)).status == 201


async def test_a_mismatch_leaves_no_blob_under_either_name(registry: Registry) -> None:
    wrong = digest_of(b"other")
    location = await registry.start_upload("app")
    assert (await registry("PUT", f"{location}?digest={wrong}", body=DATA)).status == 400
    assert (await registry("HEAD", f"/v2/app/blobs/{wrong}")).status == 404
    assert (await registry("HEAD", f"/v2/app/blobs/{SHA256}")).status == 404


async def test_the_same_blob_can_be_pushed_again(registry: Registry) -> None:
    """ "Even in the case where both uploads are accepted, the registry may securely only store one
    copy"."""
    await registry.push_blob("app", DATA)
    await registry.push_blob("app", DATA)
    assert (await registry("GET", f"/v2/app/blobs/{SHA256}")).body == DATA


async def test_parameters_that_nobody_knows_are_ignored(registry: Registry) -> None:
    """ "The `<blob-push-location>` MAY contain critical query parameters." """
    location = await registry.start_upload("app", "?ns=docker.io&origin=x")
    answer = await registry("PUT", f"{location}?_state=x&ns=y&digest={SHA256}", body=DATA)
    assert answer.status == 201


@pytest.mark.parametrize("path", ["/v2/app/blobs/uploads/?digest=" + SHA256, "session"])
async def test_a_body_in_a_content_encoding_is_refused_unread(
    registry: Registry, path: str
) -> None:
    """RFC 9110, 15.5.16: 415 for "the indicated … Content-Encoding"."""
    method = "POST"
    if path == "session":
        method, path = "PUT", f"{await registry.start_upload('app')}?digest={SHA256}"
    answer = await registry(method, path, body=DATA, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.code, answer.reads) == (415, "UNSUPPORTED", 0)


async def test_a_client_that_vanishes_in_a_single_post_leaves_nothing(
    registry: Registry, data: Path
) -> None:
    """Nobody was told of a session, so nobody could go on with it."""
    before = set((data / "uploads").iterdir())
    path = f"/v2/app/blobs/uploads/?digest={SHA256}"
    assert await registry.ask("POST", path, body=[DATA[:50], GONE]) is None
    assert (await registry("HEAD", f"/v2/app/blobs/{SHA256}")).status == 404
    assert set((data / "uploads").iterdir()) == before


async def test_a_single_post_that_is_refused_leaves_nothing(registry: Registry, data: Path) -> None:
    before = set((data / "uploads").iterdir())
    path = f"/v2/app/blobs/uploads/?digest={digest_of(b'other')}"
    assert (await registry("POST", path, body=DATA)).status == 400
    assert set((data / "uploads").iterdir()) == before


class TestALimit:
    """An operator may want one; the specification has none."""

    @pytest.fixture
    def registry(self, registry: Registry) -> Registry:
        made = Registry(registry.store, blob_limit=len(DATA))
        made.chunked = registry.chunked
        return made

    async def test_holds_for_a_single_post(self, registry: Registry) -> None:
        more = DATA + b"x"
        path = f"/v2/app/blobs/uploads/?digest={digest_of(more)}"
        answer = await registry("POST", path, body=more)
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
        assert answer.reads == (1 if registry.chunked else 0)

    async def test_holds_for_all_chunks_together(self, registry: Registry) -> None:
        location = await registry.start_upload("app")
        assert (await registry("PATCH", location, body=DATA[:-10])).status == 202
        answer = await registry("PATCH", location, body=DATA[:11])
        assert answer.status == 413
        assert answer.reads == (1 if registry.chunked else 0)
        assert (await registry("PATCH", location, body=DATA[-10:])).status == 202
        assert (await registry("PUT", f"{location}?digest={SHA256}")).status == 201

    async def test_is_reached_by_a_blob_that_is_taken(self, registry: Registry) -> None:
        await registry.push_blob("app", DATA)
        assert (await registry("GET", f"/v2/app/blobs/{SHA256}")).body == DATA
