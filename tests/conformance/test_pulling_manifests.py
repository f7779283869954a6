"""Distribution spec, "Pulling manifests" and "Checking if content exists": end-3."""

from __future__ import annotations

import pytest

from tests.asgi import IMAGE, INDEX, Registry, digest_of, image, index

MANY = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"
)


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_manifest_is_described_by_its_headers(
    registry: Registry, method: str, by: str
) -> None:
    """ "A successful response MUST contain the digest of the uploaded blob in the header
    `Docker-Content-Digest`"; for HEAD also "the size in bytes … in the header `Content-Length`"."""
    body = await registry.push_image("app", "v1")
    reference = "v1" if by == "tag" else digest_of(body)
    answer = await registry(method, f"/v2/app/manifests/{reference}")
    assert answer.status == 200
    assert answer.header("docker-content-digest") == digest_of(body)
    assert answer.header("content-length") == str(len(body))
    assert answer.header("content-type") == IMAGE
    assert answer.header("etag") == f'"{digest_of(body)}"'
    assert answer.body == (body if method == "GET" else b"")


async def test_the_bytes_are_those_that_were_pushed(registry: Registry) -> None:
    """ "The registry MUST store the manifest in the exact byte representation provided by the
    client." """
    body = b' {"layers" : [ ],\n\t"schemaVersion":2, "org.example.unknown": 1.50}\r\n '
    await registry.push_manifest("app", "odd", body)
    assert (await registry("GET", "/v2/app/manifests/odd")).body == body


async def test_a_tag_answers_in_the_algorithm_it_was_pushed_with(registry: Registry) -> None:
    body = image()
    digest = digest_of(body, "sha512")
    await registry.push_manifest("app", f"{digest}?tag=x", body)
    answer = await registry("HEAD", "/v2/app/manifests/x")
    assert answer.header("docker-content-digest") == digest


@pytest.mark.parametrize("accept", [None, "application/json", "text/plain;q=0", MANY])
async def test_accept_changes_nothing(registry: Registry, accept: str | None) -> None:
    """ "The `Content-Type` header SHOULD match what the client pushed as the manifest's
    `Content-Type`": there is nothing to choose from."""
    body = index()
    await registry.push_manifest("app", "list", body, INDEX)
    headers = {"Accept": accept} if accept else {}
    answer = await registry("GET", "/v2/app/manifests/list", headers=headers)
    assert (answer.status, answer.header("content-type"), answer.body) == (200, INDEX, body)


async def test_accept_may_come_in_many_lines(registry: Registry) -> None:
    """RFC 9110, 5.3: several lines are one list; Go sends a line for each type."""
    body = await registry.push_image("app")
    headers = [("Accept", INDEX), ("Accept", "text/html"), ("Accept", "*/*;q=0")]
    answer = await registry("GET", "/v2/app/manifests/latest", headers=headers)
    assert (answer.status, answer.header("content-type"), answer.body) == (200, IMAGE, body)


async def test_parameters_of_the_content_type_are_dropped(registry: Registry) -> None:
    """ "The registry SHOULD NOT include parameters on the `Content-Type` header." """
    await registry.push_manifest("app", "v1", image(), f"{IMAGE}; charset=utf-8")
    answer = await registry("GET", "/v2/app/manifests/v1")
    assert answer.header("content-type") == IMAGE


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", ["nope", digest_of(b"nope"), digest_of(b"nope", "sha512")])
async def test_an_unknown_manifest_is_not_found(
    registry: Registry, method: str, reference: str
) -> None:
    """ "If the manifest is not found in the repository, the response code MUST be
    `404 Not Found`." """
    await registry.push_image("app")
    answer = await registry(method, f"/v2/app/manifests/{reference}")
    assert answer.status == 404
    if method == "GET":
        assert answer.code == "MANIFEST_UNKNOWN"


async def test_an_unknown_repository_is_not_found(registry: Registry) -> None:
    """ "An attempt to pull a nonexistent repository MUST return response code `404 Not Found`." """
    answer = await registry("GET", "/v2/nobody/manifests/latest")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    "reference", ["-tag", ".INVALID_MANIFEST_NAME", "a" * 129, "md5:" + "a" * 32, ""]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_could_never_be_pushed_is_not_found(
    registry: Registry, method: str, reference: str
) -> None:
    """The conformance program of v1.1.1 asks for such a tag, and takes nothing but a 404."""
    await registry.push_image("app")
    answer = await registry(method, f"/v2/app/manifests/{reference}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("reference", ["sha256:baddigeststring", "sha256:" + "A" * 64, "a:b:c"])
async def test_what_is_neither_tag_nor_digest_is_refused(
    registry: Registry, reference: str
) -> None:
    """ "The `<tag-or-digest>` MUST NOT be in any other format." """
    await registry.push_image("app")
    answer = await registry("GET", f"/v2/app/manifests/{reference}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_a_blob_is_no_manifest(registry: Registry) -> None:
    digest = await registry.push_blob("app", image())
    assert (await registry("GET", f"/v2/app/manifests/{digest}")).status == 404


async def test_a_manifest_of_another_repository_is_not_found(registry: Registry) -> None:
    body = await registry.push_image("one")
    await registry.push_image("other", annotations={"a": "b"})
    assert (await registry("GET", f"/v2/other/manifests/{digest_of(body)}")).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_the_manifest_is_not_sent_it_again(registry: Registry, method: str) -> None:
    """RFC 9110, 13.1.2: "the origin server SHOULD … respond with the 304 (Not Modified)"."""
    body = await registry.push_image("app")
    known = {"If-None-Match": f'"x", W/"{digest_of(body)}"'}
    answer = await registry(method, "/v2/app/manifests/latest", headers=known)
    assert answer.status == 304
    assert answer.header("etag") == f'"{digest_of(body)}"'


async def test_who_has_an_older_manifest_is_sent_the_new_one(registry: Registry) -> None:
    old = await registry.push_image("app")
    new = await registry.push_image("app", annotations={"new": "yes"})
    known = {"If-None-Match": f'"{digest_of(old)}"'}
    answer = await registry("GET", "/v2/app/manifests/latest", headers=known)
    assert (answer.status, answer.body) == (200, new)
