"""Distribution spec, "Enabling the Referrers API" and "Referrers Tag Schema": upgrades.

A client that finds no referrers API keeps the list itself, as an index under a tag made of the
subject's digest. Such lists come here when a repository is moved, in any order with what they list.
"""

from __future__ import annotations

import json
import re
from itertools import permutations
from typing import Any

import pytest

from tests.asgi import (
    CONFIG,
    IMAGE,
    INDEX,
    Registry,
    descriptor,
    digest_of,
    image,
    index,
)

SUBJECT = image(annotations={"is": "referred to"})
SBOM = "application/vnd.example.sbom.v1+json"
ALGORITHMS = ["sha256", "sha512"]


def referrers_tag(digest: str) -> str:
    """The "Truncated Algorithm, a `-` character, and the Truncated Encoded section, with any
    characters not allowed … replaced with `-`"."""
    algorithm, _, encoded = digest.partition(":")
    return re.sub(r"[^a-zA-Z0-9._-]", "-", f"{algorithm[:32]}-{encoded[:64]}")


class Moved:
    """A repository as a client without the API leaves it: a subject, three referrers, a list."""

    def __init__(self, algorithm: str) -> None:
        self.subject = digest_of(SUBJECT, algorithm)
        named = {**descriptor(SUBJECT), "digest": self.subject}
        notes = {"org.example.note": "kept"}
        self.referrers = [
            image(subject=named, artifactType=SBOM, annotations=notes),
            image(subject=named),
            index(subject=named, annotations={"org.example.kind": "an index"}),
        ]
        self.tag = referrers_tag(self.subject)
        self.listed: list[dict[str, Any]] = [
            {**descriptor(self.referrers[0]), "artifactType": SBOM, "annotations": notes},
            {**descriptor(self.referrers[1]), "artifactType": CONFIG},
            {
                **descriptor(self.referrers[2], INDEX),
                "annotations": {"org.example.kind": "an index"},
            },
        ]
        self.listed.sort(key=lambda entry: str(entry["digest"]))

    async def push(self, registry: Registry, what: str) -> None:
        match what:
            case "subject":
                await pushed(registry, self.subject, SUBJECT)
            case "referrers":
                for body in self.referrers:
                    await pushed(registry, digest_of(body), body)
            case _:
                await pushed(registry, self.tag, index(manifests=self.listed))

    async def shown(self, registry: Registry) -> list[dict[str, Any]]:
        answer = await registry("GET", f"/v2/app/referrers/{self.subject}")
        assert answer.status == 200
        found: list[dict[str, Any]] = answer.json["manifests"]
        return found


async def pushed(registry: Registry, reference: str, body: bytes) -> None:
    media_type = json.loads(body)["mediaType"]
    assert (await registry.push_manifest("app", reference, body, media_type)).status == 201


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("order", list(permutations(["subject", "referrers", "list"])))
async def test_what_a_referrers_tag_lists_is_in_the_api_in_whatever_order_it_came(
    registry: Registry, order: tuple[str, ...], algorithm: str
) -> None:
    """ "Registries MUST include preexisting image manifests that are listed in an image index
    tagged with the referrers tag schema and have a valid `subject` field in the referrers API
    response"; and the tag "should return an image index matching the expected response of the
    referrers API", so each is there once and with the same descriptor."""
    moved = Moved(algorithm)
    for what in order:
        await moved.push(registry, what)
    assert await moved.shown(registry) == moved.listed


async def test_a_list_without_its_manifests_adds_nothing_until_they_come(
    registry: Registry,
) -> None:
    """ "Each descriptor is of an image manifest or index in the same `<name>` namespace"."""
    moved = Moved("sha256")
    await moved.push(registry, "list")
    assert await moved.shown(registry) == []
    await pushed(registry, digest_of(moved.referrers[1]), moved.referrers[1])
    assert [entry["digest"] for entry in await moved.shown(registry)] == [
        digest_of(moved.referrers[1])
    ]


async def test_what_is_new_is_listed_though_the_tag_does_not_name_it(registry: Registry) -> None:
    """ "After the referrers API is enabled, Registries MUST include all newly pushed image
    manifests with a valid `subject` field in the referrers API response." """
    moved = Moved("sha256")
    await moved.push(registry, "referrers")
    await pushed(registry, moved.tag, index(manifests=moved.listed[:1]))
    assert await moved.shown(registry) == moved.listed


async def test_what_a_list_names_without_a_subject_is_no_referrer(registry: Registry) -> None:
    """Only what has "a `subject` field that specifies the value of `<digest>`" is a referrer,
    whatever a client wrote into the list."""
    moved = Moved("sha256")
    stranger, other = image(annotations={"no": "subject"}), image(subject=descriptor(b"another"))
    for body in (stranger, other):
        await pushed(registry, digest_of(body), body)
    await pushed(registry, moved.tag, index(manifests=[descriptor(stranger), descriptor(other)]))
    assert await moved.shown(registry) == []


async def test_the_referrers_tag_is_a_tag_like_any_other(registry: Registry) -> None:
    """ "Maintaining the content of this tag is the responsibility of clients": it is listed,
    pulled byte for byte, and moved."""
    moved = Moved("sha256")
    for what in ("referrers", "list"):
        await moved.push(registry, what)
    assert (await registry("GET", "/v2/app/tags/list")).json["tags"] == [moved.tag]
    pulled = await registry("GET", f"/v2/app/manifests/{moved.tag}")
    assert (pulled.body, pulled.header("content-type")) == (index(manifests=moved.listed), INDEX)
    shorter = index(manifests=moved.listed[:1])
    await pushed(registry, moved.tag, shorter)
    assert (await registry("GET", f"/v2/app/manifests/{moved.tag}")).body == shorter
    assert await moved.shown(registry) == moved.listed


@pytest.mark.parametrize("by", ["tag", "digest"])
async def test_deleting_the_referrers_tag_takes_nothing_from_the_api(
    registry: Registry, by: str
) -> None:
    """ "Clients MAY also delete the referrers tag when it returns a valid image index." """
    moved = Moved("sha256")
    for what in ("subject", "referrers", "list"):
        await moved.push(registry, what)
    reference = moved.tag if by == "tag" else digest_of(index(manifests=moved.listed))
    assert (await registry("DELETE", f"/v2/app/manifests/{reference}")).status == 202
    assert (await registry("GET", f"/v2/app/manifests/{moved.tag}")).status == 404
    assert await moved.shown(registry) == moved.listed


async def test_a_deleted_referrer_leaves_the_api_and_not_the_list_of_a_client(
    registry: Registry,
) -> None:
    """The descriptor in the list is for clients to remove: "Push the updated referrers list"."""
    moved = Moved("sha256")
    for what in ("referrers", "list"):
        await moved.push(registry, what)
    gone = moved.listed[0]["digest"]
    assert (await registry("DELETE", f"/v2/app/manifests/{gone}")).status == 202
    assert await moved.shown(registry) == moved.listed[1:]
    pulled = await registry("GET", f"/v2/app/manifests/{moved.tag}")
    assert pulled.json["manifests"] == moved.listed


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (f"sha256:{'a' * 64}", f"sha256-{'a' * 64}"),
        (f"sha512:{'a' * 128}", f"sha512-{'a' * 64}"),
        (
            "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall"
            "+truncation:alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOf"
            "CharactersToExcerciseEncodedTruncation",
            "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacement"
            "AndLotsAndLot",
        ),
    ],
    ids=["sha256", "sha512", "another"],
)
async def test_every_referrers_tag_of_the_specification_can_be_kept(
    registry: Registry, digest: str, tag: str
) -> None:
    """ "The Referrers Tag associated with a Content Digest MUST match the Truncated Algorithm, a
    `-` character, and the Truncated Encoded section": these are the examples of its table."""
    assert referrers_tag(digest) == tag
    body = index(manifests=[descriptor(image())])
    assert (await registry.push_manifest("app", tag, body, INDEX)).status == 201
    assert (await registry("GET", f"/v2/app/manifests/{tag}")).body == body


async def test_two_subjects_with_the_same_referrers_tag_are_told_apart(registry: Registry) -> None:
    """A sha512 digest is "truncated to 64 characters" in the tag, and whole in the API."""
    one, other = (f"sha512:{'a' * 64}{end * 64}" for end in "bc")
    assert referrers_tag(one) == referrers_tag(other)
    bodies = [image(subject={**descriptor(b"x"), "digest": digest}) for digest in (one, other)]
    for body in bodies:
        await pushed(registry, digest_of(body), body)
    await pushed(registry, referrers_tag(one), index(manifests=list(map(descriptor, bodies))))
    for digest, body in zip((one, other), bodies, strict=True):
        answer = await registry("GET", f"/v2/app/referrers/{digest}")
        assert [entry["digest"] for entry in answer.json["manifests"]] == [digest_of(body)]


@pytest.mark.parametrize("media_type", [IMAGE, INDEX])
async def test_a_subject_of_an_algorithm_not_kept_here_is_left_to_its_client(
    registry: Registry, media_type: str
) -> None:
    """ "When pushing a manifest with the `subject` field and the `OCI-Subject` header was not set,
    the client MUST" keep the list itself; so the header is never sent for what we do not list."""
    make = image if media_type == IMAGE else index
    subject = {**descriptor(SUBJECT), "digest": f"blake3:{'a' * 64}"}
    answer = await registry.push_manifest("app", "x", make(subject=subject), media_type)
    assert (answer.status, answer.header("oci-subject")) == (201, None)
    asked = await registry("GET", f"/v2/app/referrers/{subject['digest']}")
    assert (asked.status, asked.code) == (400, "UNSUPPORTED")
