"""Distribution spec, "Content Management": end-9 and end-10."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.filesystem.layout import Layout
from storage.records.sqlite import SQLite
from tests.asgi import INDEX, Registry, descriptor, digest_of, image, index

ABSENT = digest_of(b"absent")


async def test_a_deleted_tag_takes_nothing_with_it(registry: Registry) -> None:
    """ "Upon success, the registry MUST respond with a `202 Accepted` code"; "once deleted, a `GET`
    to `/v2/<name>/manifests/<tag>` will return a 404"."""
    body = await registry.push_image("app", "one")
    await registry.push_image("app", "two")
    assert (await registry("DELETE", "/v2/app/manifests/one")).status == 202
    assert (await registry("HEAD", "/v2/app/manifests/one")).status == 404
    assert (await registry("GET", "/v2/app/manifests/two")).body == body
    assert (await registry("GET", f"/v2/app/manifests/{digest_of(body)}")).body == body


async def test_a_deleted_manifest_takes_its_tags_with_it(registry: Registry) -> None:
    """ "Once deleted, a `GET` to `/v2/<name>/manifests/<digest>` and any tag pointing to that
    digest will return a 404." """
    body = await registry.push_image("app", "one")
    await registry.push_image("app", "two")
    await registry.push_image("app", "other", annotations={"is": "kept"})
    answer = await registry("DELETE", f"/v2/app/manifests/{digest_of(body)}")
    assert answer.status == 202
    for reference in ("one", "two", digest_of(body)):
        assert (await registry("GET", f"/v2/app/manifests/{reference}")).status == 404
    assert (await registry("GET", "/v2/app/tags/list")).json["tags"] == ["other"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/app/manifests/absent", "MANIFEST_UNKNOWN"),
        (f"/v2/app/manifests/{ABSENT}", "MANIFEST_UNKNOWN"),
        (f"/v2/app/blobs/{ABSENT}", "BLOB_UNKNOWN"),
        ("/v2/nobody/manifests/absent", "NAME_UNKNOWN"),
        (f"/v2/nobody/manifests/{ABSENT}", "NAME_UNKNOWN"),
        (f"/v2/nobody/blobs/{ABSENT}", "NAME_UNKNOWN"),
    ],
)
async def test_what_is_not_there_cannot_be_deleted(
    registry: Registry, path: str, code: str
) -> None:
    """ "If the repository does not exist, the response MUST return `404 Not Found`"; "if the blob
    is not found, a `404 Not Found` code MUST be returned"."""
    await registry.push_image("app")
    answer = await registry("DELETE", path)
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_deleted_blob_is_gone_at_once(registry: Registry, algorithm: str) -> None:
    """ "Upon success, the registry MUST respond with code `202 Accepted`." """
    digest = await registry.push_blob("app", b"data", algorithm)
    assert (await registry("DELETE", f"/v2/app/blobs/{digest}")).status == 202
    for method in ("HEAD", "GET", "DELETE"):
        assert (await registry(method, f"/v2/app/blobs/{digest}")).status == 404


async def test_a_blob_that_a_manifest_needs_can_be_deleted(registry: Registry) -> None:
    """Clients that clean up delete blobs before manifests."""
    await registry.push_image("app")
    assert (await registry("DELETE", f"/v2/app/blobs/{digest_of(b'{}')}")).status == 202
    assert (await registry("GET", "/v2/app/manifests/latest")).status == 200


async def test_an_index_and_what_it_lists_are_deleted_one_by_one(registry: Registry) -> None:
    """A `GET` to what was deleted "will return a 404", and to nothing else."""
    child = await registry.push_image("app", None)
    other = await registry.push_image("app", None, annotations={"the": "other"})
    parent = index(manifests=[descriptor(child), descriptor(other)])
    await registry.push_manifest("app", "list", parent, INDEX)
    assert (await registry("DELETE", f"/v2/app/manifests/{digest_of(child)}")).status == 202
    assert (await registry("GET", "/v2/app/manifests/list")).body == parent
    assert (await registry("DELETE", f"/v2/app/manifests/{digest_of(parent)}")).status == 202
    assert (await registry("GET", "/v2/app/manifests/list")).status == 404
    assert (await registry("GET", f"/v2/app/manifests/{digest_of(other)}")).body == other


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_what_another_repository_holds_stays_there(registry: Registry, by: str) -> None:
    """ "`<name>` is the namespace of the repository": a deletion is in one of them."""
    body = await registry.push_image("one", "v1")
    await registry.push_image("two", "v1")
    reference = "v1" if by == "tag" else digest_of(body)
    assert (await registry("DELETE", f"/v2/one/manifests/{reference}")).status == 202
    assert (await registry("DELETE", f"/v2/one/blobs/{digest_of(b'{}')}")).status == 202
    assert (await registry("GET", "/v2/one/manifests/v1")).status == 404
    assert (await registry("GET", "/v2/two/manifests/v1")).body == body
    assert (await registry("GET", f"/v2/two/blobs/{digest_of(b'{}')}")).body == b"{}"


async def test_a_repository_that_was_emptied_is_still_found(registry: Registry) -> None:
    """ "The list of tags MAY be empty if there are no tags on the repository." """
    body = await registry.push_image("app", "v1")
    await registry("DELETE", f"/v2/app/manifests/{digest_of(body)}")
    await registry("DELETE", f"/v2/app/blobs/{digest_of(b'{}')}")
    assert (await registry("GET", "/v2/app/tags/list")).json == {"name": "app", "tags": []}
    assert (await registry("GET", "/v2/app/manifests/v1")).code == "MANIFEST_UNKNOWN"
    assert (await registry("GET", f"/v2/app/blobs/{digest_of(b'{}')}")).code == "BLOB_UNKNOWN"


async def test_what_was_deleted_can_be_pushed_again(registry: Registry) -> None:
    body = await registry.push_image("app")
    await registry("DELETE", f"/v2/app/manifests/{digest_of(body)}")
    await registry("DELETE", f"/v2/app/blobs/{digest_of(b'{}')}")
    assert await registry.push_image("app") == body
    assert (await registry("GET", f"/v2/app/blobs/{digest_of(b'{}')}")).body == b"{}"


async def test_what_runs_cannot_be_deleted(registry: Registry, data: Path) -> None:
    body = image()
    await registry.push_manifest("app", "v1", body)
    database = await SQLite.open(Layout.open(data))
    await database.write(
        lambda c: c.execute(
            "INSERT INTO holds (repository_name, digest, holder, reason) VALUES (?, ?, ?, ?)",
            *("app", digest_of(body), "the app", "it is live"),
        )
    )
    await database.close()
    answer = await registry("DELETE", f"/v2/app/manifests/{digest_of(body)}")
    assert (answer.status, answer.code) == (409, "DENIED")
    assert "the app" in answer.json["errors"][0]["message"]
    assert (await registry("GET", "/v2/app/manifests/v1")).body == body
