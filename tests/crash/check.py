"""What a new process finds after a death, held against the promises D1-D7.

Everything is asked of the registry as a client asks; then the rows and the files are looked at by
themselves. After that everything that nothing keeps is collected: what is still there then is a
leak, and what is not there any more but needed was only kept by chance. In the end every push is
done once more.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import stat
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import asgi
from tests.asgi import Answer, digest_of
from tests.crash.files import files_below
from tests.crash.journal import Event, Kind, Request
from tests.crash.oracle import Thing, possible
from tests.crash.reach import blobs_of, reached
from tests.crash.scenarios import Scenario
from tests.crash.world import (
    GRACE,
    QUARANTINE,
    UNTAGGED,
    UPLOAD_AGE,
    World,
    layered,
    manifest_target,
    opened,
)

ROOT = {"layout.json", "layout.json.new", "records.db", "records.db-wal", "records.db-shm"}
ROOMS = {"blobs", "uploads", "quarantine", "reserve", "apps", "compiled"}
LATER = 1e4  # seconds: all that a scenario did is long ago
LONG = 3 * (GRACE + QUARANTINE + UNTAGGED + UPLOAD_AGE)

IMAGE = layered("after the death")
ANOTHER = (
    Request(Kind.BLOB, "acme/later", digest_of(b"{}"), "{}"),
    Request(Kind.MANIFEST, "acme/later", digest_of(IMAGE), IMAGE.decode(), asgi.IMAGE, ("now",)),
)


@dataclass
class Check:
    """Asks, and keeps what is wrong."""

    root: Path
    world: World
    events: list[Event]
    records: sqlite3.Connection
    wrong: list[str] = field(default_factory=list)
    there: dict[Thing, str | None] = field(default_factory=dict)
    """What was found, of all that a client may know."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The last one to each GET."""
    kept: dict[str, int] = field(default_factory=dict)
    """The blobs on the disk after the death, with their sizes in bytes."""

    async def everything(self) -> list[str]:
        self.records_are_sound()
        await self.what_is_known()
        self.states_are_possible()
        self.nothing_is_half_done()
        self.tags_are_where_they_moved_last()
        await self.whole()
        self.files()
        await self.uploads_go_on()
        await self.no_leaks()
        await self.again()
        return self.wrong

    def say(self, sentence: str) -> None:
        self.wrong.append(sentence)

    def rows(self, statement: str) -> list[Any]:
        return self.records.execute(statement).fetchall()

    def records_are_sound(self) -> None:
        if (found := self.rows("PRAGMA integrity_check")) != [("ok",)]:
            self.say(f"the database is damaged: {found}")
        if found := self.rows("PRAGMA foreign_key_check"):
            self.say(f"rows lead to nothing: {found}")

    # As clients see it

    async def get(self, target: str, expected: bytes | None = None) -> Answer:
        """An answer of 200 or 404 whose bytes are right. Everything else is wrong."""
        answer = await self.world.client.ask("GET", target)
        assert answer is not None
        if answer.status not in (200, 404):
            self.say(f"{target} is answered with {answer.status}: {answer.body!r}")
        elif answer.status == 200:
            named = answer.header("docker-content-digest") or ""
            if digest_of(answer.body, named.partition(":")[0] or "sha256") != named:
                self.say(f"{target} has bytes that are not those of {named}")
            if expected is not None and answer.body != expected:
                self.say(f"{target} has other bytes than were pushed")
        head = await self.world.client.ask("HEAD", target)
        if head is None or head.status != answer.status:
            self.say(f"{target} is {answer.status} for GET, and for HEAD it is {head}")
        self.answers[target] = answer
        return answer

    async def what_is_known(self) -> None:
        bodies = {digest: body for event in self.events for digest, body in _content(event)}
        for thing in possible(self.events):
            kind, repository, name = thing
            place = "blobs" if kind == "blob" else "manifests"
            answer = await self.get(f"/v2/{repository}/{place}/{name}", bodies.get(name))
            found = answer.header("docker-content-digest") if answer.status == 200 else None
            self.there[thing] = found
            if kind == "tag" and found is not None and answer.body != bodies.get(found):
                self.say(f"tag {name} has bytes that nobody pushed")
        for repository in {thing.repository for thing in self.there}:
            await self.are_listed(repository)
        for event in self.events:
            if event.request.kind is Kind.MANIFEST and event.request.subject:
                await self.refers(event.request)

    async def are_listed(self, repository: str) -> None:
        """The tags of a repository are those that can be fetched."""
        there = {
            name
            for (kind, where, name), found in self.there.items()
            if kind == "tag" and where == repository and found is not None
        }
        answer = await self.world.client("GET", f"/v2/{repository}/tags/list")
        listed = set(answer.json["tags"]) if answer.status == 200 else set()
        if listed != there:
            self.say(f"in {repository} {listed} are listed, and {there} are there")

    async def refers(self, request: Request) -> None:
        """A manifest with a subject is there if and only if it is among the referrers."""
        target = f"/v2/{request.repository}/referrers/{request.subject}"
        answer = await self.world.client("GET", target)
        listed = [each["digest"] for each in answer.json["manifests"]]
        thing = Thing("manifest", request.repository, request.digest)
        there = self.there.get(thing) is not None
        if there != (request.digest in listed):
            self.say(f"{request.digest} is {there=}, and the referrers are {listed}")

    def states_are_possible(self) -> None:
        for thing, states in possible(self.events).items():
            if self.there[thing] not in states:
                self.say(f"{thing} is {self.there[thing]}, and may be {states}")

    def nothing_is_half_done(self) -> None:
        """D5, of a request that nobody interfered with: all that it does was done, or nothing."""
        for event in self.events:
            request = event.request
            if not event.open or any(_interferes(each, event) for each in self.events):
                continue
            where, digest = request.repository, request.digest
            before = possible(each for each in self.events if each.began < event.began)
            things = {Thing("tag", where, tag) for tag in request.tags}
            if request.kind is Kind.DELETE_MANIFEST:
                things = {thing for thing, states in before.items() if digest in states}
            elif request.kind is not Kind.MANIFEST:
                continue
            if len({self.there[thing] == digest for thing in things}) > 1:
                self.say(f"half of this was done: {request.kind} {digest}, {things}")

    # By itself

    def tags_are_where_they_moved_last(self) -> None:
        """What the deployer reads is what clients see."""
        moved = {
            (name, tag): digest
            for name, tag, digest in self.rows(
                "SELECT name, tag, digest FROM tag_moves JOIN repositories ON id = repository"
                " ORDER BY generation"
            )
        }
        tags = {
            (name, tag): digest
            for name, tag, digest in self.rows(
                "SELECT r.name, t.name, t.digest FROM tags AS t JOIN repositories AS r"
                " ON r.id = t.repository"
            )
        }
        if {key: digest for key, digest in moved.items() if digest} != tags:
            self.say(f"the tags are {tags}, and the last moves {moved}")

    async def whole(self) -> None:
        """D3: whatever manifest there is, everything in it can be fetched."""
        for repository, digest, body in self.rows(
            "SELECT name, digest, body FROM manifests JOIN repositories ON id = repository"
        ):
            manifest = json.loads(body)
            parts = [("blobs", part) for part in blobs_of(manifest)]
            parts += [("manifests", part) for part in manifest.get("manifests", [])]
            for place, part in parts:
                target = f"/v2/{repository}/{place}/{part['digest']}"
                answer = self.answers.get(target) or await self.get(target)
                if answer.status == 404 and part["digest"] in self.deleted():
                    continue
                if answer.status != 200 or len(answer.body) != part["size"]:
                    self.say(f"{digest} is not whole: {part['digest']} is {answer.status}")

    def deleted(self) -> set[str]:
        """Blobs that a client deleted, perhaps while another one relied on them: its own choice."""
        return {
            event.request.digest for event in self.events if event.request.kind is Kind.DELETE_BLOB
        }

    def files(self) -> None:
        """Every file is where it belongs, and right; every row of a blob has its file."""
        names = {path.name for path in self.root.iterdir()}
        if strange := names - ROOT - ROOMS:
            self.say(f"in the data directory there are {strange}")
        if aside := sorted(path.name for path in (self.root / "quarantine").iterdir()):
            self.say(f"put aside, as if damaged: {aside}")
        self.kept = dict(self.blobs())
        for digest, size in self.rows("SELECT digest, size FROM links"):
            if self.kept.get(digest) != size:
                self.say(f"the file of {digest} has {self.kept.get(digest)} bytes and not {size}")
        uploads = sorted(path.name for path in (self.root / "uploads").iterdir())
        if strange := [name for name in uploads if not re.fullmatch("[0-9a-f]{64}", name)]:
            self.say(f"among the uploads there are {strange}")
        unfinished = sum(
            each.request.kind is Kind.LEAVE
            or (each.open and each.request.kind in (Kind.BLOB, Kind.MOUNT))
            for each in self.events
        )
        if len(uploads) > unfinished:
            self.say(f"{len(uploads)} uploads are left, of {unfinished} unfinished ones")

    def blobs(self) -> Iterable[tuple[str, int]]:
        """What lies among the blobs: (digest, size in bytes)."""
        for path in files_below(self.root / "blobs"):
            algorithm, directory, name = path.parts[-3:]
            data = path.read_bytes()
            if name != hashlib.new(algorithm, data).hexdigest() or directory != name[:2]:
                self.say(f"{path} has other bytes than it says")
            yield f"{algorithm}:{name}", len(data)

    # What can be done now

    async def uploads_go_on(self) -> None:
        """What was acknowledged of an upload is there, and its client can finish it."""
        for event in self.events:
            if not event.open or not event.session:
                continue
            request = event.request
            status = await self.world.client("GET", event.session)
            if status.status != 204:
                # Its last request, which was not answered, may have made a blob of it; or it was
                # killed before its sync ended, and is not believed any more.
                if request.digest not in self.kept and not self.sealed():
                    self.say(f"an upload of {event.kept} bytes is gone: {status.status}")
                continue
            last = int((status.header("range") or "").partition("-")[2])
            kept = last + 1 if last else 0  # no piece is a single byte
            if kept < event.kept:
                self.say(f"of {event.kept} bytes that were acknowledged {kept} are left")
            answer = await self.world.client(
                *("PUT", f"{event.session}?digest={request.digest}"),
                body=request.body[kept:] or None,
            )
            if answer.status != 201:
                self.say(f"an upload cannot be finished: {answer.status} {answer.body!r}")

    def sealed(self) -> bool:
        """Whether there is an upload that nobody may write any more."""
        uploads = (self.root / "uploads").iterdir()
        return any(not path.stat().st_mode & stat.S_IWUSR for path in uploads)

    async def again(self) -> None:
        """Every push once more, whatever became of it, and another one."""
        pushed = {}
        for request in (*(event.request for event in self.events if event.began > 0), *ANOTHER):
            match request.kind:
                case Kind.BLOB | Kind.MOUNT:
                    target = f"/v2/{request.repository}/blobs/uploads/?digest={request.digest}"
                    answer = await self.world.client("POST", target, body=request.body)
                case Kind.MANIFEST:
                    answer = await self.world.client(
                        *("PUT", manifest_target(request)),
                        body=request.body,
                        headers={"Content-Type": request.media_type},
                    )
                case _:
                    continue
            if answer.status != 201:
                self.say(f"{request.kind.value} again is answered with {answer.status}")
            place = "manifests" if request.kind is Kind.MANIFEST else "blobs"
            pushed[f"/v2/{request.repository}/{place}/{request.digest}"] = request.body
        for target, body in pushed.items():
            if (await self.get(target, body)).status != 200:
                self.say(f"{target} is not there though it was pushed again")

    async def no_leaks(self) -> None:
        """With every garbage collected, each file has a row, and each row is needed."""
        if self.strays():
            await self.world.look_for_strays()
        if lost := self.strays():
            self.say(f"nobody would ever remove {lost}")
        tags = self.rows("SELECT * FROM tags ORDER BY repository, name")
        self.world.clock.ahead += LONG
        while await self.world.collect():
            self.world.clock.ahead += LONG
        if self.rows("SELECT * FROM tags ORDER BY repository, name") != tags:
            self.say(f"a collection took tags, of {tags}")
        needed = self.needed()
        left = {digest for digest, _ in self.blobs()}
        if left - needed or needed - left - self.deleted():
            self.say(f"{left - needed} are left, and {needed - left} are gone, in the end")
        if found := self.rows("SELECT * FROM trash"):
            self.say(f"the quarantine is not empty in the end: {found}")
        if found := sorted(path.name for path in (self.root / "uploads").iterdir()):
            self.say(f"uploads are left in the end: {found}")
        self.answers.clear()
        await self.whole()  # what only seemed to be needed by nothing is gone now

    def needed(self) -> set[str]:
        """The blobs of all manifests, each of which has to be needed itself."""
        manifests = {
            (where, digest): json.loads(body)
            for where, digest, body in self.rows("SELECT repository, digest, body FROM manifests")
        }
        roots = self.rows(
            "SELECT repository, digest FROM tags UNION SELECT id, digest FROM holds"
            " JOIN repositories ON name = repository_name"
        )
        if left := manifests.keys() - reached(roots, manifests):
            self.say(f"these manifests are left, and nothing keeps them: {left}")
        return {part["digest"] for each in manifests.values() for part in blobs_of(each)}

    def strays(self) -> set[str]:
        """Blobs without a row, of those that were there after the death."""
        known = self.rows("SELECT digest FROM links UNION SELECT digest FROM trash")
        return self.kept.keys() - {digest for (digest,) in known}


def _content(event: Event) -> Iterable[tuple[str, bytes]]:
    if event.request.digest and event.request.content:
        yield event.request.digest, event.request.body


def _interferes(each: Event, event: Event) -> bool:
    """Whether it was done at the same time, in the same repository, to tags or manifests."""
    if each is event or each.request.kind in (Kind.BLOB, Kind.MOUNT, Kind.DELETE_BLOB, Kind.START):
        return False
    same = each.request.repository == event.request.repository
    return same and (each.open or (each.ended or 0) > event.began)


async def check(root: Path, scenario: Scenario, events: list[Event]) -> list[str]:
    """What is wrong, in sentences."""
    wrong = await scenario.first(root, events) if scenario.first else []
    async with opened(root, ahead=LATER) as world:
        with closing(sqlite3.connect(root / "records.db")) as records:
            return wrong + await Check(root, world, events, records).everything()
