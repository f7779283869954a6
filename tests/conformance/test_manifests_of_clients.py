"""Distribution spec, "Pushing Manifests": what clients and the image-spec have of odd shapes.

Each was refused by some registry at some time, and somebody's build failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.asgi import CONFIG, IMAGE, INDEX, LAYER, Registry, descriptor, digest_of, image, index

CACHE = b"a layer in a build cache"
EMPTY = "application/vnd.oci.empty.v1+json"
BUILDKIT = "application/vnd.buildkit.cacheconfig.v0"
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"

MANIFESTS: list[tuple[str, bytes]] = [
    (
        "BuildKit: an attestation for a platform that nobody has",
        index(
            manifests=[
                {
                    **descriptor(b"an attestation"),
                    "platform": {"architecture": "unknown", "os": "unknown"},
                    "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
                }
            ]
        ),
    ),
    (
        "BuildKit: an index whose entries are the layers of a cache, pushed as blobs",
        index(manifests=[descriptor(CACHE, LAYER), descriptor(b"{}", BUILDKIT)]),
    ),
    ("an index of indexes", index(manifests=[descriptor(index(), INDEX)])),
    ("an empty index", index()),
    ("an image without layers", image()),
    ("an image without a config", b'{"schemaVersion":2,"layers":[]}'),
    ("a config that is no image's", image(config=descriptor(b"{}", "application/vnd.cncf.helm"))),
    (
        "the empty config, and data within the descriptor",
        image(
            artifactType="application/vnd.example",
            config={**descriptor(b"{}", EMPTY), "data": base64.b64encode(b"{}").decode()},
            layers=[{**descriptor(b"{}", EMPTY), "data": base64.b64encode(b"{}").decode()}],
        ),
    ),
    ("the same layer twice", image(layers=[descriptor(CACHE, LAYER)] * 2)),
    ("a layer that must not be distributed", image(layers=[descriptor(b"elsewhere", FOREIGN)])),
    ("a layer of a type that nobody knows", image(layers=[descriptor(CACHE, "x/y")])),
    ("fields that nobody knows", image(**{"org.example": {"deep": [1, None, 2.50]}})),
    ("a config that is a blob, and not JSON", image(config=descriptor(CACHE, CONFIG))),
]


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("body", [row[1] for row in MANIFESTS], ids=[row[0] for row in MANIFESTS])
async def test_it_is_kept_as_it_is(registry: Registry, body: bytes, by: str) -> None:
    """ "The registry MUST store the manifest in the exact byte representation provided by the
    client", and of what it refers to it needs nothing."""
    for blob in (CACHE, b"{}"):
        await registry.push_blob("app", blob)
    media_type = json.loads(body).get("mediaType", IMAGE)
    reference = "x" if by == "tag" else digest_of(body)
    answer = await registry.push_manifest("app", reference, body, media_type)
    assert (answer.status, answer.header("docker-content-digest")) == (201, digest_of(body))
    pulled = await registry("GET", f"/v2/app/manifests/{reference}")
    assert (pulled.body, pulled.header("content-type")) == (body, media_type)


async def test_the_type_and_the_body_say_the_same(registry: Registry) -> None:
    """ "If a manifest includes a `mediaType` field, clients MUST set the `Content-Type` header to
    the value specified by the `mediaType` field"; its parameters are ignored."""
    for media_type, status in (
        (INDEX, 400),
        ("application/json", 400),
        (f"{IMAGE};charset=utf-8", 201),
        (f"{IMAGE} ; a=b; c", 201),
    ):
        answer = await registry.push_manifest("app", "x", image(), media_type)
        assert answer.status == status, media_type
    head = await registry("HEAD", "/v2/app/manifests/x")
    assert head.header("content-type") == IMAGE


@pytest.mark.parametrize("body", [b'{"schemaVersion":1,"fsLayers":[],"signatures":[]}'])
async def test_schema_1_is_refused_in_words_that_have_a_client_send_another(
    registry: Registry, body: bytes
) -> None:
    """podman tries its next format after MANIFEST_INVALID, and only then."""
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    answer = await registry.push_manifest("app", "x", body, media_type)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


async def test_a_tag_that_is_moved_is_never_missing_and_never_half_there(
    registry: Registry,
) -> None:
    """cosign overwrites its tags all the time: whoever pulls meanwhile gets the one or the other,
    "with a response code that MUST be `200 OK`"."""
    bodies = [image(annotations={"at": str(at), "x": "y" * at * 50}) for at in range(20)]
    await registry.push_manifest("app", "moving", bodies[0])
    moving = True

    async def move() -> None:
        nonlocal moving
        for body in bodies * 3:
            assert (await registry.push_manifest("app", "moving", body)).status == 201
        moving = False

    async def pull(method: str) -> set[str]:
        seen: set[str] = set()
        while moving:
            answer = await registry(method, "/v2/app/manifests/moving")
            assert answer.status == 200
            digest = answer.header("docker-content-digest") or ""
            if method == "GET":
                assert digest_of(answer.body) == digest
            seen.add(digest)
            await asyncio.sleep(0)  # nothing else need wait in here
        return seen

    found: list[Any] = await asyncio.gather(move(), pull("GET"), pull("HEAD"))
    assert len(found[1]) > 1
    assert found[1] | found[2] <= set(map(digest_of, bodies))


async def test_tags_of_one_push_appear_together(registry: Registry) -> None:
    """Of "each accepted tag" the answer tells; nobody sees only some of them."""
    tags = [f"t{at:02}" for at in range(30)]
    await registry.push_image("app", None)
    body = image(annotations={"is": "tagged"})
    query = "&".join(f"tag={tag}" for tag in tags)
    pushing = asyncio.create_task(registry.push_manifest("app", f"{digest_of(body)}?{query}", body))
    seen = set()
    while not pushing.done():
        seen.add(len((await registry("GET", "/v2/app/tags/list")).json["tags"]))
        await asyncio.sleep(0)
    assert (await pushing).status == 201
    assert seen <= {0, 30}
    assert (await registry("GET", "/v2/app/tags/list")).json["tags"] == tags
