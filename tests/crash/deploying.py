"""A Spin application is pushed while the deployer is killed; another one begins after it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from registry.deploy.rollout import Phase
from registry.deploy.routes import HostUnknown
from registry.deploy.runtimes import Address, Workload
from storage.digest import Digest
from storage.names import Tag
from tests.asgi import digest_of
from tests.crash.journal import Event, Writer
from tests.crash.oracle import Thing, possible
from tests.crash.steps import Steps
from tests.crash.world import Pusher, World, opened
from tests.deploy.artifacts import Artifact
from tests.deploy.deployment import HELLO, Deployment, eventually, saying

ONE, TWO = saying("one"), saying("two")
SAYS = {digest_of(app.body()): word for app, word in ((ONE, "one"), (TWO, "two"))}


class Instance:
    """A server in this process, with which it ends: as one does whose supervisor is killed."""

    def __init__(self, socket: Path) -> None:
        self.address = Address(unix=socket)
        self.ended = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def stop(self, grace: float) -> None:
        if self.server is not None and not self.ended.is_set():
            self.server.close()
            self.address.unix.unlink(missing_ok=True)  # type: ignore[union-attr]
        self.ended.set()

    async def wait(self) -> str:
        await self.ended.wait()
        return "it was stopped"


class Within:
    """A runtime whose instances cost no process; what they say is their "Wasm"."""

    name = "within"

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._numbers = itertools.count()
        self.instances: list[Instance] = []

    @property
    def running(self) -> list[Instance]:
        return [instance for instance in self.instances if not instance.ended.is_set()]

    async def refuse(self, locked: Mapping[str, Any], wasm: Mapping[str, Path]) -> str | None:
        return None

    async def prepare(self, workload: Workload) -> None:
        pass

    async def start(self, workload: Workload) -> Instance:
        locked = json.loads(workload.lock.read_bytes())
        source = locked["components"][0]["source"]["source"].removeprefix("file://")
        says = json.loads(Path(source).read_bytes())["says"]
        metadata = locked["metadata"]
        bodies = {
            "/.well-known/spin/health": "OK",
            "/.well-known/spin/info": json.dumps(
                {name: metadata[name] for name in ("name", "oci_image_digest")}
            ),
        }

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).split()
                body = bodies.get(head[1].decode(), says).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
            writer.close()

        instance = Instance(self._sockets / f"{next(self._numbers)}.sock")
        instance.server = await asyncio.start_unix_server(answer, instance.address.unix)
        self.instances.append(instance)
        return instance

    async def close(self) -> None:
        for instance in self.instances:
            await instance.stop(0)


@asynccontextmanager
async def _deployment(world: World) -> AsyncIterator[tuple[Deployment, Within]]:
    """With a deployer at work."""
    sockets = world.records.layout.root.parent / "sockets"
    sockets.mkdir(exist_ok=True)
    for left in sockets.iterdir():
        left.unlink()
    runtime = Within(sockets)
    store = world.records.store
    deployment = Deployment(world.records.layout, store.database, store, runtime)
    try:
        async with deployment.deploying():
            yield deployment, runtime
    finally:
        await runtime.close()


async def _push(pusher: Pusher, artifact: Artifact) -> None:
    for data in artifact.blobs.values():
        await pusher.post_blob(HELLO, data)
    await pusher.put_manifest(HELLO, artifact.body(), "latest")


async def deployed(root: Path, journal: Writer) -> None:
    """The first one is live."""
    async with opened(root) as world, _deployment(world) as (deployment, _):
        await _push(Pusher(world, journal), ONE)
        await deployment.live(1)


async def roll_out(root: Path, journal: Writer, steps: Steps) -> None:
    """The second one takes its place."""
    async with opened(root) as world:
        steps.begin(journal.dies)
        async with _deployment(world) as (deployment, _):
            await _push(Pusher(world, journal), TWO)
            assert deployment.deployer is not None
            deployment.deployer.wake()
            await deployment.live(2)
            await deployment.until(1, Phase.RETIRED)
            steps.taken("the end", lambda: None)


async def check(root: Path, events: list[Event]) -> list[str]:
    """What is wrong after a new deployer has begun: it has to come to what the tag says now."""
    wrong: list[str] = []
    async with opened(root) as world:
        repository = world.records.store.repository((await _app(world)).repository)
        wanted = (await repository.stat_manifest(Tag("latest"))).digest
        allowed = possible(events)[Thing("tag", HELLO, "latest")]
        if wanted.text not in allowed:
            wrong.append(f"the tag is {wanted}, and may be {allowed}")
        if not (await _app(world)).live:
            wrong.append("nothing is live, and there was a good revision")
        async with _deployment(world) as (deployment, runtime):
            wrong += await _converges(deployment, runtime, wanted)
    return wrong


async def _app(world: World) -> Any:
    [app] = await world.records.journal.apps()
    return app


async def _converges(deployment: Deployment, runtime: Within, wanted: Digest) -> list[str]:
    wrong: list[str] = []
    host = (await deployment.app()).host
    seen = False

    async def there() -> bool:
        nonlocal seen
        target = None
        with contextlib.suppress(HostUnknown):  # the deployer has not looked yet
            target = deployment.routes.resolve(host)
        if seen and target is None:
            wrong.append("nothing was live for a while, after something was")
        seen = seen or target is not None
        app, revisions = await deployment.app(), await deployment.revisions()
        newest = revisions[0]
        if newest.digest == wanted and newest.phase.final and newest.phase is not Phase.LIVE:
            raise AssertionError(f"the revision that the tag names ended: {newest}")
        others = [each for each in revisions[1:] if not each.phase.final]
        live = target is not None and target.digest == wanted and app.live == newest.number
        return live and not others and len(runtime.running) == 1

    await eventually(there, lambda: f"{wanted} to be live")
    answer = await deployment.ask()
    if answer != (200, SAYS[wanted.text]):
        wrong.append(f"{wanted} is live, and answers {answer}")
    app = await deployment.app()
    numbers = {str(number) for number in (app.live, app.previous) if number}

    async def swept() -> bool:
        return await deployment.staged() == numbers

    await eventually(swept, lambda: f"only {numbers} to be staged")
    holds = await deployment.journal.database.read(lambda c: c.all("SELECT digest FROM holds"))
    kept = {
        each.digest.text for each in await deployment.revisions() if str(each.number) in numbers
    }
    if {digest for (digest,) in holds} != kept:
        wrong.append(f"{holds} are held, and {kept} should be")
    return wrong
