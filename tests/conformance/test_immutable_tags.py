"""Tags that neither move nor go once they are there. The specification has no word on them: it
lets a registry refuse, with a status and a code that clients understand.
"""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from storage.digest import Digest
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.retention import immutable
from storage.store import Store
from tests.asgi import INDEX, Answer, Registry, descriptor, digest_of, image, index
from tests.storage.test_retention import scope

FIRST, OTHER = image(annotations={"note": "first"}), image(annotations={"note": "other"})


@pytest.fixture
def registry(store: Store) -> Registry:
    store.immutable = partial(immutable, [scope("acme/*", tags="v*", except_tags="*-dev")])
    return Registry(store)


async def push(registry: Registry, reference: str, body: bytes) -> Answer:
    await registry.push_blob("acme/shop", b"{}")
    return await registry.push_manifest("acme/shop", reference, body)


async def pulled(registry: Registry, reference: str) -> str | None:
    answer = await registry("HEAD", f"/v2/acme/shop/manifests/{reference}")
    return answer.header("docker-content-digest") if answer.status == 200 else None


def is_refused(answer: Answer) -> bool:
    return (answer.status, answer.code) == (409, "DENIED")


async def test_it_cannot_become_something_else(registry: Registry) -> None:
    assert (await push(registry, "v1", FIRST)).status == 201
    answer = await push(registry, "v1", OTHER)
    assert is_refused(answer)
    [error] = answer.json["errors"]
    assert error["message"] == (
        f"acme/shop:v1 is {digest_of(FIRST)} and immutable: it cannot become {digest_of(OTHER)};"
        " push under another tag"
    )
    assert await pulled(registry, "v1") == digest_of(FIRST)
    assert await pulled(registry, digest_of(OTHER)) is None, "nothing of it was kept"


async def test_the_same_can_be_pushed_again(registry: Registry) -> None:
    for _ in range(2):
        assert (await push(registry, "v1", FIRST)).status == 201


@pytest.mark.parametrize("tag", ["latest", "v1-dev", f"sha256-{'a' * 64}.sig"])
async def test_other_tags_move_as_ever(tag: str, registry: Registry) -> None:
    for body in (FIRST, OTHER):
        assert (await push(registry, tag, body)).status == 201
    assert await pulled(registry, tag) == digest_of(OTHER)


async def test_so_do_the_same_tags_of_other_repositories(registry: Registry) -> None:
    for body in (FIRST, OTHER):
        await registry.push_blob("other/shop", b"{}")
        assert (await registry.push_manifest("other/shop", "v1", body)).status == 201


async def test_it_cannot_be_deleted(registry: Registry) -> None:
    await push(registry, "v1", FIRST)
    answer = await registry("DELETE", "/v2/acme/shop/manifests/v1")
    assert is_refused(answer)
    assert "acme/shop:v1" in answer.json["errors"][0]["message"]
    assert await pulled(registry, "v1") == digest_of(FIRST)


async def test_nor_can_its_manifest_which_would_take_it_along(registry: Registry) -> None:
    await push(registry, "v1", FIRST)
    await push(registry, "a", FIRST)
    answer = await registry("DELETE", f"/v2/acme/shop/manifests/{digest_of(FIRST)}")
    assert is_refused(answer)
    assert "acme/shop:v1" in answer.json["errors"][0]["message"]
    assert await pulled(registry, "v1") == await pulled(registry, "a") == digest_of(FIRST)


async def test_other_tags_on_the_same_manifest_can(registry: Registry) -> None:
    await push(registry, "v1", FIRST)
    await push(registry, "a", FIRST)
    assert (await registry("DELETE", "/v2/acme/shop/manifests/a")).status == 202
    assert await pulled(registry, "v1") == digest_of(FIRST)


async def test_an_image_of_an_index_that_is_deleted_by_digest_is_not_taken_for_it(
    registry: Registry,
) -> None:
    """What is not tagged goes as ever: a rule names tags, and promises them."""
    await push(registry, digest_of(FIRST), FIRST)
    body = index(manifests=[descriptor(FIRST)])
    assert (await registry.push_manifest("acme/shop", "a", body, INDEX)).status == 201
    answer = await registry("DELETE", f"/v2/acme/shop/manifests/{digest_of(body)}")
    assert answer.status == 202


async def test_of_several_tags_in_one_push_all_move_or_none(registry: Registry) -> None:
    await push(registry, "v1", FIRST)
    answer = await push(registry, f"{digest_of(OTHER)}?tag=a&tag=v1&tag=v2", OTHER)
    assert is_refused(answer)
    for reference in ("a", "v2", digest_of(OTHER)):
        assert await pulled(registry, reference) is None
    assert (await push(registry, f"{digest_of(OTHER)}?tag=a&tag=v2", OTHER)).status == 201


async def test_where_the_digest_is_told_it_is_refused_before_the_body_is_read(
    registry: Registry,
) -> None:
    await push(registry, "v1", FIRST)
    answer = await push(registry, f"{digest_of(OTHER)}?tag=v1", OTHER)
    assert is_refused(answer)
    assert answer.reads == 0
    assert answer.header("connection") == "close", "or the server would swallow the body"


async def test_of_two_that_push_it_at_once_one_wins(registry: Registry) -> None:
    """Many times, for each is only a chance to go wrong."""
    await registry.push_blob("acme/shop", b"{}")
    for number in range(20):
        tag = f"v{number}"
        answers = await asyncio.gather(
            *(registry.push_manifest("acme/shop", tag, body) for body in (FIRST, OTHER))
        )
        assert sorted(answer.status for answer in answers) == [201, 409]
        [won] = [answer for answer in answers if answer.status == 201]
        assert await pulled(registry, tag) == won.header("docker-content-digest")


async def test_no_other_door_leads_around_it(registry: Registry, store: Store) -> None:
    """An import, say, pushes without HTTP."""
    await push(registry, "v1", FIRST)
    repository = store.repository(RepositoryName.parse("acme/shop"))
    with pytest.raises(Exception, match="immutable"):
        await repository.put_manifest(Manifest.parse(OTHER), [Tag.parse("v1")])
    with pytest.raises(Exception, match="immutable"):
        await repository.delete_tag(Tag.parse("v1"))
    with pytest.raises(Exception, match="immutable"):
        await repository.delete_manifest(Digest.parse(digest_of(FIRST)))
