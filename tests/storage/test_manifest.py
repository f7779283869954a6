"""Image-spec manifest.md, image-index.md, descriptor.md; and the ways to make readers disagree."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import SHA256, SHA512
from storage.errors import DigestMismatch, ManifestInvalid
from storage.manifest import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    OCI_ARTIFACT,
    OCI_IMAGE,
    OCI_INDEX,
    Manifest,
)
from tests.storage.content import patient

DIGEST = str(SHA256.digest(b"{}"))
OTHER = "application/vnd.example.thing.v1+json"
LAYER: dict[str, Any] = {"mediaType": "a/layer", "digest": DIGEST, "size": 2}
CONFIG: dict[str, Any] = {"mediaType": "a/config", "digest": DIGEST, "size": 2}
IMAGE: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_IMAGE,
    "config": CONFIG,
    "layers": [LAYER],
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [LAYER]}


def parse(content: Any, content_type: str | None = None) -> Manifest:
    return Manifest.parse(json.dumps(content).encode(), content_type=content_type)


# What is kept


def test_an_image_is_read_with_all_that_it_names() -> None:
    manifest = parse(IMAGE | {"subject": LAYER, "annotations": {"a": "b"}})
    assert manifest.media_type == OCI_IMAGE
    assert manifest.config is not None
    assert manifest.config.media_type == "a/config"
    assert [layer.size for layer in manifest.layers] == [2]
    assert manifest.subject is not None
    assert str(manifest.subject.digest) == DIGEST
    assert manifest.annotations == {"a": "b"}


def test_an_index_is_read_with_all_that_it_names() -> None:
    manifest = parse(INDEX)
    assert [str(child.digest) for child in manifest.manifests] == [DIGEST]
    assert manifest.layers == ()


def test_an_artifact_manifest_has_blobs_for_layers() -> None:
    manifest = parse({"mediaType": OCI_ARTIFACT, "artifactType": "a/b", "blobs": [LAYER]})
    assert [layer.media_type for layer in manifest.layers] == ["a/layer"]


def test_the_bytes_are_kept_as_they_were_sent() -> None:
    body = b' { "schemaVersion" : 2 , "layers":[ ] , "unknown": [1e3, "\\u00e9"] }\n'
    manifest = Manifest.parse(body, content_type=OCI_IMAGE)
    assert manifest.body == body
    assert manifest.digest == SHA256.digest(body)


def test_a_manifest_pushed_by_a_digest_has_that_digest() -> None:
    body = json.dumps(IMAGE).encode()
    assert Manifest.parse(body, digest=SHA512.digest(body)).digest == SHA512.digest(body)


def test_a_body_that_is_not_what_its_digest_names_is_refused() -> None:
    with pytest.raises(DigestMismatch):
        Manifest.parse(json.dumps(IMAGE).encode(), digest=SHA256.digest(b"other"))


LENIENT = [
    (IMAGE | {"layers": []}, "no layers"),
    (INDEX | {"manifests": []}, "no manifests"),
    ({"schemaVersion": 2, "mediaType": OCI_IMAGE, "layers": []}, "no config"),
    (IMAGE | {"somethingNew": {"Layers": []}}, "unknown fields, with any keys in them"),
    (IMAGE | {"subject": None, "annotations": None}, "null for absent"),
    (IMAGE | {"artifactType": ""}, "an empty string for absent"),
    (IMAGE | {"config": CONFIG | {"data": "e30="}}, "embedded data"),
    (INDEX | {"manifests": [LAYER | {"platform": {"os": "linux"}}]}, "a platform"),
    (IMAGE | {"layers": [LAYER | {"digest": "blake3:" + "0" * 64}]}, "an algorithm not kept here"),
]


@pytest.mark.parametrize("content", [c for c, _ in LENIENT], ids=[reason for _, reason in LENIENT])
def test_what_clients_send_is_taken(content: Any) -> None:
    parse(content)


@pytest.mark.parametrize(
    "layer",
    [
        LAYER | {"urls": ["https://example.org/layer"]},
        LAYER | {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
        LAYER | {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"},
    ],
    ids=["urls", "foreign", "nondistributable"],
)
def test_a_layer_that_need_not_be_pushed_is_known_as_such(layer: Any) -> None:
    assert [found.elsewhere for found in parse(IMAGE | {"layers": [layer, LAYER]}).layers] == [
        True,
        False,
    ]


TYPES = [
    (IMAGE, None, OCI_IMAGE, "the body alone"),
    (IMAGE, OCI_IMAGE, OCI_IMAGE, "both, alike"),
    (IMAGE, f"{OCI_IMAGE}; charset=utf-8", OCI_IMAGE, "a parameter"),
    (IMAGE, OCI_IMAGE.upper(), OCI_IMAGE, "types have no case"),
    ({"schemaVersion": 2, "layers": []}, DOCKER_IMAGE, DOCKER_IMAGE, "the header alone"),
    ({"schemaVersion": 2, "manifests": []}, DOCKER_LIST, DOCKER_LIST, "the header alone, a list"),
    ({"schemaVersion": 2, "layers": []}, None, OCI_IMAGE, "neither: the shape"),
    ({"schemaVersion": 2, "manifests": []}, None, OCI_INDEX, "neither: the shape of an index"),
    ({"schemaVersion": 2, "layers": []}, "", OCI_IMAGE, "an empty header"),
    ({"mediaType": OTHER}, None, OTHER, "one that nobody here knows"),
    ({"mediaType": OTHER}, OTHER, OTHER, "the same, twice"),
    ({"layers": []}, "application/json", "application/json", "the least that can be said"),
]


@pytest.mark.parametrize(
    ("content", "sent", "kept"), [row[:3] for row in TYPES], ids=[row[3] for row in TYPES]
)
def test_the_media_type_is_found(content: Any, sent: str | None, kept: str) -> None:
    assert parse(content, sent).media_type == kept


def test_what_a_manifest_of_another_type_names_is_read() -> None:
    manifest = parse({"mediaType": OTHER, "config": CONFIG, "layers": [LAYER], "subject": LAYER})
    assert manifest.config is not None
    assert [str(layer.digest) for layer in manifest.layers] == [DIGEST]
    assert manifest.subject is not None
    assert manifest.artifact_type == "a/config"
    assert parse({"mediaType": OTHER, "manifests": [LAYER]}).manifests == manifest.layers


ARTIFACT_TYPES = [
    (IMAGE | {"artifactType": "a/b"}, "a/b", "the field"),
    (IMAGE, "a/config", "an image without: the config's type"),
    (IMAGE | {"artifactType": ""}, "a/config", "an image with an empty one: the config's type"),
    (INDEX | {"artifactType": "a/b"}, "a/b", "the field of an index"),
    (INDEX, None, "an index without: none"),
]


@pytest.mark.parametrize(
    ("content", "artifact_type"),
    [row[:2] for row in ARTIFACT_TYPES],
    ids=[row[2] for row in ARTIFACT_TYPES],
)
def test_the_artifact_type_is_that_of_the_referrers_list(
    content: Any, artifact_type: str | None
) -> None:
    assert parse(content).artifact_type == artifact_type


# What is refused

AMBIGUOUS = [
    (IMAGE | {"manifests": []}, None, "an image with manifests"),
    (IMAGE | {"blobs": []}, None, "an image with blobs"),
    (INDEX | {"layers": []}, None, "an index with layers"),
    (INDEX | {"config": CONFIG}, None, "an index with a config"),
    (INDEX | {"layers": None}, None, "an index with null layers"),
    (IMAGE | {"fsLayers": []}, None, "schema 1 in schema 2"),
    (IMAGE, OCI_INDEX, "sent as an index, says image"),
    (IMAGE, DOCKER_IMAGE, "sent as Docker's, says OCI"),
    (INDEX, OCI_IMAGE, "sent as an image, says index"),
    ({"schemaVersion": 2, "manifests": []}, OCI_IMAGE, "sent as an image, is an index"),
    ({"schemaVersion": 2, "layers": []}, OCI_INDEX, "sent as an index, is an image"),
    ({"schemaVersion": 2, "layers": [], "manifests": []}, None, "says nothing, is both"),
    ({"mediaType": OCI_ARTIFACT, "blobs": [], "layers": []}, None, "an artifact with layers"),
    ({"mediaType": OTHER, "manifests": [], "layers": []}, None, "an unknown type, two kinds"),
    ({"mediaType": OTHER, "layers": [], "blobs": []}, None, "an unknown type, other two kinds"),
    ({"mediaType": OTHER, "fsLayers": []}, None, "an unknown type, schema 1"),
    (IMAGE, OTHER, "sent as another type, says image"),
]


@pytest.mark.parametrize(
    ("content", "sent"), [row[:2] for row in AMBIGUOUS], ids=[row[2] for row in AMBIGUOUS]
)
def test_a_body_that_could_be_read_as_another_kind_is_refused(
    content: Any, sent: str | None
) -> None:
    """CVE-2021-41190."""
    with pytest.raises(ManifestInvalid):
        parse(content, sent)


BAD_SHAPES = [
    ({}, "nothing"),
    (IMAGE | {"schemaVersion": 1}, "another version"),
    (IMAGE | {"schemaVersion": "2"}, "the version as text"),
    (IMAGE | {"schemaVersion": 2.0}, "the version as a float"),
    ({k: v for k, v in IMAGE.items() if k != "schemaVersion"}, "no version"),
    (IMAGE | {"layers": None}, "null layers"),
    (IMAGE | {"layers": {}}, "layers as an object"),
    ({k: v for k, v in IMAGE.items() if k != "layers"}, "no layers"),
    (INDEX | {"manifests": "x"}, "manifests as text"),
    (IMAGE | {"mediaType": 7}, "a type that is a number"),
    (IMAGE | {"mediaType": "text/plain"}, "a type that is none of a manifest"),
    (IMAGE | {"mediaType": "application/xhtml+xml"}, "a type that a browser would run"),
    (IMAGE | {"mediaType": "application/json\r\nX: y"}, "a type with a line break"),
    ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, "schema 1"),
    ({"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}, "schema 1"),
    ({"mediaType": OTHER, "layers": ["x"]}, "an unknown type with layers that cannot be read"),
    (IMAGE | {"config": []}, "a config that is a list"),
    (IMAGE | {"subject": "sha256:…"}, "a subject that is text"),
    (IMAGE | {"artifactType": 7}, "an artifact type that is a number"),
    (IMAGE | {"annotations": []}, "annotations as a list"),
    (IMAGE | {"annotations": {"a": 1}}, "an annotation that is a number"),
    (IMAGE | {"annotations": {"a": None}}, "an annotation that is null"),
]


@pytest.mark.parametrize(
    "content", [row[0] for row in BAD_SHAPES], ids=[row[1] for row in BAD_SHAPES]
)
def test_a_body_of_another_shape_is_refused(content: Any) -> None:
    with pytest.raises(ManifestInvalid):
        parse(content)


BAD_DESCRIPTORS = [
    ({"size": None}, "no size"),
    ({"size": -1}, "negative"),
    ({"size": True}, "a boolean, which equals 1 in Python"),
    ({"size": 2.0}, "a float, which equals 2 in Python"),
    ({"size": "2"}, "text"),
    ({"size": 2**53 + 1}, "past what every reader keeps exact"),
    ({"size": 2**63}, "past 64 bits"),
    ({"size": 1e400}, "infinite"),
    ({"digest": None}, "no digest"),
    ({"digest": 7}, "a digest that is a number"),
    ({"digest": "sha256:short"}, "not a digest"),
    ({"digest": "../../etc/passwd"}, "a path"),
    ({"mediaType": 7}, "a type that is a number"),
    ({"annotations": {"a": 1}}, "an annotation that is a number"),
]


@pytest.mark.parametrize("place", ["config", "layers", "subject", "manifests"])
@pytest.mark.parametrize(
    "fields", [row[0] for row in BAD_DESCRIPTORS], ids=[row[1] for row in BAD_DESCRIPTORS]
)
def test_a_descriptor_that_cannot_be_right_is_refused(place: str, fields: dict[str, Any]) -> None:
    found = LAYER | fields
    if place == "manifests":
        content = INDEX | {"manifests": [found]}
    else:
        content = IMAGE | {place: [found] if place == "layers" else found}
    body = json.dumps(content).replace("Infinity", "1e400")
    with pytest.raises(ManifestInvalid):
        Manifest.parse(body.encode())


def test_the_largest_size_that_every_reader_keeps_exact_is_taken() -> None:
    assert parse(IMAGE | {"layers": [LAYER | {"size": 2**53}]}).layers[0].size == 2**53


BODY = json.dumps(IMAGE)

UNREADABLE = [
    (b"", "empty"),
    (b"null", "null"),
    (b"[]", "a list"),
    (b'"text"', "text"),
    (b"{", "cut off"),
    (BODY.encode() + b"x", "something after it"),
    (BODY.encode() * 2, "two of them"),
    (b"\xef\xbb\xbf" + BODY.encode(), "a byte order mark"),
    (BODY.encode("utf-16"), "UTF-16"),
    (BODY.replace("a/config", "\xff").encode("latin-1"), "not UTF-8"),
    (BODY.replace("{", '{"n": NaN, ', 1).encode(), "NaN"),
    (BODY.replace("{", '{"n": Infinity, ', 1).encode(), "Infinity"),
    (BODY.replace("{", '{"n": -Infinity, ', 1).encode(), "-Infinity"),
    (BODY.replace("{", '{"n": ' + "9" * 5000 + ", ", 1).encode(), "an integer of 5000 digits"),
    (BODY.replace("{", '{"n": "\\ud800", ', 1).encode(), "half a surrogate pair"),
    (BODY.replace("{", '{"\\udfff": 1, ', 1).encode(), "half a surrogate pair in a key"),
    (BODY.replace("{", '{"n": "\\ud800\\u0041", ', 1).encode(), "half a pair and a letter"),
    (b"\xed\xa0\x80".join([b'{"n": "', b'"}']), "half a surrogate pair in bytes"),
    (BODY.replace("{", '{"n": ' + "[" * 100_000, 1).encode(), "deep lists, not closed"),
    (b'{"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep lists"),
    (b'{"n":' * 100_000 + b"1" + b"}" * 100_000, "deep objects"),
    (BODY.replace("{", '{"mediaType": "x", ', 1).encode(), "the same key twice"),
    (BODY.replace("{", '{"n": {"a": 1, "a": 1}, ', 1).encode(), "twice, deeper, and alike"),
    (BODY.replace('"size"', '"size": 3, "size"').encode(), "twice in a descriptor"),
    (BODY.replace("{", '{"\\u006dediaType": "x", ', 1).encode(), "twice, once with an escape"),
    (BODY.replace("{", '{"Layers": [], ', 1).encode(), "Layers beside layers"),
    (BODY.replace('"layers"', '"LAYERS"').encode(), "LAYERS instead of layers"),
    (BODY.replace("{", '{"MediaType": "x", ', 1).encode(), "MediaType beside mediaType"),
    (BODY.replace("{", '{"\u017fubject": null, ', 1).encode(), "a long s, which Go folds to s"),
    (BODY.replace("{", '{"Manifests": [], ', 1).encode(), "Manifests in an image"),
    (BODY.replace('"size"', '"Size": 3, "size"').encode(), "Size beside size"),
    (BODY.replace('"digest"', '"DIGEST": "x", "digest"').encode(), "DIGEST beside digest"),
]


@pytest.mark.parametrize("body", [row[0] for row in UNREADABLE], ids=[row[1] for row in UNREADABLE])
def test_bytes_on_which_readers_could_disagree_are_refused(body: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(body, content_type=OCI_IMAGE)


def test_a_whole_surrogate_pair_is_text() -> None:
    manifest = Manifest.parse(BODY.replace("{", '{"artifactType": "\\ud83d\\ude00", ', 1).encode())
    assert manifest.artifact_type == "\U0001f600"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["layers", "Layers", "config", "size", "digest", "mediaType", "urls"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@patient
@given(
    st.dictionaries(
        st.sampled_from(["layers", "config", "manifests", "subject", "annotations", "mediaType"]),
        JSON,
    )
)
def test_whatever_is_sent_is_taken_or_refused_and_nothing_else(fields: dict[str, Any]) -> None:
    with contextlib.suppress(ManifestInvalid):
        parse({"schemaVersion": 2} | fields, OCI_IMAGE)
