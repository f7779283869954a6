"""Distribution spec, "Listing Tags" and "Listing Referrers": every page of every size.

Names that begin alike are where lists in pages go wrong, so all of these do. Each walk is compared
with the whole list.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from tests.asgi import CONFIG, INDEX, Registry, descriptor, digest_of, image, index

TAGS = sorted(
    [
        *("a", "a-", "a-b", "a-b-c", "a-b.c", "a.", "a.b", "a.b.c", "a0", "a_", "a_b", "aA", "aa"),
        *("ab", "A", "A-b", "Aa", "0", "_", "a" * 128, "a" * 127),
    ]
)
NAMES = sorted(
    [
        *("a", "a--b", "a-b", "a-b/c", "a.b", "a.b/c", "a/a", "a/b", "a/b-c", "a/b.c", "a/b/c"),
        *("a0", "a_b", "a__b", "aa", "aa/b", "ab", "b", "0"),
    ]
)
ABSENT = ["", "-", "Z", "a!", "a-a", "a/", "a/b/", "aaaa", "b/c", "~", "é"]
"""What `last` may be without ever having been in a list."""

Entries = Callable[[Any], list[str]]


async def walk(registry: Registry, url: str, n: int, entries: Entries) -> list[str]:
    """All that the Links lead through, where every page but the last is as long as was asked."""
    found: list[str] = []
    while True:
        answer = await registry("GET", url)
        assert answer.status == 200
        shown = entries(answer.json)
        assert not {*shown} & {*found}, "shown again"
        found += shown
        link = answer.header("link")
        if link is None:
            assert 0 < len(shown) <= n  # an empty page at the end would be one too many
            return found
        assert len(shown) == n
        assert link.startswith("</v2/")
        assert link.endswith('>; rel="next"')
        url = urljoin(url, link[1 : link.index(">")])


async def hold(registry: Registry, path: str, whole: list[str], entries: Entries) -> None:
    """To every size of a page, from every place."""
    mark = "&" if "?" in path else "?"
    assert entries((await registry("GET", path)).json) == whole
    for n in range(1, len(whole) + 2):
        assert await walk(registry, f"{path}{mark}n={n}", n, entries) == whole, n
    for last in (*whole, *ABSENT):
        rest = [entry for entry in whole if entry.encode() > last.encode()]
        escaped = quote(last, safe="")
        answer = await registry("GET", f"{path}{mark}last={escaped}")
        assert entries(answer.json) == rest, last
        for n in (1, 2, len(rest), len(rest) + 1):
            answer = await registry("GET", f"{path}{mark}n={n}&last={escaped}")
            assert entries(answer.json) == rest[:n], (last, n)
            assert (answer.header("link") is not None) == (0 < n < len(rest)), (last, n)


async def test_every_page_of_tags_goes_on_where_the_one_before_ended(registry: Registry) -> None:
    """ "Up to `<int>` tags *after* `<tagname>` will be returned", in "ASCIIbetical" order; "the
    response MUST include `<int>` results" unless there are fewer."""
    body = image()
    query = "&".join(f"tag={tag}" for tag in reversed(TAGS))
    await registry.push_manifest("app", f"{digest_of(body)}?{query}", body)
    await registry.push_image("app/b", "not-here")
    await hold(registry, "/v2/app/tags/list", TAGS, lambda content: content["tags"])


async def test_every_page_of_the_catalogue_goes_on_where_the_one_before_ended(
    registry: Registry,
) -> None:
    """The catalogue is from before the specification; its pages are those of the tags."""
    for name in reversed(NAMES):
        await registry.push_blob(name, b"")
    await hold(registry, "/v2/_catalog", NAMES, lambda content: content["repositories"])


@pytest.mark.parametrize("query", ["", f"?artifactType={quote(CONFIG, safe='')}"])
async def test_every_page_of_referrers_goes_on_where_the_one_before_ended(
    registry: Registry, query: str
) -> None:
    """ "Each response is an image index with different descriptors in the `manifests` field", and
    a `Link` leads to the next."""
    subject = descriptor(b"the subject")
    whole = []
    for at in range(20):
        make = index if at % 5 == 4 else image
        body = make(subject=subject, annotations={"at": str(at)})
        digest = digest_of(body, "sha512" if at % 3 else "sha256")
        await registry.push_manifest("app", digest, body, json.loads(body)["mediaType"])
        if make is image or not query:
            whole.append(digest)
    await hold(
        registry,
        f"/v2/app/referrers/{subject['digest']}{query}",
        sorted(whole),
        lambda content: [entry["digest"] for entry in content["manifests"]],
    )


async def test_what_is_pushed_between_two_pages_shifts_nothing(registry: Registry) -> None:
    """`<tagname>` "MUST NOT be a numerical index, but rather it MUST be a proper tag"; so nothing
    is shown twice, and nothing left out that was there all the time."""
    body = image()
    for tag in ("b", "d", "f"):
        await registry.push_manifest("app", tag, body)
    first = await registry("GET", "/v2/app/tags/list?n=2")
    await registry.push_manifest("app", "a", body)
    await registry("DELETE", "/v2/app/manifests/d")
    link = first.header("link") or ""
    second = await registry("GET", link[1 : link.index(">")])
    assert (first.json["tags"], second.json["tags"]) == (["b", "d"], ["f"])


async def test_a_page_of_referrers_is_an_index_of_its_own(registry: Registry) -> None:
    """ "The response MUST be a JSON body with an image index", also where it is one of many."""
    subject = descriptor(b"the subject")
    for at in range(3):
        body = image(subject=subject, annotations={"at": str(at)})
        await registry.push_manifest("app", digest_of(body), body)
    url = f"/v2/app/referrers/{subject['digest']}?n=1"
    while url:
        answer = await registry("GET", url)
        assert answer.header("content-type") == INDEX
        assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, INDEX)
        assert len(answer.json["manifests"]) == 1
        link = answer.header("link")
        url = urljoin(url, link[1 : link.index(">")]) if link else ""
