"""The /v1 API shows of the apps what its caller may deploy; the rest is in the matrix."""

from __future__ import annotations

import json
from pathlib import Path

from registry.deploy.apps import Settings
from storage.names import RepositoryName
from tests.registry.auth.granting import basic, bearer
from tests.registry.auth.matrix.table import Row, World


async def _listed(world: World, headers: dict[str, str]) -> list[str]:
    answer = await world.ask("GET", Row("", "", "/v1/apps"), headers)
    assert answer.status == 200, answer.body
    return [app["repository"] for app in json.loads(answer.body)["apps"]]


async def test_the_list_has_what_its_reader_may_deploy(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        await world.journal.configure(
            RepositoryName.parse("other/app"), Settings({"key": "canary"}), "apps.example"
        )
        assert await _listed(world, basic("admin")) == ["acme/shop", "other/app"]
        assert await _listed(world, basic("owner")) == ["acme/shop"]
        assert await _listed(world, basic("deploy")) == ["acme/shop"]
        assert await _listed(world, basic("neighbour")) == ["other/app"]
        for headers in (basic("push"), basic("none"), bearer("small"), bearer("robot")):
            assert await _listed(world, headers) == []


async def test_a_change_of_who_may_not_is_not_made(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        row = Row(
            *("", "", "/v1/apps/acme/shop/_settings", b'{"variables": {"a": "b"}}'),
            "application/json",
        )
        for headers, status in [({}, 401), (basic("push"), 403), (basic("neighbour"), 403)]:
            answer = await world.ask("PATCH", row, headers)
            assert (answer.status, answer.reads) == (status, 0)
        app = await world.journal.app(RepositoryName.parse("acme/shop"))
        assert app is not None
        assert app.settings == Settings()
        assert (await world.ask("PATCH", row, basic("deploy"))).status == 200


async def test_whoever_asks_whether_it_is_alive_is_not_asked_who_he_is(tmp_path: Path) -> None:
    async with World.open(tmp_path) as world:
        for target in ("/healthz", "/readyz"):
            answer = await world.ask("GET", Row("", "", target), basic("admin", "wrong"))
            assert answer.status == 200
