"""Hands to write rows of deployment with, without a deployer."""

from __future__ import annotations

from registry.deploy.apps import Revision
from registry.deploy.journal import Journal
from registry.deploy.rollout import (
    Accepted,
    Answering,
    Launched,
    Proven,
    Staged,
)
from storage.digest import SHA256, Digest
from storage.names import RepositoryName, Tag
from storage.records.database import Row
from storage.store import Move

HELLO = RepositoryName.parse("demo/hello")
DOMAIN = "apps.example"
A, B, C = (SHA256.digest(text) for text in (b"a", b"b", b"c"))


class Clock:
    """Seconds since 1970, one later each time somebody looks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def move(
    generation: int,
    digest: Digest | None,
    *,
    tag: str = "latest",
    repository: RepositoryName = HELLO,
) -> Move:
    return Move(generation, repository, Tag.parse(tag), digest, 0.0)


async def admit(journal: Journal, generation: int, digest: Digest) -> Revision:
    revision = await journal.admit(move(generation, digest), DOMAIN)
    assert revision is not None
    return revision


async def checked(journal: Journal, revision: Revision, name: str = "hello") -> Revision:
    """Up to the last phase before it is live."""
    for observation in (Accepted(name), Staged(), Launched(), Answering()):
        revision = await journal.advance(revision, observation)
    return revision


async def bring_live(journal: Journal, generation: int, digest: Digest) -> Revision:
    revision = await checked(journal, await admit(journal, generation, digest))
    return await journal.advance(revision, Proven())


async def phases(journal: Journal) -> list[tuple[int, str]]:
    app = await journal.app(HELLO)
    assert app is not None
    return [(each.number, each.phase.value) for each in await journal.revisions(app.id)]


async def details(journal: Journal) -> list[str]:
    app = await journal.app(HELLO)
    assert app is not None
    return [event.detail for event in await journal.events(app.id)]


async def holds(journal: Journal) -> list[Row]:
    return await journal.database.read(
        lambda connection: connection.all(
            "SELECT repository_name, digest, holder, reason FROM holds ORDER BY digest, holder"
        )
    )
