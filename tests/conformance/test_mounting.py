"""Distribution spec, "Mounting a blob from another repository": end-11."""

from __future__ import annotations

import pytest

from tests.asgi import Registry, digest_of

DATA = b"a blob that two repositories share"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("source", ["&from=one", ""], ids=["from", "anonymous"])
async def test_a_blob_can_be_mounted(registry: Registry, source: str, algorithm: str) -> None:
    """ "The response to a successful mount MUST be `201 Created`, and MUST contain the following
    header: `Location: <blob-location>`"; "the registry MAY treat the `from` parameter as
    optional"."""
    digest = await registry.push_blob("one", DATA, algorithm)
    answer = await registry("POST", f"/v2/two/blobs/uploads/?mount={digest}{source}")
    assert answer.status == 201
    assert answer.header("location") == f"/v2/two/blobs/{digest}"
    assert answer.header("docker-content-digest") == digest
    assert (await registry("GET", f"/v2/two/blobs/{digest}")).body == DATA


@pytest.mark.parametrize(
    "query",
    [
        f"mount={digest_of(b'absent')}&from=one",
        f"mount={digest_of(DATA)}&from=nobody",
        f"mount={digest_of(DATA)}&from=Not%20a/Name",
        f"mount={digest_of(b'absent')}",
        f"mount={digest_of(b'absent')}&from=one&origin=elsewhere",
    ],
)
async def test_what_cannot_be_mounted_is_uploaded(registry: Registry, query: str) -> None:
    """ "If a registry … is unable to mount the requested blob, it SHOULD return a `202`. This
    indicates that the upload session has begun"."""
    await registry.push_blob("one", DATA)
    location = await registry.start_upload("two", f"?{query}")
    assert location.startswith("/v2/two/blobs/uploads/")
    other = b"what is sent then"
    answer = await registry("PUT", f"{location}?digest={digest_of(other)}", body=other)
    assert answer.status == 201


async def test_a_mount_of_what_is_no_digest_is_refused(registry: Registry) -> None:
    answer = await registry("POST", "/v2/two/blobs/uploads/?mount=sha256:bad&from=one")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_a_mounted_blob_outlives_its_source(registry: Registry) -> None:
    digest = await registry.push_blob("one", DATA)
    await registry("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one")
    assert (await registry("DELETE", f"/v2/one/blobs/{digest}")).status == 202
    assert (await registry("GET", f"/v2/two/blobs/{digest}")).body == DATA
    assert (await registry("GET", f"/v2/one/blobs/{digest}")).status == 404
