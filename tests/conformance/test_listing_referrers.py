"""Distribution spec, "Listing Referrers": end-12a and end-12b."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

import pytest

from storage.store import Store
from tests.asgi import CONFIG, IMAGE, INDEX, Registry, descriptor, digest_of, image, index

SUBJECT = b"what is referred to"
PATH = f"/v2/app/referrers/{digest_of(SUBJECT)}"
SBOM = "application/vnd.example.sbom.v1+json"
EMPTY: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}


async def refer(
    registry: Registry, *, make: Any = image, algorithm: str = "sha256", **fields: Any
) -> dict[str, Any]:
    """Push a referrer by digest; returns the descriptor that is expected of it."""
    body = make(subject=descriptor(SUBJECT), **fields)
    media_type = json.loads(body)["mediaType"]
    digest = digest_of(body, algorithm)
    answer = await registry.push_manifest("app", digest, body, media_type)
    assert answer.status == 201
    expected = {"mediaType": media_type, "digest": digest, "size": len(body)}
    for key in ("artifactType", "annotations"):
        if fields.get(key):
            expected[key] = fields[key]
    if make is image:
        expected.setdefault("artifactType", CONFIG)
    return expected


async def listed(registry: Registry, query: str = "") -> list[dict[str, Any]]:
    answer = await registry("GET", PATH + query)
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.json["manifests"]
    return found


@pytest.mark.parametrize("name", ["app", "nobody/pushed/here"])
async def test_nothing_refers_is_an_empty_index(registry: Registry, name: str) -> None:
    """ "If the registry supports the referrers API, the registry MUST NOT return a `404 Not Found`
    to a referrers API requests"; "the `Content-Type` header MUST be set to
    `application/vnd.oci.image.index.v1+json`"."""
    await registry.push_image("app")
    answer = await registry("GET", f"/v2/{name}/referrers/{digest_of(SUBJECT)}")
    assert (answer.status, answer.header("content-type"), answer.json) == (200, INDEX, EMPTY)
    assert answer.header("oci-filters-applied") is None


async def test_a_client_that_only_wants_to_know_is_told_yes(registry: Registry) -> None:
    """oras asks for the referrers of a digest of zeros, in a repository that may not exist yet."""
    answer = await registry("GET", f"/v2/nobody/referrers/sha256:{'0' * 64}")
    assert (answer.status, answer.header("content-type"), answer.json) == (200, INDEX, EMPTY)


@pytest.mark.parametrize(
    "digest",
    [
        *("sha256:bad", "latest", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "sha256:"),
        *(digest_of(SUBJECT) + end for end in ("%0A", "%20", "%2F", "%5C", "%00", "%C3%A9", "a")),
    ],
)
async def test_what_is_no_digest_is_refused(registry: Registry, digest: str) -> None:
    """ "If the request is invalid, such as a `<digest>` with an invalid syntax, a `400 Bad Request`
    MUST be returned." """
    answer = await registry("GET", f"/v2/app/referrers/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (image, {"artifactType": SBOM, "annotations": {"org.example.a": "b", "c": ""}}),
        (image, {"artifactType": ""}),
        (image, {}),
        (index, {"artifactType": SBOM}),
        (index, {"annotations": {"only": "annotations"}}),
        (index, {}),
    ],
)
async def test_a_referrer_is_described(registry: Registry, make: Any, fields: Any) -> None:
    """ "The descriptors MUST include an `artifactType` field"; if that is empty "in the image
    manifest, the value of `artifactType` MUST be set to the config descriptor `mediaType` value",
    and "in an index, the `artifactType` MUST be omitted"; "MUST include annotations"."""
    expected = await refer(registry, make=make, **fields)
    if not expected.get("artifactType"):
        expected.pop("artifactType", None)
    if make is image and not fields.get("artifactType"):
        expected["artifactType"] = CONFIG
    assert await listed(registry) == [expected]


async def test_a_referrer_has_the_digest_it_was_pushed_by(registry: Registry) -> None:
    expected = await refer(registry, algorithm="sha512")
    assert await listed(registry) == [expected]


async def test_only_this_repository_and_this_subject_count(registry: Registry) -> None:
    await registry.push_manifest("other", "x", image(subject=descriptor(SUBJECT)))
    await registry.push_manifest("app", "x", image(subject=descriptor(b"something else")))
    assert await listed(registry) == []


async def test_a_referrer_pushed_twice_or_tagged_is_listed_once(registry: Registry) -> None:
    expected = await refer(registry)
    await registry.push_manifest("app", "tag", image(subject=descriptor(SUBJECT)))
    assert await listed(registry) == [expected]


async def test_a_filter_leaves_its_own_type(registry: Registry) -> None:
    """ "If filtering is requested and applied, the response MUST include a header
    `OCI-Filters-Applied: artifactType`"."""
    await refer(registry)
    expected = await refer(registry, artifactType=SBOM)
    answer = await registry("GET", f"{PATH}?artifactType={SBOM.replace('+', '%2B')}")
    assert answer.json["manifests"] == [expected]
    assert answer.header("oci-filters-applied") == "artifactType"


async def test_a_plus_sign_need_not_be_escaped(registry: Registry) -> None:
    expected = await refer(registry, artifactType=SBOM)
    assert await listed(registry, f"?artifactType={SBOM}") == [expected]


async def test_a_filter_for_a_config_type_works_alike(registry: Registry) -> None:
    expected = await refer(registry)
    await refer(registry, artifactType=SBOM)
    assert await listed(registry, f"?artifactType={CONFIG.replace('+', '%2B')}") == [expected]


async def test_a_filter_that_nothing_passes_was_applied_all_the_same(registry: Registry) -> None:
    await refer(registry)
    answer = await registry("GET", f"{PATH}?artifactType=none")
    assert (answer.json, answer.header("oci-filters-applied")) == (EMPTY, "artifactType")


async def test_the_withdrawn_artifact_manifest_is_a_referrer_too(registry: Registry) -> None:
    """Its type was in a candidate of image-spec 1.1, and some clients still push it."""
    artifact = "application/vnd.oci.artifact.manifest.v1+json"
    body = json.dumps(
        {
            "mediaType": artifact,
            "artifactType": SBOM,
            "subject": descriptor(SUBJECT),
            "annotations": {"org.example.a": "b"},
        }
    ).encode()
    answer = await registry.push_manifest("app", digest_of(body), body, artifact)
    assert answer.header("oci-subject") == digest_of(SUBJECT)
    expected = {
        **descriptor(body, artifact),
        "artifactType": SBOM,
        "annotations": {"org.example.a": "b"},
    }
    assert await listed(registry) == [expected]


async def test_what_an_index_lists_counts_by_its_own_subject(registry: Registry) -> None:
    """ "Each descriptor is of an image manifest or index … with a `subject` field that specifies
    the value of `<digest>`": a child of a referrer is none by that, and may be one by itself."""
    own = await refer(registry, annotations={"has": "a subject"})
    without = await registry.push_image("app", None)
    children = [
        {key: own[key] for key in ("mediaType", "digest", "size")},
        descriptor(without),
    ]
    parent = await refer(registry, make=index, manifests=children)
    assert sorted(entry["digest"] for entry in await listed(registry)) == sorted(
        [own["digest"], parent["digest"]]
    )


async def test_referrers_of_a_referrer_are_its_own(registry: Registry) -> None:
    first = await refer(registry)
    second = image(subject={key: first[key] for key in ("mediaType", "digest", "size")})
    await registry.push_manifest("app", digest_of(second), second)
    assert await listed(registry) == [first]
    answer = await registry("GET", f"/v2/app/referrers/{first['digest']}")
    assert [entry["digest"] for entry in answer.json["manifests"]] == [digest_of(second)]


async def test_of_five_referrers_a_filter_finds_two_with_nothing_added(registry: Registry) -> None:
    """What the conformance program of v1.1.1 counts: five descriptors, each with one annotation."""
    pushed = [
        await refer(registry, artifactType=kind, annotations={"org.example.at": str(at)})
        for at, kind in enumerate(["a/x", "a/x", "a/y", "a/y"])
    ]
    pushed.append(await refer(registry, make=index, annotations={"org.example.at": "4"}))
    everything = await listed(registry)
    assert everything == sorted(pushed, key=lambda entry: str(entry["digest"]))
    assert [len(entry["annotations"]) for entry in everything] == [1] * 5
    assert len(await listed(registry, "?artifactType=a/y")) == 2


async def test_a_deleted_referrer_is_gone_at_once(registry: Registry) -> None:
    expected = await refer(registry)
    await registry("DELETE", f"/v2/app/manifests/{expected['digest']}")
    assert await listed(registry) == []


async def test_referrers_outlive_their_subject(registry: Registry) -> None:
    subject = await registry.push_image("app")
    body = image(subject=descriptor(subject))
    await registry.push_manifest("app", digest_of(body), body)
    await registry("DELETE", f"/v2/app/manifests/{digest_of(subject)}")
    answer = await registry("GET", f"/v2/app/referrers/{digest_of(subject)}")
    assert [found["digest"] for found in answer.json["manifests"]] == [digest_of(body)]


async def walk(registry: Registry, url: str) -> tuple[list[str], int]:
    """Digests on all pages, and how many pages there were."""
    found: list[str] = []
    pages = 0
    while True:
        answer = await registry("GET", url)
        found += [entry["digest"] for entry in answer.json["manifests"]]
        pages += 1
        link = answer.header("link")
        if link is None:
            return found, pages
        following = urljoin(url, link[1 : link.index(">")])
        assert ("artifactType=" in following) == ("artifactType=" in url)
        url = following


@pytest.mark.parametrize(("n", "pages"), [(1, 40), (7, 6), (16, 3), (40, 1), (100, 1)])
async def test_a_client_may_ask_for_smaller_pages(registry: Registry, n: int, pages: int) -> None:
    expected = [(await refer(registry, annotations={"n": str(at)}))["digest"] for at in range(40)]
    assert await walk(registry, f"{PATH}?n={n}") == (sorted(expected), pages)


@pytest.mark.parametrize("query", ["n=0", f"n=0&last={digest_of(b'')}"])
async def test_a_page_of_none_is_the_last_one(registry: Registry, query: str) -> None:
    for at in range(5):
        await refer(registry, annotations={"n": str(at)})
    answer = await registry("GET", f"{PATH}?{query}")
    assert (answer.json, answer.header("link")) == (EMPTY, None)


async def test_a_list_that_is_no_manifest_by_its_size_comes_in_pages(registry: Registry) -> None:
    """ "A `Link` header MUST be included in the response when the descriptor list cannot be
    returned in a single manifest", and the filter goes with it."""
    large = "x" * (1 << 20)
    expected = [
        (await refer(registry, artifactType=SBOM, annotations={str(at): large}))["digest"]
        for at in range(9)
    ]
    await refer(registry)
    answer = await registry("GET", PATH)
    assert len(answer.body) <= 4 << 20
    found, pages = await walk(registry, f"{PATH}?artifactType={SBOM}")
    assert (found, pages) == (sorted(expected), 3)


async def test_a_referrer_larger_than_a_page_is_not_the_end(store: Store) -> None:
    registry = Registry(store, manifest_limit=100)
    expected = []
    for at in range(3):
        body = image(subject=descriptor(SUBJECT), annotations={"a": str(at)})
        await Registry(store).push_manifest("app", digest_of(body), body, IMAGE)
        expected.append(digest_of(body))
    answer = await registry("GET", PATH)
    assert len(answer.json["manifests"]) == 1
    found, pages = await walk(registry, PATH)
    assert (found, pages) == (sorted(expected), 3)
