"""What is pushed by somebody who may not deploy is kept, and does not run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.auth.identity import Kind, Principal
from registry.auth.scope import Grant
from registry.deploy.intake import Intake
from registry.deploy.journal import Journal
from registry.deploy.schemas import SCHEMAS
from registry.deploy.spin import SPIN_APP
from registry.v2 import V2
from storage.filesystem.layout import Layout
from storage.memory import MemoryBlobs
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.asgi import IMAGE, Client, digest_of, image
from tests.registry.auth.granting import Granting, basic, bearer, bounded

SHOP = RepositoryName.parse("acme/shop")
PULL_PUSH = ["pull", "push", "overwrite"]
GATE = Granting(
    {
        "user:pusher": [Grant.parse("acme/*", PULL_PUSH)],
        "user:deployer": [Grant.parse("acme/*", [*PULL_PUSH, "deploy"])],
    },
    {
        # What docker shows: no client asks for more than pull and push.
        "docker": bounded(Principal(Kind.USER, "deployer"), Grant.parse(SHOP.text, PULL_PUSH)),
        "spt_ci": bounded(Principal(Kind.USER, "deployer"), Grant.parse(SHOP.text, PULL_PUSH)),
    },
)


def spin(version: str) -> bytes:
    """The manifest of a Spin application."""
    config = {"mediaType": SPIN_APP, "digest": digest_of(version.encode()), "size": 1}
    return image(config=config)


@dataclass
class Shop:
    client: Client
    store: Store
    journal: Journal
    intake: Intake

    async def push(self, body: bytes, headers: dict[str, str], tag: str = "latest") -> None:
        target = f"/v2/{SHOP}/manifests/{tag}"
        answer = await self.client(
            "PUT", target, body=body, headers={"Content-Type": IMAGE, **headers}
        )
        assert answer.status == 201, answer.body
        await self.intake.take()

    async def revisions(self) -> list[tuple[str, str | None]]:
        """Digest and who pushed it, oldest first."""
        app = await self.journal.app(SHOP)
        found = [] if app is None else await self.journal.revisions(app.id)
        return [(str(revision.digest), revision.pushed_by) for revision in reversed(found)]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    store = await Store.open(await SQLite.open(Layout.open(tmp_path)), MemoryBlobs())
    journal = Journal(store.database)
    await journal.open()
    client = Client(V2(store, moved=lambda: None, gate=GATE))
    yield Shop(client, store, journal, Intake(store, journal, "apps.example"))
    await store.close()


async def test_a_push_of_who_may_deploy_becomes_a_revision(shop: Shop) -> None:
    await shop.push(spin("1"), basic("deployer"))
    assert await shop.revisions() == [(digest_of(spin("1")), "user:deployer")]


async def test_a_push_of_who_may_not_is_kept_and_told_and_does_not_run(shop: Shop) -> None:
    await shop.push(spin("1"), basic("deployer"))
    await shop.push(spin("2"), basic("pusher"))
    assert len(await shop.revisions()) == 1
    answer = await shop.client("GET", f"/v2/{SHOP}/manifests/latest", headers=basic("pusher"))
    assert answer.body == spin("2")
    app = await shop.journal.app(SHOP)
    assert app is not None
    [event, *_] = await shop.journal.events(app.id)
    assert "user:pusher, who may not deploy" in event.detail
    assert digest_of(spin("2")) in event.detail


async def test_it_runs_once_somebody_who_may_pushes_the_same(shop: Shop) -> None:
    await shop.push(spin("1"), basic("pusher"))
    assert await shop.journal.app(SHOP) is None
    await shop.push(spin("1"), basic("deployer"))
    assert await shop.revisions() == [(digest_of(spin("1")), "user:deployer")]


async def test_a_setting_that_changes_does_not_run_what_was_kept(shop: Shop) -> None:
    """It deploys again what was to run, and not what the tag is."""
    await shop.push(spin("1"), basic("deployer"))
    await shop.push(spin("2"), basic("pusher"))
    app = await shop.journal.app(SHOP)
    assert app is not None
    changed = type(app.settings)({"a": "b"})
    await shop.journal.configure(SHOP, changed, "apps.example")
    await shop.journal.redeploy(app.id)
    assert {digest for digest, _ in await shop.revisions()} == {digest_of(spin("1"))}


async def test_with_a_token_to_push_it_is_the_right_of_its_owner_that_counts(shop: Shop) -> None:
    await shop.push(spin("1"), bearer("docker"))
    assert len(await shop.revisions()) == 1


async def test_a_robots_own_token_is_for_what_it_says(shop: Shop) -> None:
    await shop.push(spin("1"), bearer("spt_ci"))
    assert await shop.revisions() == []


async def test_where_nobody_has_to_sign_in_everything_runs(shop: Shop) -> None:
    shop.client = Client(V2(shop.store, moved=lambda: None))
    await shop.push(spin("1"), {})
    assert await shop.revisions() == [(digest_of(spin("1")), None)]


def test_who_pushed_is_shown() -> None:
    assert "pushed_by" in SCHEMAS["Revision"]["properties"]
