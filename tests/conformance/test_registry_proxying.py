"""Distribution spec, "Registry Proxying": what containerd sends to a mirror."""

from __future__ import annotations

import pytest

from tests.asgi import Registry, digest_of, image

BLOB = digest_of(b"{}")


@pytest.mark.parametrize("namespace", ["docker.io", "registry.example.org%3A5000", "", "%0A"])
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v2/", 200),
        ("GET", "/v2/app/manifests/latest", 200),
        ("HEAD", "/v2/app/manifests/latest", 200),
        ("PUT", "/v2/app/manifests/latest", 201),
        ("DELETE", "/v2/app/manifests/latest", 202),
        ("GET", "/v2/app/manifests/absent", 404),
        ("GET", f"/v2/app/blobs/{BLOB}", 200),
        ("HEAD", f"/v2/app/blobs/{BLOB}", 200),
        ("DELETE", f"/v2/app/blobs/{BLOB}", 202),
        ("GET", "/v2/app/tags/list", 200),
        ("GET", f"/v2/app/referrers/{BLOB}", 200),
        ("GET", "/v2/_catalog", 200),
        ("POST", "/v2/app/blobs/uploads/", 202),
        ("GET", "SESSION", 204),
        ("PATCH", "SESSION", 202),
        ("PUT", f"SESSION&digest={digest_of(b'')}", 201),
        ("DELETE", "SESSION", 204),
    ],
)
async def test_a_namespace_that_a_mirror_is_asked_for_changes_nothing(
    registry: Registry, method: str, target: str, status: int, namespace: str
) -> None:
    """ "A registry MAY choose to ignore the `ns` query parameter"; one that "uses the `ns` query
    parameter to scope the request SHOULD return" it in `OCI-Namespace`, and so we do not."""
    await registry.push_image("app")
    path, _, query = target.partition("&")
    if path == "SESSION":
        path = await registry.start_upload("app")
    body = image() if target == "/v2/app/manifests/latest" and method == "PUT" else None
    answer = await registry(method, f"{path}?ns={namespace}&{query}", body=body)
    assert answer.status == status
    assert answer.header("oci-namespace") is None
