"""Distribution spec, "Warnings": we send none, so that none has another form than it must.

The client holds every answer that any test gets to that; here are those that tempt to warn.
"""

from __future__ import annotations

import pytest

from tests.asgi import LAYER, Registry, descriptor, digest_of, image

DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"


@pytest.mark.parametrize(
    ("target", "body", "media_type"),
    [
        ("docker", image(mediaType=DOCKER_IMAGE), DOCKER_IMAGE),
        ("withdrawn", b'{"mediaType":"%s"}' % ARTIFACT.encode(), ARTIFACT),
        ("sparse", image(layers=[descriptor(b"absent", LAYER)]), ""),
        ("subject", image(subject=descriptor(b"absent")), ""),
        (f"{digest_of(image())}?tag=a&tag=a", image(), ""),
        ("refused", b"no manifest", ""),
    ],
)
async def test_nobody_is_warned(
    registry: Registry, target: str, body: bytes, media_type: str
) -> None:
    """ "If included, `Warning` headers MUST specify a `warn-code` of `299` and a `warn-agent` of
    `-`", and "MUST NOT send more than 4096 bytes of warning data"."""
    pushed = await registry.push_manifest("app", target, body, media_type)
    pulled = await registry("GET", f"/v2/app/manifests/{target.partition('?')[0]}")
    assert (pushed.header("warning"), pulled.header("warning")) == (None, None)
