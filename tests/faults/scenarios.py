"""What is tried while the disk fails: each a few requests, and how to see what became of them.

Each scenario works in repositories and with bytes of its own (`salt`), so that one store, in one
process, lives through all faults of a sweep.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from storage.collect import Collector
from tests.asgi import IMAGE, INDEX, Answer, Registry, descriptor, digest_of, image, index

HOUR: Final = 3600.0


class Refused(Exception):
    """A request was not answered with what it was made for."""

    def __init__(self, answer: Answer | None) -> None:
        super().__init__(answer and answer.status)
        self.answer = answer


@dataclass
class World:
    """Where a scenario happens."""

    registry: Registry
    salt: str
    clock: list[float]
    """What the store takes for the time, in seconds."""
    session: str = ""
    """Where an upload was, that was not closed."""

    @property
    def name(self) -> str:
        return f"acme/{self.salt}"

    def bytes_of(self, what: str, size: int = 600) -> bytes:
        return (f"{what} of {self.salt} ".encode() * size)[:size]

    async def ask(self, method: str, target: str, *expected: int, **request: Any) -> Answer:
        """Raises Refused."""
        answer = await self.registry.ask(method, target, **request)
        if answer is None or answer.status not in expected:
            raise Refused(answer)
        return answer

    async def has(self, target: str, body: bytes | None = None) -> bool:
        """Whether it can be pulled. Raises AssertionError for other bytes and other answers."""
        answer = await self.registry("GET", target)
        assert answer.status in (200, 404), (target, answer.status, answer.body)
        if answer.status == 200 and body is not None:
            assert answer.body == body, f"{target} has other bytes"
        return answer.status == 200

    def image(self, note: str, **fields: Any) -> bytes:
        layer = self.bytes_of("layer")
        layers = [descriptor(layer, "a/layer")]
        return image(annotations={"note": f"{note} {self.salt}"}, layers=layers, **fields)

    async def put(self, reference: str, body: bytes, kind: str = IMAGE) -> None:
        await self.ask(
            "PUT",
            f"/v2/{self.name}/manifests/{reference}",
            201,
            body=body,
            headers={"Content-Type": kind},
        )

    async def push_blobs(self) -> None:
        for blob in (b"{}", self.bytes_of("layer")):
            target = f"/v2/{self.name}/blobs/uploads/?digest={digest_of(blob)}"
            await self.ask("POST", target, 201, body=blob)


async def nothing(world: World) -> None:
    """Nothing has to be there before."""


@dataclass(frozen=True)
class Scenario:
    act: Callable[[World], Awaitable[None]]
    """Under the fault. Raises Refused."""
    done: Callable[[World], Awaitable[bool]]
    """Whether it happened, wholly; False: not at all. Raises AssertionError for anything else."""
    before: Callable[[World], Awaitable[None]] = nothing
    kept: Callable[[World], Awaitable[bool]] | None = None
    """What must be there whatever happened; True where it is."""

    @property
    def name(self) -> str:
        return self.act.__name__.replace("_", " ")


# Pushing blobs


async def blob_at_once(world: World) -> None:
    blob = world.bytes_of("blob")
    target = f"/v2/{world.name}/blobs/uploads/?digest={digest_of(blob)}"
    await world.ask("POST", target, 201, body=blob)


async def blob_after_post(world: World) -> None:
    blob = world.bytes_of("blob")
    answer = await world.ask("POST", f"/v2/{world.name}/blobs/uploads/", 202)
    target = f"{answer.header('location')}?digest={digest_of(blob)}"
    await world.ask("PUT", target, 201, body=blob)


async def blob_in_chunks(world: World) -> None:
    blob = world.bytes_of("blob")
    answer = await world.ask("POST", f"/v2/{world.name}/blobs/uploads/", 202)
    location = answer.header("location") or ""
    for start in (0, 200):
        await world.ask(
            "PATCH",
            location,
            202,
            body=blob[start : start + 200],
            headers={"Content-Range": f"{start}-{start + 199}"},
        )
    await world.ask("GET", location, 204)
    await world.ask("PUT", f"{location}?digest={digest_of(blob)}", 201, body=blob[400:])


async def blob_tried_again(world: World) -> None:
    """A client that closes its session once more when it was told that this failed."""
    blob = world.bytes_of("blob")
    if world.session:
        answer = await world.registry.ask("PUT", f"{world.session}?digest={digest_of(blob)}")
        if answer is not None and answer.status == 201:
            return
    answer = await world.ask("POST", f"/v2/{world.name}/blobs/uploads/", 202)
    world.session = answer.header("location") or ""
    await world.ask("PATCH", world.session, 202, body=blob)
    await world.ask("PUT", f"{world.session}?digest={digest_of(blob)}", 201)


async def blob_is_there(world: World) -> bool:
    blob = world.bytes_of("blob")
    return await world.has(f"/v2/{world.name}/blobs/{digest_of(blob)}", blob)


async def a_source(world: World) -> None:
    blob = world.bytes_of("blob")
    target = f"/v2/{world.name}/source/blobs/uploads/?digest={digest_of(blob)}"
    await world.ask("POST", target, 201, body=blob)


async def mount(world: World) -> None:
    blob = world.bytes_of("blob")
    target = f"/v2/{world.name}/blobs/uploads/?mount={digest_of(blob)}&from={world.name}/source"
    await world.ask("POST", target, 201)


async def source_is_there(world: World) -> bool:
    blob = world.bytes_of("blob")
    return await world.has(f"/v2/{world.name}/source/blobs/{digest_of(blob)}", blob)


# Pushing manifests


async def manifest_by_tag(world: World) -> None:
    await world.put("v1", world.image("new"))


async def new_at_v1(world: World) -> bool:
    body = world.image("new")
    by_digest = await world.has(f"/v2/{world.name}/manifests/{digest_of(body)}", body)
    assert by_digest == await world.has(f"/v2/{world.name}/manifests/v1")
    return by_digest


TAGS: Final = [f"t{number}" for number in range(10)]


def referrer(world: World) -> bytes:
    return world.image("referrer", subject=descriptor(b"a subject"), artifactType="a/type")


async def manifest_with_ten_tags_and_a_subject(world: World) -> None:
    body = referrer(world)
    query = "&".join(f"tag={tag}" for tag in TAGS)
    await world.put(f"{digest_of(body)}?{query}", body)


async def ten_tags_and_a_referrer(world: World) -> bool:
    body = referrer(world)
    found = {await world.has(f"/v2/{world.name}/manifests/{tag}", body) for tag in TAGS}
    found.add(await world.has(f"/v2/{world.name}/manifests/{digest_of(body)}", body))
    answer = await world.registry("GET", f"/v2/{world.name}/referrers/{digest_of(b'a subject')}")
    found.add(bool(answer.json["manifests"]))
    assert len(found) == 1, "a push by digest with tags and a subject was done in part"
    return found.pop()


async def an_image(world: World) -> None:
    await world.push_blobs()
    body = world.image("old")
    await world.put("v1", body)


def an_index(world: World) -> bytes:
    return index(manifests=[descriptor(world.image("old"))], annotations={"of": world.salt})


async def index_by_tag(world: World) -> None:
    await world.put("all", an_index(world), INDEX)


async def index_is_there(world: World) -> bool:
    return await world.has(f"/v2/{world.name}/manifests/all", an_index(world))


async def image_is_whole(world: World) -> bool:
    body = world.image("old")
    layer = world.bytes_of("layer")
    return (
        await world.has(f"/v2/{world.name}/manifests/{digest_of(body)}", body)
        and await world.has(f"/v2/{world.name}/blobs/{digest_of(b'{}')}", b"{}")
        and await world.has(f"/v2/{world.name}/blobs/{digest_of(layer)}", layer)
    )


async def tag_moved(world: World) -> None:
    await world.put("v1", world.image("new"))


async def v1_is_new(world: World) -> bool:
    answer = await world.registry("GET", f"/v2/{world.name}/manifests/v1")
    assert answer.body in (world.image("new"), world.image("old")), "the tag points elsewhere"
    return answer.body == world.image("new")


# Deleting


async def tag_deleted(world: World) -> None:
    await world.ask("DELETE", f"/v2/{world.name}/manifests/v1", 202)


async def v1_is_gone(world: World) -> bool:
    answer = await world.registry("GET", f"/v2/{world.name}/tags/list")
    gone = answer.json["tags"] == []
    assert gone != await world.has(f"/v2/{world.name}/manifests/v1")
    return gone


async def manifest_deleted(world: World) -> None:
    digest = digest_of(world.image("old"))
    await world.ask("DELETE", f"/v2/{world.name}/manifests/{digest}", 202)


async def image_is_gone(world: World) -> bool:
    digest = digest_of(world.image("old"))
    there = await world.has(f"/v2/{world.name}/manifests/{digest}")
    assert there == await world.has(f"/v2/{world.name}/manifests/v1")
    return not there


async def blob_deleted(world: World) -> None:
    await world.ask("DELETE", f"/v2/{world.name}/blobs/{digest_of(world.bytes_of('layer'))}", 202)


async def layer_is_gone(world: World) -> bool:
    layer = world.bytes_of("layer")
    return not await world.has(f"/v2/{world.name}/blobs/{digest_of(layer)}", layer)


# Reading


async def blob_pulled(world: World) -> None:
    layer = world.bytes_of("layer")
    answer = await world.ask("GET", f"/v2/{world.name}/blobs/{digest_of(layer)}", 200)
    if answer.header("content-length") != str(len(answer.body)):
        raise Refused(None)  # broken off
    assert answer.body == layer


async def manifest_pulled(world: World) -> None:
    body = world.image("old")
    for reference in ("v1", digest_of(body)):
        answer = await world.ask("GET", f"/v2/{world.name}/manifests/{reference}", 200)
        assert answer.body == body


async def everything_asked_for(world: World) -> None:
    """HEAD and lists; the lease of the blob that nothing refers to is renewed by that."""
    loose = world.bytes_of("loose")
    await world.ask("HEAD", f"/v2/{world.name}/manifests/v1", 200)
    await world.ask("HEAD", f"/v2/{world.name}/blobs/{digest_of(loose)}", 200)
    answer = await world.ask("GET", f"/v2/{world.name}/tags/list", 200)
    assert answer.json["tags"] == ["v1"]
    before = f"{world.name[:-1]}{chr(ord(world.name[-1]) - 1)}~"
    answer = await world.ask("GET", f"/v2/_catalog?n=1&last={before}", 200)
    assert answer.json["repositories"] == [world.name]


async def an_image_and_an_old_blob(world: World) -> None:
    await an_image(world)
    loose = world.bytes_of("loose")
    target = f"/v2/{world.name}/blobs/uploads/?digest={digest_of(loose)}"
    await world.ask("POST", target, 201, body=loose)
    world.clock[0] += 12 * HOUR


async def always(world: World) -> bool:
    return True


# Collecting


async def garbage(world: World) -> None:
    """An untagged image, a blob of its own, and an upload that was abandoned."""
    await an_image_and_an_old_blob(world)
    await world.put(digest_of(world.image("loose")), world.image("loose"))
    await world.ask("POST", f"/v2/{world.name}/blobs/uploads/", 202)
    world.clock[0] += 48 * HOUR


async def collected(world: World) -> None:
    try:
        collector = Collector(
            world.registry.store, untagged=lambda _: 0.0, quarantine=0.0, upload_age=HOUR
        )
        await collector.cycle()
        world.clock[0] += HOUR
        await collector.cycle()
    except OSError:
        raise Refused(None) from None


async def garbage_is_gone(world: World) -> bool:
    rows = await world.registry.store.database.read(
        lambda c: (
            c.all("SELECT 1 FROM links WHERE digest = ?", digest_of(world.bytes_of("loose"))),
            c.all("SELECT 1 FROM manifests WHERE digest = ?", digest_of(world.image("loose"))),
        )
    )
    return rows == ([], [])


SCENARIOS: Final = (
    Scenario(blob_at_once, blob_is_there),
    Scenario(blob_after_post, blob_is_there),
    Scenario(blob_in_chunks, blob_is_there),
    Scenario(blob_tried_again, blob_is_there),
    Scenario(mount, blob_is_there, a_source, source_is_there),
    Scenario(manifest_by_tag, new_at_v1, World.push_blobs),
    Scenario(manifest_with_ten_tags_and_a_subject, ten_tags_and_a_referrer, World.push_blobs),
    Scenario(index_by_tag, index_is_there, an_image, image_is_whole),
    Scenario(tag_moved, v1_is_new, an_image, image_is_whole),
    Scenario(tag_deleted, v1_is_gone, an_image, image_is_whole),
    Scenario(manifest_deleted, image_is_gone, an_image),
    Scenario(blob_deleted, layer_is_gone, an_image),
    Scenario(blob_pulled, always, an_image, image_is_whole),
    Scenario(manifest_pulled, always, an_image, image_is_whole),
    Scenario(everything_asked_for, always, an_image_and_an_old_blob, image_is_whole),
    Scenario(collected, garbage_is_gone, garbage, image_is_whole),
)


def message(answer: Answer) -> str:
    """What a client shows to a person. Raises AssertionError for what is no OCI error."""
    [error] = json.loads(answer.body)["errors"]
    assert set(error) <= {"code", "message", "detail"}
    assert error["code"]
    text = str(error["message"])
    assert text
    assert "Traceback" not in text
    return text
