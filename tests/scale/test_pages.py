"""A page costs what it shows, however much there is that it does not show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.names import RepositoryName, Tag
from storage.store import Store
from tests.asgi import Registry, digest_of, image, open_store
from tests.scale.costs import Steps
from tests.storage.content import image as parsed

PAGE = 50


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
async def store(tmp_path: Path, steps: Steps) -> AsyncIterator[Store]:
    with steps.watching():
        async with open_store(tmp_path / "data") as opened:
            yield opened


async def cost(registry: Registry, steps: Steps, path: str) -> int:
    for _ in range(2):  # the first time a connection may have to read the schema
        steps.taken()
        assert (await registry("GET", path)).status == 200
    return steps.taken()


async def test_a_page_of_tags(store: Store, steps: Steps) -> None:
    registry = Registry(store)
    for name, count in (("few", 200), ("many", 20_000)):
        tags = [Tag.parse(f"v{number:06}") for number in range(count)]
        repository = store.repository(RepositoryName.parse(name))
        for start in range(0, count, 100):
            await repository.put_manifest(parsed(), tags[start : start + 100])
    path = f"tags/list?n={PAGE}&last="
    few = await cost(registry, steps, f"/v2/few/{path}v000100")
    for last in ("", "v010000", "v019900"):
        many = await cost(registry, steps, f"/v2/many/{path}{last}")
        assert few / 1.2 < many < few * 1.2


async def test_a_page_of_repositories(store: Store, steps: Steps) -> None:
    registry = Registry(store)

    async def fill(numbers: range) -> None:
        for number in numbers:
            assert (await registry.push_manifest(f"team/r{number:06}", "v1", image())).status == 201

    await fill(range(200))
    path = f"/v2/_catalog?n={PAGE}&last="
    few = await cost(registry, steps, f"{path}team/r000100")
    await fill(range(200, 2000))
    for last in ("", "team/r000100", "team/r001900"):
        many = await cost(registry, steps, f"{path}{last}")
        assert few / 1.2 < many < few * 1.2


@pytest.mark.parametrize("query", ["", "artifactType=kind/a"])
async def test_a_page_of_referrers(store: Store, steps: Steps, query: str) -> None:
    registry = Registry(store)
    subject = image()
    described = {"mediaType": "a/b", "digest": digest_of(subject), "size": len(subject)}

    async def fill(numbers: range) -> None:
        for number in numbers:
            body = image(
                subject=described, artifactType="kind/a", annotations={"number": f"{number}"}
            )
            assert (await registry.push_manifest("app", digest_of(body), body)).status == 201

    path = f"/v2/app/referrers/{digest_of(subject)}?n={PAGE}&{query}"
    await fill(range(200))
    few = await cost(registry, steps, path)
    await fill(range(200, 2000))
    many = await cost(registry, steps, path)
    assert few / 1.2 < many < few * 1.2
