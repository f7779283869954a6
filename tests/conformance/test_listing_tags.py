"""Distribution spec, "Listing Tags": end-8a and end-8b; and the catalogue, which pages alike."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from storage.store import Store
from tests.asgi import Registry, digest_of, image

# Byte order is neither that of a dictionary nor that of a reader.
TAGS = ["0.9", "1", "1.0", "1.0-a", "1.0.1", "1.0_a", "A", "Z", "_x", "a", "a-b", "a.b", "ab"]
NAMES = ["a", "a-b", "a/b", "a/b/c", "a0", "b"]


async def push(registry: Registry, name: str, *tags: str) -> None:
    body = image()
    await registry.push_manifest(name, digest_of(body), body)
    for tag in tags:
        await registry.push_manifest(name, tag, body)


async def test_all_tags_are_listed_in_byte_order(registry: Registry) -> None:
    """ "The tags MUST be in lexical … or "ASCIIbetical" … order." """
    await push(registry, "team/app", *reversed(TAGS))
    answer = await registry("GET", "/v2/team/app/tags/list")
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.json == {"name": "team/app", "tags": sorted(TAGS)}
    assert answer.header("link") is None


async def test_no_tags_are_an_empty_list(registry: Registry) -> None:
    """ "The list of tags MAY be empty if there are no tags on the repository." """
    await push(registry, "app")
    assert (await registry("GET", "/v2/app/tags/list")).json == {"name": "app", "tags": []}


@pytest.mark.parametrize("query", ["", "?n=0", "?n=5", "?last=x"])
async def test_an_unknown_repository_is_not_found(registry: Registry, query: str) -> None:
    answer = await registry("GET", f"/v2/nobody/tags/list{query}")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_n_limits_the_list(registry: Registry) -> None:
    """ "Otherwise, the response MUST include `<int>` results." """
    await push(registry, "app", *TAGS)
    answer = await registry("GET", "/v2/app/tags/list?n=4")
    assert answer.json["tags"] == TAGS[:4]
    assert answer.header("link") == '</v2/app/tags/list?n=4&last=1.0-a>; rel="next"'


@pytest.mark.parametrize("query", ["n=0", "n=0&last=1.0", "n=000"])
async def test_n_of_zero_is_an_empty_list(registry: Registry, query: str) -> None:
    """ "When `n` is zero, this endpoint MUST return an empty list, and MUST NOT include a `Link`
    header." """
    await push(registry, "app", *TAGS)
    answer = await registry("GET", f"/v2/app/tags/list?{query}")
    assert (answer.status, answer.json["tags"], answer.header("link")) == (200, [], None)


@pytest.mark.parametrize("n", [len(TAGS), len(TAGS) + 1, 10**9, 10**18, "1" + "0" * 5000])
async def test_a_page_that_holds_all_has_no_link(registry: Registry, n: object) -> None:
    await push(registry, "app", *TAGS)
    answer = await registry("GET", f"/v2/app/tags/list?n={n}")
    assert (answer.json["tags"], answer.header("link")) == (TAGS, None)


@pytest.mark.parametrize("n", ["-1", "two", "1.5", "", "+1", "0x1", "%D9%A3", "1%0A"])
async def test_an_n_that_is_no_number_is_refused(registry: Registry, n: str) -> None:
    await push(registry, "app", *TAGS)
    answer = await registry("GET", f"/v2/app/tags/list?n={n}")
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")


@pytest.mark.parametrize(
    "last", ["1.0", "A", "ab", "0", "zzz", "1.00", "../x", "%C3%A9", "x" * 999]
)
async def test_last_is_where_the_list_goes_on(registry: Registry, last: str) -> None:
    """ "`<tagname>` will not be included in the results", and it need not be there any more; "when
    using the `last` query parameter, the `n` parameter is OPTIONAL"."""
    await push(registry, "app", *TAGS)
    answer = await registry("GET", f"/v2/app/tags/list?last={last}")
    expected = [] if "%" in last else [tag for tag in TAGS if tag > last]
    assert answer.json["tags"] == expected


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
async def test_links_lead_through_all_tags_once(registry: Registry, n: int) -> None:
    """ "The `Link` header MUST be set according to RFC 5988 with the Relation Type
    `rel="next"`"."""
    await push(registry, "app", *TAGS)
    assert await walk(registry, f"/v2/app/tags/list?n={n}", "tags") == TAGS


async def walk(registry: Registry, url: str, key: str) -> list[str]:
    found: list[str] = []
    while True:
        answer = await registry("GET", url)
        found += answer.json[key]
        link = answer.header("link")
        if link is None:
            return found
        assert link.startswith("</v2/")
        assert link.endswith('>; rel="next"')
        url = urljoin(url, link[1 : link.index(">")])


async def test_a_list_above_our_own_limit_comes_with_a_link(store: Store) -> None:
    registry = Registry(store, page_limit=5)
    await push(registry, "app", *TAGS)
    for url in ("/v2/app/tags/list", "/v2/app/tags/list?n=9999"):
        assert len((await registry("GET", url)).json["tags"]) == 5
        assert await walk(registry, url, "tags") == TAGS


async def test_a_thousand_tags_come_at_once(registry: Registry) -> None:
    """Many clients follow a Link only where they asked for a page."""
    body = image()
    for start in range(0, 1000, 100):
        query = "&".join(f"tag=t{n}" for n in range(start, start + 100))
        await registry.push_manifest("app", f"{digest_of(body)}?{query}", body)
    answer = await registry("GET", "/v2/app/tags/list")
    assert (len(answer.json["tags"]), answer.header("link")) == (1000, None)


async def test_the_catalogue_lists_repositories_in_byte_order(registry: Registry) -> None:
    for name in reversed(NAMES):
        await push(registry, name)
    answer = await registry("GET", "/v2/_catalog")
    assert (answer.status, answer.json) == (200, {"repositories": sorted(NAMES)})
    assert answer.header("link") is None


async def test_the_catalogue_of_an_empty_registry_is_empty(registry: Registry) -> None:
    assert (await registry("GET", "/v2/_catalog")).json == {"repositories": []}


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_links_lead_through_all_repositories_once(registry: Registry, n: int) -> None:
    for name in NAMES:
        await push(registry, name)
    assert await walk(registry, f"/v2/_catalog?n={n}", "repositories") == sorted(NAMES)
