"""One parse of the path, one table of routes."""

from __future__ import annotations

import pytest

from registry import v2
from registry.errors import PathUnknown
from registry.permissions import Need
from registry.v2 import Methods, Route, decode, resolve

DIGEST = "sha256:" + "a" * 64

PATHS: list[tuple[str, Methods, str, str]] = [
    ("/v2", v2.BASE, "", ""),
    ("/v2/", v2.BASE, "", ""),
    ("/v2/_catalog", v2.CATALOG, "", ""),
    ("/v2/_oci/ext/discover", v2.EXTENSIONS, "", ""),
    ("/v2/a/_oci/ext/discover", v2.REPOSITORY_EXTENSIONS, "a", ""),
    ("/v2/a/manifests/x", v2.MANIFESTS, "a", "x"),
    ("/v2/a/b/c/manifests/x", v2.MANIFESTS, "a/b/c", "x"),
    (f"/v2/a/blobs/{DIGEST}", v2.BLOBS, "a", DIGEST),
    ("/v2/a/blobs/uploads/", v2.UPLOADS, "a", ""),
    ("/v2/a/blobs/uploads", v2.UPLOADS, "a", ""),
    ("/v2/a/blobs/uploads/id", v2.UPLOAD, "a", "id"),
    ("/v2/a/tags/list", v2.TAGS, "a", ""),
    (f"/v2/a/referrers/{DIGEST}", v2.REFERRERS, "a", DIGEST),
    # names that look like the rest
    ("/v2/a/blobs/uploads/manifests/x", v2.MANIFESTS, "a/blobs/uploads", "x"),
    ("/v2/a/blobs/uploads/blobs/uploads/", v2.UPLOADS, "a/blobs/uploads", ""),
    ("/v2/a/blobs/uploads/blobs/uploads/id", v2.UPLOAD, "a/blobs/uploads", "id"),
    ("/v2/a/blobs/uploads/tags/list", v2.TAGS, "a/blobs/uploads", ""),
    ("/v2/manifests/manifests/manifests", v2.MANIFESTS, "manifests", "manifests"),
    ("/v2/blobs/blobs/uploads/uploads", v2.UPLOAD, "blobs", "uploads"),
    ("/v2/a/tags/list/tags/list", v2.TAGS, "a/tags/list", ""),
    ("/v2/ext/discover/manifests/x", v2.MANIFESTS, "ext/discover", "x"),
    # what is no name is for the grammar of names to refuse
    ("/v2//manifests/x", v2.MANIFESTS, "", "x"),
    ("/v2/../x/manifests/y", v2.MANIFESTS, "../x", "y"),
]


@pytest.mark.parametrize(("path", "methods", "name", "last"), PATHS)
def test_a_path_has_its_routes(path: str, methods: Methods, name: str, last: str) -> None:
    found = resolve(path)
    assert found[0] is methods
    assert found[1:] == (name, last)


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/v2/a", "/v2/a/", "/v2x/a/manifests/x", "/v1/a/manifests/x", "/v2/manifests/x"),
        *("/v2/a/tags/x", "/v2/a/uploads/x", "/v2/a/manifests/x/", "/v2/ext/discover", "/v2//"),
        *("//v2/a/manifests/x", "/v2/uploads/x", "/v2/tags/list", "/v2/_oci/ext/discover/"),
        *("/v2/blobs/uploads/", "/v2/blobs/uploads/x", "/v2/a/ext/discover", "/v2/_catalog/x"),
    ],
)
def test_a_path_that_is_none(path: str) -> None:
    with pytest.raises(PathUnknown):
        resolve(path)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/v2/a/manifests/x", "/v2/a/manifests/x"),
        (b"/v2/a/blobs/sha256%3Aab", "/v2/a/blobs/sha256:ab"),
        (b"/v2/%61/manifests/%78", "/v2/a/manifests/x"),
        (b"/v2/a%252Fb/manifests/x", "/v2/a%2Fb/manifests/x"),
        (b"/v2/a%/manifests/x", "/v2/a%/manifests/x"),
        # what is in no grammar stays as it was sent
        (b"/v2/a%2Fb/%78", "/v2/a%2Fb/x"),
        (b"/v2/a%2fb/x", "/v2/a%2fb/x"),
        (b"/v2/a%5Cb/x", "/v2/a%5Cb/x"),
        (b"/v2/%61%00/x", "/v2/a%00/x"),
        (b"/v2/a%0d%0aB/x", "/v2/a%0d%0aB/x"),
        (b"/v2/a%7f/%C3%A9/%ff", "/v2/a%7f/%C3%A9/%ff"),
        (b"/v2/%2%46%2%66%5%63/x", "/v2/%2F%2f%5c/x"),
        (b"http://host:80/v2/a", "/v2/a"),
        (b"HTTPS://host/v2/", "/v2/"),
        (b"http://host", "/"),
    ],
)
def test_a_target_is_decoded_once(raw: bytes, path: str) -> None:
    assert decode(raw) == path


@pytest.mark.parametrize(
    "raw",
    [
        *(b"/v2/\xc3\xa9/x", b"/v2/%61\xff/x"),
        *(b"", b"v2/", b"@evil/v2/", b"*", b"ftp://host/v2/", b"host:80", b"://x/v2/"),
    ],
)
def test_a_target_that_is_no_path(raw: bytes) -> None:
    with pytest.raises(PathUnknown):
        decode(raw)


NEEDS: list[tuple[Methods, dict[str, Need]]] = [
    (v2.BASE, {"GET": Need.SIGN_IN}),
    (v2.CATALOG, {"GET": Need.CATALOG}),
    (v2.EXTENSIONS, {"GET": Need.NOTHING}),
    (v2.REPOSITORY_EXTENSIONS, {"GET": Need.PULL}),
    (v2.MANIFESTS, {"GET": Need.PULL, "PUT": Need.PUSH, "DELETE": Need.DELETE}),
    (v2.BLOBS, {"GET": Need.PULL, "DELETE": Need.DELETE}),
    (v2.UPLOADS, {"POST": Need.PUSH}),
    (v2.UPLOAD, dict.fromkeys(("GET", "PATCH", "PUT", "DELETE"), Need.PUSH)),
    (v2.TAGS, {"GET": Need.PULL}),
    (v2.REFERRERS, {"GET": Need.PULL}),
]


@pytest.mark.parametrize(("methods", "needs"), NEEDS)
def test_every_route_says_what_it_needs(methods: Methods, needs: dict[str, Need]) -> None:
    assert {name: route.need for name, route in methods.items() if name != "HEAD"} == needs


def test_no_route_is_left_out_of_that_table() -> None:
    everything = [value for name, value in vars(v2).items() if name.isupper() and _routes(value)]
    assert len(everything) == len(NEEDS)


def _routes(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(it, Route) for it in value.values())


@pytest.mark.parametrize("methods", [methods for methods, _ in NEEDS])
def test_whatever_can_be_read_can_be_asked_for_its_head(methods: Methods) -> None:
    """RFC 9110, 9.1: "All general-purpose servers MUST support the methods GET and HEAD"."""
    assert methods.get("HEAD") == methods.get("GET")
