"""Mounting where one has to sign in: from what one may pull, named or not."""

from __future__ import annotations

from registry.auth.identity import Kind, Principal
from registry.auth.scope import Grant
from tests.asgi import digest_of
from tests.registry.auth.granting import basic, bearer, bounded
from tests.registry.auth.test_enforcement import GRANTS, TOKENS, Guarded, registry

__all__ = ["registry"]

MOUNT = f"/v2/acme/new/blobs/uploads/?mount={digest_of(b'{}')}"


async def test_without_a_source_it_comes_from_any_repository_that_one_may_pull(
    registry: Guarded,
) -> None:
    await registry.fill("secret/x")
    assert (await registry("POST", MOUNT, headers=basic("mounter"))).status == 202
    await registry.fill("lib/base")
    assert (await registry("POST", MOUNT, headers=basic("mounter"))).status == 201


async def test_a_token_that_does_not_reach_the_source_has_to_be_a_wider_one(
    registry: Guarded,
) -> None:
    """As distribution asks for both; and as no stolen token may be used for more than it says."""
    await registry.fill("lib/base")
    for source in ("&from=lib/base", ""):
        answer = await registry("POST", MOUNT + source, headers=bearer("mounting"))
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        challenge = answer.header("www-authenticate") or ""
        assert 'error="insufficient_scope"' in challenge
        assert "repository:acme/new:pull,push repository:lib/base:pull" in challenge


async def test_who_could_not_get_a_wider_one_pushes_the_blob(registry: Guarded) -> None:
    await registry.fill("secret/x")
    for source in ("&from=secret/x", "&from=acme/none", ""):
        answer = await registry("POST", MOUNT + source, headers=bearer("mounting"))
        assert answer.status == 202


TOKENS["mounting"] = bounded(
    Principal(Kind.USER, "mounter"), Grant.parse("acme/new", ["pull", "push"])
)
assert "user:mounter" in GRANTS
