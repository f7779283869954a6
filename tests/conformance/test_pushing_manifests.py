"""Distribution spec, "Pushing Manifests": end-7a and end-7b."""

from __future__ import annotations

import asyncio
import json

import pytest

from storage.store import Store
from tests.asgi import (
    CONFIG,
    GONE,
    IMAGE,
    INDEX,
    LAYER,
    Registry,
    descriptor,
    digest_of,
    image,
    index,
)

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
BODY = image()
DIGEST = digest_of(BODY)
LIMIT = 4 << 20


@pytest.fixture(params=[False, True], ids=["length", "chunked"])
def registry(store: Store, request: pytest.FixtureRequest) -> Registry:
    """Bodies with a Content-Length, and without one: no rule depends on it."""
    made = Registry(store)
    made.chunked = request.param
    return made


@pytest.mark.parametrize("reference", ["v1", DIGEST, digest_of(BODY, "sha512")])
async def test_a_manifest_has_a_location_and_a_digest(registry: Registry, reference: str) -> None:
    """ "Upon a successful upload, the registry MUST return response code `201 Created`, and MUST
    have the following header: `Location`"; the digest in the answer "MUST be equal to the client
    provided digest"."""
    answer = await registry.push_manifest("team/app", reference, BODY)
    digest = DIGEST if reference == "v1" else reference
    assert answer.status == 201
    assert answer.header("location") == f"/v2/team/app/manifests/{digest}"
    assert answer.header("docker-content-digest") == digest
    pulled = await registry("GET", answer.header("location") or "")
    assert (pulled.body, pulled.header("content-type")) == (BODY, IMAGE)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (BODY, IMAGE),
        (index(), INDEX),
        (image(mediaType=DOCKER_IMAGE), DOCKER_IMAGE),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST),
        (json.dumps({"mediaType": ARTIFACT, "blobs": []}).encode(), ARTIFACT),
        (b'{"anything": "goes"}', "application/vnd.example.manifest.v1+json"),
        (b'{"layers": []}', "application/json"),
    ],
)
async def test_every_kind_of_manifest_is_taken(
    registry: Registry, body: bytes, media_type: str
) -> None:
    """ "The registry MUST store the manifest in the exact byte representation provided by the
    client", and no list says which types there may be."""
    assert (await registry.push_manifest("app", "x", body, media_type)).status == 201
    answer = await registry("GET", "/v2/app/manifests/x")
    assert (answer.header("content-type"), answer.body) == (media_type, body)


async def test_without_a_content_type_the_body_tells(registry: Registry) -> None:
    answer = await registry("PUT", "/v2/app/manifests/x", body=index())
    assert answer.status == 201
    assert (await registry("HEAD", "/v2/app/manifests/x")).header("content-type") == INDEX


@pytest.mark.parametrize(
    "body",
    [
        image(
            config=descriptor(b"absent config", CONFIG),
            layers=[descriptor(b"absent layer", LAYER)],
        ),
        index(manifests=[descriptor(b"absent image")]),
        image(subject=descriptor(b"absent subject")),
        image(layers=[{**descriptor(b"elsewhere", LAYER), "urls": ["https://example.com/x"]}]),
    ],
    ids=["sparse image", "sparse index", "subject", "foreign layer"],
)
async def test_what_a_manifest_refers_to_need_not_be_here(registry: Registry, body: bytes) -> None:
    """ "A registry MUST initially accept an otherwise valid manifest with a `subject` field that
    references a manifest that does not exist"; it MAY reject other gaps, and we do not."""
    media_type = json.loads(body)["mediaType"]
    assert (await registry.push_manifest("app", "x", body, media_type)).status == 201


@pytest.mark.parametrize("reference", ["v1", "digest"])
@pytest.mark.parametrize("make", [image, index])
async def test_a_subject_is_acknowledged(registry: Registry, make: object, reference: str) -> None:
    """ "A registry implementation that supports the referrers API MUST respond with the response
    header `OCI-Subject: <subject digest>`"."""
    assert callable(make)
    body = make(subject=descriptor(b"the subject"))
    reference = digest_of(body) if reference == "digest" else reference
    media_type = json.loads(body)["mediaType"]
    answer = await registry.push_manifest("app", reference, body, media_type)
    assert answer.header("oci-subject") == digest_of(b"the subject")


async def test_no_subject_no_header(registry: Registry) -> None:
    answer = await registry.push_manifest("app", "x", BODY)
    assert answer.header("oci-subject") is None
    assert answer.header("oci-tag") is None


@pytest.mark.parametrize(
    ("reference", "status", "code"),
    [
        ("sha256:baddigeststring", 400, "DIGEST_INVALID"),
        (digest_of(b"other"), 400, "DIGEST_INVALID"),
        (digest_of(b"other", "sha512"), 400, "DIGEST_INVALID"),
        ("md5:" + "a" * 32, 400, "UNSUPPORTED"),
        ("-x", 400, "NAME_INVALID"),
        ("a" * 129, 400, "NAME_INVALID"),
        (".hidden", 400, "NAME_INVALID"),
        ("x%0A", 400, "NAME_INVALID"),
    ],
)
async def test_a_reference_that_cannot_be_is_refused(
    registry: Registry, reference: str, status: int, code: str
) -> None:
    """ "`<tag-or-digest>` MUST be either a) a digest or b) a tag"; and the digest is the body's."""
    answer = await registry.push_manifest("app", reference, BODY)
    assert (answer.status, answer.code) == (status, code)
    assert (await registry("GET", f"/v2/app/manifests/{DIGEST}")).status == 404


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"", IMAGE),
        (b"no JSON", IMAGE),
        (b"[]", IMAGE),
        (image(schemaVersion=1), IMAGE),
        (BODY, INDEX),
        (image(manifests=[]), IMAGE),
        (b'{"schemaVersion":2,"layers":[],"layers":[]}', IMAGE),
        (image(mediaType="text/html"), "text/html"),
        (b"[" * 100_000, IMAGE),
        (json.dumps({"schemaVersion": 1, "fsLayers": []}).encode(), "application/json"),
    ],
)
async def test_what_is_no_manifest_is_refused(
    registry: Registry, body: bytes, media_type: str
) -> None:
    answer = await registry.push_manifest("app", "x", body, media_type)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


class TestItsSize:
    """ "A registry that enforces this limit SHOULD respond … with a response code `413 Payload Too
    Large`", and "at least 4 megabytes" are to be expected."""

    @staticmethod
    def manifest(size: int) -> bytes:
        empty = image(annotations={"a": ""})
        return image(annotations={"a": "x" * (size - len(empty))})

    async def test_may_be_the_limit(self, registry: Registry) -> None:
        body = self.manifest(LIMIT)
        assert len(body) == LIMIT
        assert (await registry.push_manifest("app", "large", body)).status == 201
        assert (await registry("GET", "/v2/app/manifests/large")).body == body

    async def test_may_not_be_more(self, registry: Registry) -> None:
        answer = await registry.push_manifest("app", "large", self.manifest(LIMIT + 1))
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
        assert answer.reads == (1 if registry.chunked else 0)

    async def test_is_counted_while_the_body_is_read(self, registry: Registry) -> None:
        endless = [b"x" * (1 << 20)] * 100
        answer = await registry("PUT", "/v2/app/manifests/large", body=endless)
        assert (answer.status, answer.reads) == (413, 5)
        assert answer.header("connection") == "close"


class TestTagParameters:
    """ "When pushing a manifest by digest, the registry MAY support the pushing of tags specified
    by addition of `tag` query parameters"."""

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_each_accepted_tag_is_told(self, registry: Registry, algorithm: str) -> None:
        """It "MUST include an `OCI-Tag` response header … for each accepted tag"."""
        digest = digest_of(BODY, algorithm)
        tags = [f"t{n}" for n in range(12)]
        query = "&".join(f"tag={tag}" for tag in tags)
        answer = await registry.push_manifest("app", f"{digest}?{query}", BODY)
        assert answer.status == 201
        assert (answer.header("oci-tag") or "").split(", ") == tags
        listed = await registry("GET", "/v2/app/tags/list")
        assert listed.json["tags"] == sorted(tags)
        for tag in tags:
            head = await registry("HEAD", f"/v2/app/manifests/{tag}")
            assert head.header("docker-content-digest") == digest

    async def test_too_many_are_refused_unread(self, registry: Registry) -> None:
        """It "MAY return a `414 Request-URI Too Long` status if too many tags are included"."""
        query = "&".join(f"tag=t{n}" for n in range(101))
        answer = await registry.push_manifest("app", f"{DIGEST}?{query}", BODY)
        assert (answer.status, answer.code, answer.reads) == (414, "UNSUPPORTED", 0)
        assert (await registry("GET", f"/v2/app/manifests/{DIGEST}")).status == 404

    @pytest.mark.parametrize("bad", ["-x", "", "a%2Fb", "a" * 129, "a%0A", "a%00"])
    async def test_a_bad_one_means_that_nothing_is_written(
        self, registry: Registry, bad: str
    ) -> None:
        answer = await registry.push_manifest("app", f"{DIGEST}?tag=good&tag={bad}", BODY)
        assert (answer.status, answer.reads) == (400, 0)
        assert (await registry("GET", f"/v2/app/manifests/{DIGEST}")).status == 404
        assert (await registry("GET", "/v2/app/manifests/good")).status == 404

    async def test_the_same_one_twice_is_once(self, registry: Registry) -> None:
        answer = await registry.push_manifest("app", f"{DIGEST}?tag=a&tag=a", BODY)
        assert answer.header("oci-tag") == "a"

    async def test_they_go_with_a_digest_only(self, registry: Registry) -> None:
        answer = await registry.push_manifest("app", "v1?tag=v2", BODY)
        assert (answer.status, answer.code) == (400, "UNSUPPORTED")
        assert (await registry("GET", "/v2/app/manifests/v1")).status == 404


async def test_a_tag_moves_and_what_it_left_stays(registry: Registry) -> None:
    old = await registry.push_image("app", "v1")
    new = await registry.push_image("app", "v1", annotations={"new": "yes"})
    assert (await registry("GET", "/v2/app/manifests/v1")).body == new
    assert (await registry("GET", f"/v2/app/manifests/{digest_of(old)}")).body == old


async def test_a_client_that_vanished_has_pushed_nothing(registry: Registry) -> None:
    assert await registry.ask("PUT", "/v2/app/manifests/x", body=[BODY[:20], GONE]) is None
    assert (await registry("GET", "/v2/app/manifests/x")).status == 404


async def test_a_body_in_a_content_encoding_is_refused_unread(registry: Registry) -> None:
    answer = await registry(
        "PUT", "/v2/app/manifests/x", body=BODY, headers={"Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.code, answer.reads) == (415, "UNSUPPORTED", 0)


@pytest.mark.parametrize(
    ("there", "headers", "status"),
    [
        (False, {"If-None-Match": "*"}, 201),
        (True, {"If-None-Match": "*"}, 412),
        (False, {"If-Match": "*"}, 412),
        (True, {"If-Match": "*"}, 201),
        (True, {"If-Match": f'"{DIGEST}"'}, 201),
        (True, {"If-Match": f'"{digest_of(b"older")}"'}, 412),
        (True, {"If-Match": f'W/"{DIGEST}"'}, 412),
        (True, {"If-None-Match": f'"{DIGEST}"'}, 412),
        (True, {"If-None-Match": f'"{digest_of(b"older")}"'}, 201),
    ],
)
async def test_a_conditional_push_is_done_only_on_its_condition(
    registry: Registry, there: bool, headers: dict[str, str], status: int
) -> None:
    """ "Clients MAY use a conditional HTTP push for registries that support ETag conditions to
    avoid conflicts with other clients." """
    if there:
        await registry.push_manifest("app", "x", BODY)
    new = image(annotations={"new": "yes"})
    answer = await registry("PUT", "/v2/app/manifests/x", body=new, headers=headers)
    assert answer.status == status
    pulled = await registry("GET", "/v2/app/manifests/x")
    assert (pulled.body == new) == (status == 201)


async def test_of_conditional_pushes_at_once_only_one_is_done(registry: Registry) -> None:
    """All of them are told that the tag is free before any of them is kept."""
    bodies = [image(annotations={"number": str(number)}) for number in range(8)]
    answers = await asyncio.gather(
        *(
            registry("PUT", "/v2/app/manifests/x", body=body, headers={"If-None-Match": "*"})
            for body in bodies
        )
    )
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [201, *[412] * 7]
    assert (await registry("GET", "/v2/app/manifests/x")).body == bodies[statuses.index(201)]


class TestTheSignal:
    """What deploys is told that a tag moved, and nothing else."""

    async def test_is_given_for_a_tag(self, registry: Registry) -> None:
        await registry.push_manifest("app", "v1", BODY)
        assert registry.moves == 1

    async def test_is_given_once_for_many_tags(self, registry: Registry) -> None:
        await registry.push_manifest("app", f"{DIGEST}?tag=a&tag=b", BODY)
        assert registry.moves == 1

    async def test_is_not_given_without_a_tag(self, registry: Registry) -> None:
        await registry.push_manifest("app", DIGEST, BODY)
        assert registry.moves == 0

    async def test_is_not_given_for_what_was_refused(self, registry: Registry) -> None:
        await registry.push_manifest("app", "v1", b"no manifest")
        assert registry.moves == 0

    @pytest.mark.parametrize("reference", ["v1", DIGEST])
    async def test_is_given_for_a_deletion(self, registry: Registry, reference: str) -> None:
        await registry.push_manifest("app", "v1", BODY)
        await registry("DELETE", f"/v2/app/manifests/{reference}")
        assert registry.moves == 2
