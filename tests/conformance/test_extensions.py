"""Distribution spec, extensions/_oci.md: discovery."""

from __future__ import annotations

from tests.asgi import Registry


async def test_the_registry_lists_its_extensions(registry: Registry) -> None:
    """Each has "`name` … REQUIRED", "`url` … REQUIRED" and "`endpoints` … REQUIRED"."""
    answer = await registry("GET", "/v2/_oci/ext/discover")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    extensions = answer.json["extensions"]
    assert [extension["name"] for extension in extensions] == ["_oci", "_catalog"]
    for extension in extensions:
        assert extension["url"].startswith("https://")
        for endpoint in extension["endpoints"]:
            assert (await registry("GET", f"/v2/{endpoint}")).status == 200


async def test_a_repository_lists_its_own(registry: Registry) -> None:
    answer = await registry("GET", "/v2/team/app/_oci/ext/discover")
    assert [extension["name"] for extension in answer.json["extensions"]] == ["_oci"]
