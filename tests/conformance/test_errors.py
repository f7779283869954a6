"""Distribution spec, "Error Codes"; and requests that no route answers.

That every error has the form and the codes of the specification is checked by the client for
every answer that any test here gets.
"""

from __future__ import annotations

import pytest

from tests.asgi import Registry, digest_of, image


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/app", "/v2/app/", "/v2/app/manifests", "/v2/app/blobs", "/v2/manifests/latest"),
        *("/v2/app/tags", "/v2/app/tags/lists", "/v2/app/manifests/latest/", "/v2//"),
        *("/v2/_unknown/x", "/v2/app/_oci/ext/nothing", "/v2/_catalog/", "/v3/", "/", "//v2/"),
    ],
)
async def test_a_path_that_is_none_is_not_found(registry: Registry, path: str) -> None:
    """ "If the response body is in JSON format, it MUST have the following format" """
    answer = await registry("GET", path)
    assert (answer.status, answer.code) == (404, "UNSUPPORTED")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v2/", "HEAD, GET"),
        ("/v2/_catalog", "HEAD, GET"),
        ("/v2/_oci/ext/discover", "HEAD, GET"),
        ("/v2/app/_oci/ext/discover", "HEAD, GET"),
        ("/v2/app/tags/list", "HEAD, GET"),
        (f"/v2/app/referrers/{digest_of(b'')}", "HEAD, GET"),
        ("/v2/app/manifests/latest", "HEAD, GET, PUT, DELETE"),
        (f"/v2/app/blobs/{digest_of(b'')}", "HEAD, GET, DELETE"),
        ("/v2/app/blobs/uploads/", "POST"),
        ("/v2/app/blobs/uploads", "POST"),
        ("/v2/app/blobs/uploads/id", "HEAD, GET, PATCH, PUT, DELETE"),
    ],
)
async def test_a_method_that_is_not_for_a_path_is_refused(
    registry: Registry, path: str, allow: str
) -> None:
    """RFC 9110, 15.5.6: "The origin server MUST generate an Allow header field"."""
    answer = await registry("OPTIONS", path)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.header("allow") == allow


async def test_methods_are_spelt_in_capitals(registry: Registry) -> None:
    """RFC 9110, 9.1: "The method token is case-sensitive"."""
    assert (await registry("get", "/v2/")).status == 405


@pytest.mark.parametrize(
    "name",
    [
        *("App", "a//b", "a/", "-a", "a-", "a..b", "a___b", "a._b", "a/../b", "a/./b", "_a"),
        *("a/_b", "a%20b", "a" * 256, "a~b", "a/-b"),
    ],
)
async def test_a_name_that_cannot_be_is_refused(registry: Registry, name: str) -> None:
    """ "Throughout this document, `<name>` MUST match the following regular expression" """
    answer = await registry("GET", f"/v2/{name}/manifests/latest")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("PUT", "manifests/latest"),
        ("DELETE", "manifests/latest"),
        ("GET", f"blobs/{digest_of(b'')}"),
        ("DELETE", f"blobs/{digest_of(b'')}"),
        ("POST", "blobs/uploads/"),
        ("POST", f"blobs/uploads/?digest={digest_of(b'')}"),
        ("GET", "blobs/uploads/id"),
        ("PATCH", "blobs/uploads/id"),
        ("PUT", f"blobs/uploads/id?digest={digest_of(b'')}"),
        ("DELETE", "blobs/uploads/id"),
        ("GET", "tags/list"),
        ("GET", f"referrers/{digest_of(b'')}"),
        ("GET", "_oci/ext/discover"),
    ],
)
async def test_every_route_refuses_such_a_name_before_it_reads(
    registry: Registry, method: str, rest: str
) -> None:
    answer = await registry(method, f"/v2/Not-A-Name/{rest}", body=[image()])
    assert (answer.status, answer.code, answer.reads) == (400, "NAME_INVALID", 0)


@pytest.mark.parametrize("name", ["a%2Fb", "a%2fb", "a%5Cb", "a%00", "a%0A", "%C3%A9", "a%FF"])
async def test_nothing_escaped_becomes_a_separator_or_worse(registry: Registry, name: str) -> None:
    await registry.push_image("a/b")
    answer = await registry("GET", f"/v2/{name}/manifests/latest")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    "name",
    [
        *("blobs", "manifests", "tags", "uploads", "referrers", "v2", "ext", "list"),
        *("a/blobs", "a/blobs/uploads", "a/manifests", "a/tags/list", "a/referrers", "v2/v2"),
        *("a/ext/discover", "uploads/blobs", "manifests/latest", "a__b", "a--b/c.d_e"),
    ],
)
async def test_a_name_may_look_like_the_rest_of_a_path(registry: Registry, name: str) -> None:
    body = await registry.push_image(name, "list")
    assert (await registry("GET", f"/v2/{name}/manifests/list")).body == body
    assert (await registry("GET", f"/v2/{name}/blobs/{digest_of(b'{}')}")).body == b"{}"
    assert (await registry("GET", f"/v2/{name}/tags/list")).json["name"] == name
    location = await registry.start_upload(name)
    assert (await registry("DELETE", location)).status == 204
    assert (await registry("GET", f"/v2/{name}/referrers/{digest_of(b'')}")).status == 200


@pytest.mark.parametrize("target", ["http://evil.test/v2/", "HTTPS://evil.test:1/v2/"])
async def test_the_absolute_form_of_a_target_is_its_path(registry: Registry, target: str) -> None:
    """RFC 9112, 3.2.2: "A server MUST accept the absolute-form in requests"."""
    assert (await registry("GET", target)).status == 200


@pytest.mark.parametrize("target", ["@evil.test/v2/", "v2/", "*", "", "evil.test:80", "http://x"])
async def test_a_target_that_is_no_path_is_not_found(registry: Registry, target: str) -> None:
    assert (await registry("GET", target)).status == 404


async def test_a_host_never_shows_in_an_answer(registry: Registry) -> None:
    """Whoever can set a Host header for others could lead them elsewhere."""
    headers = {"Host": "evil.test", "X-Forwarded-Host": "evil.test", "Forwarded": "host=evil.test"}
    answer = await registry("POST", "/v2/app/blobs/uploads/", headers=headers)
    assert not any("evil" in value for _, value in answer.headers)
