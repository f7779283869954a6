"""How much is done at a time, and who waits or is refused then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from registry import blobs, manifests, tags, uploads
from registry.admission import Admission, Room, Work, work_of
from registry.errors import TooManyRequests
from registry.settings import AdmissionSettings, Count, Seconds
from tests.asgi import Answer, Registry, digest_of, open_store

AT_ONCE = Seconds(1e-9)


@pytest.mark.parametrize(
    ("handler", "method", "work"),
    [
        (uploads.start, "POST", Work.UPLOAD),
        (uploads.append, "PATCH", Work.UPLOAD),
        (uploads.finish, "PUT", Work.UPLOAD),
        (manifests.push, "PUT", Work.UPLOAD),
        (blobs.pull, "GET", Work.PULL),
        (blobs.pull, "HEAD", Work.OTHER),
        (manifests.pull, "GET", Work.OTHER),
        (uploads.status, "GET", Work.OTHER),
        (tags.list_tags, "GET", Work.OTHER),
        (blobs.delete, "DELETE", Work.OTHER),
    ],
)
def test_what_can_take_long_has_places_of_its_own(handler: Any, method: str, work: Work) -> None:
    assert work_of(handler, method) is work


async def test_who_waits_longest_gets_the_next_place() -> None:
    room, came = Room("things", 2, patience=3600), []

    async def visit(name: int) -> None:
        await room.enter()
        came.append(name)

    for _ in range(2):
        await room.enter()
    visits = [asyncio.create_task(visit(name)) for name in range(2)]
    await settled(lambda: room.waiting == 2)
    for count in (1, 2):
        room.leave()
        await settled(lambda count=count: len(came) == count)
    assert came == [0, 1]
    assert (room.taken, room.waiting) == (2, 0)
    await asyncio.gather(*visits)


async def test_as_many_wait_as_there_are_places_and_no_more() -> None:
    room = Room("things", 1, patience=3600)
    await room.enter()
    waits = asyncio.create_task(room.enter())
    await settled(lambda: room.waiting == 1)
    with pytest.raises(TooManyRequests, match="1 things are under way"):
        await asyncio.wait_for(room.enter(), 20)
    room.leave()
    await waits


async def test_who_waited_in_vain_takes_nothing_with_him() -> None:
    room = Room("things", 1, patience=1e-9)
    await room.enter()
    with pytest.raises(TooManyRequests):
        await room.enter()
    assert (room.taken, room.waiting) == (1, 0)
    room.leave()
    await room.enter()


@pytest.mark.parametrize("turns", range(4))
async def test_who_leaves_while_a_place_is_handed_to_him_passes_it_on(turns: int) -> None:
    room = Room("things", 1, patience=3600)
    await room.enter()
    waits = asyncio.create_task(room.enter())
    await settled(lambda: room.waiting == 1)
    room.leave()
    for _ in range(turns):
        await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait([waits])
    if not waits.cancelled():
        room.leave()  # it came in before it heard of that
    assert (room.taken, room.waiting) == (0, 0)


async def settled(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - tasks of this loop
            await asyncio.sleep(0)


@asynccontextmanager
async def full(root: Path, **places: int) -> AsyncIterator[tuple[Registry, Admission]]:
    """A registry in which the places are as many; and nobody waits for one."""
    given = {name: Count(count) for name, count in places.items()}
    async with open_store(root) as store:
        admission = Admission(AdmissionSettings(**given, wait=AT_ONCE))
        yield Registry(store, admission=admission), admission


def refused(answer: Answer) -> None:
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.header("retry-after") == "1"


async def test_uploads_beyond_are_refused_unread_and_all_else_goes_on(tmp_path: Path) -> None:
    async with full(tmp_path / "data", uploads=1) as (registry, admission):
        await registry.push_image("app", "v1")
        blob = f"/v2/app/blobs/{digest_of(b'{}')}"
        await admission.rooms[Work.UPLOAD].enter()
        for method, target in [
            ("POST", f"/v2/app/blobs/uploads/?digest={digest_of(b'x')}"),
            ("PUT", "/v2/app/manifests/v2"),
        ]:
            answer = await registry(method, target, body=b"x")
            refused(answer)
            assert answer.reads == 0
            assert answer.header("connection") == "close"
        for method, target in [("GET", blob), ("HEAD", blob), ("GET", "/v2/app/manifests/v1")]:
            assert (await registry(method, target)).status == 200
        admission.rooms[Work.UPLOAD].leave()
        await registry.push_blob("app", b"x")


async def test_downloads_take_no_place_of_what_is_short(tmp_path: Path) -> None:
    async with full(tmp_path / "data", pulls=1) as (registry, admission):
        await registry.push_image("app", "v1")
        blob = f"/v2/app/blobs/{digest_of(b'{}')}"
        await admission.rooms[Work.PULL].enter()
        refused(await registry("GET", blob))
        for method, target in [
            ("HEAD", blob),
            ("HEAD", "/v2/app/manifests/v1"),
            ("GET", "/v2/app/manifests/v1"),
            ("GET", "/v2/"),
        ]:
            assert (await registry(method, target)).status == 200
        await registry.push_blob("app", b"x")


async def test_a_place_is_free_again_whatever_became_of_the_request(tmp_path: Path) -> None:
    async with full(tmp_path / "data", uploads=1, pulls=1, other=1) as (registry, admission):
        for _ in range(2):
            assert (await registry("GET", f"/v2/app/blobs/{digest_of(b'none')}")).status == 404
            assert (await registry("PUT", "/v2/app/manifests/v1", body=b"no")).status == 400
            assert (await registry("GET", "/v2/app/tags/list")).status == 404
        assert [room.taken for room in admission.rooms.values()] == [0, 0, 0, 0]
