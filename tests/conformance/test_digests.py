"""Image-spec, descriptor.md, "Digests", as the distribution spec uses them: in every place of one.

"If the client provided digest is invalid or uses an unsupported algorithm, the registry SHOULD
respond with a response code `400 Bad Request`"; and what cannot have been pushed is not found.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.asgi import LAYER, Registry, digest_of, image

DATA = b"some bytes"
SHA256 = digest_of(DATA)
HEX = "a" * 64

UNSUPPORTED = [
    f"blake3:{HEX}",  # registered by image-spec, and a registry MAY have it
    f"md5:{'a' * 32}",
    f"sha384:{'a' * 96}",
    "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
    "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=",
]
"""Well formed, and of an algorithm that is not kept here."""

INVALID = [
    ("sha256", "no encoded part"),
    ("sha256:", "an empty one"),
    (f":{HEX}", "no algorithm"),
    (f"sha256:{HEX[1:]}", "a character too few"),
    (f"sha256:{HEX}a", "one too many"),
    (f"sha512:{HEX}", "as long as that of another algorithm"),
    (f"sha256:{HEX.upper()}", "upper case is not in [a-f0-9]"),
    (f"sha256:{'g' * 64}", "nor are letters beyond f"),
    (f"SHA256:{HEX}", "nor is it in an algorithm"),
    (f"sha256+:{HEX}", "a separator separates two components"),
    (f"+sha256:{HEX}", "here as well"),
    (f"sha256++x:{HEX}", "and there is one between them"),
    (f"sha256::{HEX}", "one colon"),
    (f"sha256:{HEX}:{HEX}", "only one"),
    (f"sha256:{HEX}\n", "a newline is no part of it"),
    (f" sha256:{HEX}", "nor is a blank"),
    (f"sha256:{'٣' * 64}", "nor are digits of other scripts"),
    (f"sha256:{HEX[2:]}\\x", "nor is an escape"),
]


@pytest.mark.parametrize("digest", UNSUPPORTED)
class TestAnAlgorithmThatIsNotKeptHere:
    async def test_does_not_name_what_is_pushed(self, registry: Registry, digest: str) -> None:
        """ "In each implementation": in a single post, a closing put, and for a mount."""
        escaped = quote(digest, safe="")
        location = await registry.start_upload("app")
        for method, target in (
            ("POST", f"/v2/app/blobs/uploads/?digest={escaped}"),
            ("POST", f"/v2/app/blobs/uploads/?mount={escaped}&from=app"),
            ("PUT", f"{location}?digest={escaped}"),
            ("PUT", f"/v2/app/manifests/{escaped}"),
        ):
            answer = await registry(method, target, body=DATA)
            assert (answer.status, answer.code, answer.reads) == (400, "UNSUPPORTED", 0)
        assert (await registry("GET", "/v2/_catalog")).json == {"repositories": []}
        assert (await registry("PUT", f"{location}?digest={SHA256}", body=DATA)).status == 201

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    @pytest.mark.parametrize("kind", ["blobs", "manifests"])
    async def test_names_nothing_that_is_here(
        self, registry: Registry, digest: str, kind: str, method: str
    ) -> None:
        """ "If the manifest is not found in the repository, the response code MUST be `404 Not
        Found`": containerd and others take nothing else for an answer of no."""
        await registry.push_image("app")
        for written in (digest, quote(digest, safe="")):
            answer = await registry(method, f"/v2/app/{kind}/{written}")
            assert answer.status == 404
            if method != "HEAD":
                assert answer.code == f"{kind[:-1].upper()}_UNKNOWN"

    async def test_may_name_what_a_manifest_refers_to(
        self, registry: Registry, digest: str
    ) -> None:
        """ "Implementations SHOULD allow digests with unrecognized algorithms to pass validation if
        they comply with the above grammar." """
        layer = {"mediaType": LAYER, "digest": digest, "size": 1}
        assert (await registry.push_manifest("app", "x", image(layers=[layer]))).status == 201


@pytest.mark.parametrize("digest", [row[0] for row in INVALID], ids=[row[1] for row in INVALID])
async def test_what_is_no_digest_names_nothing_anywhere(registry: Registry, digest: str) -> None:
    """ "A digest string MUST match the following grammar"; and "a 400 Bad Request MUST be
    returned", as the referrers list has it."""
    await registry.push_image("app")
    escaped = quote(digest, safe="")
    location = await registry.start_upload("app")
    for method, target in (
        ("POST", f"/v2/app/blobs/uploads/?digest={escaped}"),
        ("POST", f"/v2/app/blobs/uploads/?mount={escaped}"),
        ("PUT", f"{location}?digest={escaped}"),
        ("GET", f"/v2/app/blobs/{escaped}"),
        ("DELETE", f"/v2/app/blobs/{escaped}"),
        ("GET", f"/v2/app/referrers/{escaped}"),
    ):
        answer = await registry(method, target, body=None if method == "GET" else DATA)
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), target
    if ":" in digest:  # without one, it is a tag
        for method in ("GET", "PUT", "DELETE"):
            answer = await registry(method, f"/v2/app/manifests/{escaped}", body=image())
            assert (answer.status, answer.code) == (400, "DIGEST_INVALID"), method
