"""What the clients do while the registry is killed, and what they find when they begin."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.asgi import descriptor, index
from tests.crash import deploying, older
from tests.crash.journal import Event, Kind, Request, Writer
from tests.crash.steps import Steps
from tests.crash.world import GRACE, QUARANTINE, UPLOAD_AGE, Pusher, World, layered, opened

SHOP, OTHER = "acme/shop", "acme/other"
TAGS: Final = tuple(f"t{number}" for number in range(10))

CONFIG = b"{}"
LAYER = b"a layer of more than one piece"
LOOSE = b"a blob that no manifest names"
GONE = b"a blob of which only the bytes are left"
NEW = b"the layer that a client brings, in several pieces"
ONE = layered("one", LAYER)
TWO = layered("two", LAYER)
UNTAGGED = layered("untagged", CONFIG)
SIGNATURE = layered("signature", subject=descriptor(ONE))

Part = Callable[[Pusher, World], Awaitable[None]]


async def _stock(pusher: Pusher, world: World) -> None:
    for blob in (CONFIG, LAYER, LOOSE, GONE):
        await pusher.post_blob(SHOP, blob)
    await pusher.put_manifest(SHOP, ONE, "one")
    await pusher.put_manifest(SHOP, TWO, "latest", *TAGS[:3])
    await pusher.put_manifest(SHOP, UNTAGGED)
    await pusher.put_manifest(SHOP, SIGNATURE, "signature")
    await pusher.delete_blob(SHOP, GONE)
    await pusher.leave_upload(SHOP, b"never finished")


# One client


async def _post(pusher: Pusher, _: World) -> None:
    await pusher.post_blob(SHOP, NEW)


async def _put(pusher: Pusher, _: World) -> None:
    await pusher.put_blob(SHOP, last=NEW)


async def _chunks(pusher: Pusher, _: World) -> None:
    await pusher.put_blob(SHOP, NEW[:10], NEW[10:30], NEW[30:40], last=NEW[40:])


async def _sha512(pusher: Pusher, _: World) -> None:
    await pusher.put_blob(SHOP, NEW[:20], last=NEW[20:], algorithm="sha512")
    await pusher.post_blob(OTHER, LAYER, algorithm="sha512")


async def _mount(pusher: Pusher, _: World) -> None:
    assert await pusher.mount(OTHER, SHOP, LAYER)
    assert not await pusher.mount(OTHER, SHOP, NEW)


async def _first_push(pusher: Pusher, _: World) -> None:
    """As clients push an image: what is missing, then the manifest with its tag."""
    for blob in (CONFIG, NEW):
        if not await pusher.has_blob(OTHER, blob):
            await pusher.put_blob(OTHER, last=blob)
    await pusher.put_manifest(OTHER, layered("new", NEW), "latest")


async def _by_digest(pusher: Pusher, _: World) -> None:
    await pusher.put_manifest(SHOP, layered("by digest", LAYER), by_digest=True)
    await pusher.put_manifest(SHOP, layered("and a tag", LAYER), "by-digest", by_digest=True)


async def _ten_tags(pusher: Pusher, _: World) -> None:
    """Three of them are somewhere else before."""
    await pusher.put_manifest(SHOP, layered("ten", LAYER, subject=descriptor(ONE)), *TAGS)


async def _index(pusher: Pusher, _: World) -> None:
    children = [layered("amd64", LAYER), layered("arm64", LAYER)]
    for child in children:
        await pusher.put_manifest(SHOP, child)
    await pusher.put_manifest(SHOP, index(manifests=[*map(descriptor, children)]), "index")


async def _move_tag(pusher: Pusher, _: World) -> None:
    await pusher.put_manifest(SHOP, layered("first", LAYER), "latest")
    await pusher.put_manifest(SHOP, ONE, "latest")


async def _delete_tag(pusher: Pusher, _: World) -> None:
    await pusher.delete_tag(SHOP, "latest")
    await pusher.delete_tag(SHOP, "one")


async def _delete_manifest(pusher: Pusher, _: World) -> None:
    """One has four tags, the other a referrer."""
    await pusher.delete_manifest(SHOP, TWO)
    await pusher.delete_manifest(SHOP, ONE)


async def _delete_blob(pusher: Pusher, _: World) -> None:
    await pusher.delete_blob(SHOP, LOOSE)
    await pusher.post_blob(SHOP, LOOSE)
    await pusher.delete_blob(SHOP, LOOSE)


async def _push_again(pusher: Pusher, _: World) -> None:
    await pusher.post_blob(SHOP, LAYER)
    await pusher.put_blob(SHOP, last=LOOSE)
    await pusher.put_manifest(SHOP, TWO, "latest")


async def _collect(pusher: Pusher, world: World) -> None:
    """First rows, then bytes, then the upload that nobody finished."""
    for ahead in (2 * GRACE, 2 * QUARANTINE, 2 * GRACE, 2 * UPLOAD_AGE):
        world.clock.ahead += ahead
        await pusher.collect(SHOP, [LOOSE, UNTAGGED])


async def _collected(pusher: Pusher, world: World) -> None:
    """What was just collected comes back: once with its bytes still there, once without."""
    world.clock.ahead += 2 * GRACE
    await pusher.collect(SHOP, [LOOSE])
    await pusher.post_blob(SHOP, LOOSE)
    world.clock.ahead += 2 * QUARANTINE
    await pusher.collect(SHOP, [])
    await pusher.post_blob(SHOP, GONE)
    await pusher.put_manifest(SHOP, layered("again", LOOSE, GONE), "again")


async def _strays(pusher: Pusher, world: World) -> None:
    """Bytes to which no row leads, as a crash leaves them, are found and go."""
    await world.records.store.database.write(lambda c: c.execute("DELETE FROM trash"))
    await world.look_for_strays()
    world.clock.ahead += 2 * QUARANTINE
    await pusher.collect(SHOP, [])


# Several clients at once, of which a seed chooses two


async def _late(world: World) -> None:
    world.clock.ahead = 2 * GRACE  # what was loose in the beginning may go at any time


async def _trusting(pusher: Pusher, _: World) -> None:
    """A client that sends no blob that it was told is there."""
    if not await pusher.has_blob(SHOP, LOOSE):
        await pusher.post_blob(SHOP, LOOSE)
    await pusher.put_manifest(SHOP, layered("trusting", LOOSE), "trusting", "latest")


async def _healing(pusher: Pusher, _: World) -> None:
    await pusher.post_blob(SHOP, GONE)
    await pusher.put_manifest(SHOP, layered("healing", GONE), "healing")


async def _collecting(pusher: Pusher, world: World) -> None:
    await pusher.collect(SHOP, [LOOSE])
    await pusher.collect(SHOP, [LOOSE])


async def _same_blob(pusher: Pusher, _: World) -> None:
    await pusher.put_blob(SHOP, NEW[:20], last=NEW[20:])


async def _racing(pusher: Pusher, _: World) -> None:
    await pusher.put_manifest(SHOP, layered("racing", LAYER), "latest", *TAGS[:4])


async def _deleting(pusher: Pusher, _: World) -> None:
    await pusher.delete_manifest(SHOP, TWO)
    await pusher.delete_blob(SHOP, LOOSE)


async def _tagging(pusher: Pusher, _: World) -> None:
    await pusher.put_manifest(SHOP, ONE, "latest")
    await pusher.delete_tag(SHOP, "latest")
    await pusher.put_manifest(SHOP, TWO, "latest")


PARTS: Final[tuple[Part, ...]] = (
    *(_trusting, _healing, _collecting, _same_blob, _racing, _deleting, _tagging),
    *(_first_push, _ten_tags, _index, _mount),
)


@dataclass(frozen=True)
class Scenario:
    """`prepare` fills a data directory; `run` is what is killed, in a process of its own."""

    name: str
    run: Callable[[Path, Writer, Steps], Awaitable[None]]
    prepare: Callable[[Path, Writer], Awaitable[None]] | None
    seed: int | None = None
    """Of the order in which several clients take their turns."""
    first: Callable[[Path, list[Event]], Awaitable[list[str]]] | None = None
    """What else to look at, before all else is."""
    outside: bool = False
    """It also works past the seam."""
    timed: bool = False
    """It waits for time to pass, so no two runs of it have quite the same steps."""
    stride: int = 1
    """In the short form only every so many-th step, since each takes long."""

    def __str__(self) -> str:
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


async def stocked(root: Path, journal: Writer) -> None:
    async with opened(root) as world:
        await _stock(Pusher(world, journal), world)


def _of(*parts: Part) -> Callable[[Path, Writer, Steps], Awaitable[None]]:
    """Opens the registry, and counts steps from then on; several parts are clients at once."""

    async def run(root: Path, journal: Writer, steps: Steps) -> None:
        async with opened(root) as world:
            if len(parts) > 1:
                await _late(world)
            steps.begin(journal.dies)
            await asyncio.gather(*(part(Pusher(world, journal), world) for part in parts))
            steps.taken("the end", lambda: None)

    return run


def _in_turn(*parts: Part) -> Part:
    async def run(pusher: Pusher, world: World) -> None:
        for part in parts:
            await part(pusher, world)

    return run


async def _start(root: Path, journal: Writer, steps: Steps) -> None:
    steps.begin(journal.dies)
    number = journal.begin(Request(Kind.START))
    async with opened(root):
        journal.end(number, done=True)
        steps.taken("the end", lambda: None)


SINGLE: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("first start", _start, None, stride=2),
        Scenario("second start", _start, stocked),
        Scenario("migration", _start, older.stocked),
        Scenario(
            *("deployment", deploying.roll_out, deploying.deployed),
            first=deploying.check,
            outside=True,
            timed=True,
            stride=3,
        ),
        *(
            Scenario(name, _of(part), stocked)
            for name, part in {
                "blob by POST": _post,
                "blob by POST and PUT": _put,
                "blob in chunks": _chunks,
                "sha512 blobs": _sha512,
                "mount": _mount,
                "first push of an image": _first_push,
                "manifest by digest": _by_digest,
                "ten tags and a subject": _ten_tags,
                "index": _index,
                "tag move": _move_tag,
                "tag delete": _delete_tag,
                "manifest delete": _delete_manifest,
                "blob delete": _delete_blob,
                "push again": _push_again,
                "collection": _collect,
                "push of what was collected": _collected,
                "strays": _strays,
            }.items()
        ),
    )
}

# All in a row, for strace in its short form.
DAY: Final = Scenario(
    "a day", _of(_in_turn(_first_push, _ten_tags, _move_tag, _delete_manifest, _collected)), stocked
)


def named(name: str) -> Scenario:
    """By its name; a pair by its seed."""
    if name.isdecimal():
        return pair(int(name))
    return DAY if name == DAY.name else SINGLE[name]


def pair(seed: int) -> Scenario:
    """Two clients at once, and the order of their turns: another one for every seed."""
    first, second = random.Random(seed).sample(PARTS, 2)
    names = f"{first.__name__.strip('_')} and {second.__name__.strip('_')}"
    return Scenario(names, _of(first, second), stocked, seed)
