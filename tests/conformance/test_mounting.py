"""Distribution spec, "Mounting a blob from another repository": end-11."""

from __future__ import annotations

from pathlib import Path

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
        f"mount={digest_of(DATA)}&from=one%0A",
        f"mount={digest_of(DATA)}&from=one/",
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


async def test_a_source_outlives_what_was_mounted_from_it(registry: Registry) -> None:
    """Deleting is "from the repository": `<name>` is the namespace of one of them."""
    digest = await registry.push_blob("one", DATA)
    await registry("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one")
    assert (await registry("DELETE", f"/v2/two/blobs/{digest}")).status == 202
    assert (await registry("GET", f"/v2/one/blobs/{digest}")).body == DATA


@pytest.mark.parametrize("source", ["&from=one", ""], ids=["from", "anonymous"])
async def test_what_was_deleted_everywhere_cannot_be_mounted(
    registry: Registry, source: str
) -> None:
    """The bytes may still be there, and are nobody's."""
    digest = await registry.push_blob("one", DATA)
    await registry("DELETE", f"/v2/one/blobs/{digest}")
    await registry.start_upload("two", f"?mount={digest}{source}")
    assert (await registry("GET", f"/v2/two/blobs/{digest}")).status == 404


async def test_a_blob_can_be_mounted_where_it_is_already(registry: Registry) -> None:
    digest = await registry.push_blob("one", DATA)
    for source in ("one", "two"):
        answer = await registry("POST", f"/v2/one/blobs/uploads/?mount={digest}&from={source}")
        assert answer.status == (201 if source == "one" else 202)
    assert (await registry("GET", f"/v2/one/blobs/{digest}")).body == DATA


async def test_a_mount_copies_nothing_and_opens_no_session(registry: Registry, data: Path) -> None:
    """ "It can be mounted into a different repository": there are no bytes to move."""
    digest = await registry.push_blob("one", DATA)
    before = {path for path in data.rglob("*") if "records" not in path.name}
    answer = await registry("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one")
    assert answer.status == 201
    assert {path for path in data.rglob("*") if "records" not in path.name} == before


async def test_a_session_that_nobody_wanted_can_be_cancelled(registry: Registry) -> None:
    """podman cancels what a mount that did not succeed has opened."""
    location = await registry.start_upload("two", f"?mount={digest_of(b'absent')}&from=one")
    assert (await registry("DELETE", location)).status == 204
    assert (await registry("GET", location)).status == 404
