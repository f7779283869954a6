"""Robots: what a secret is, what is kept of it, and when it is over."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.auth.robots import COARSE, RobotRefused, Robots
from registry.auth.scope import Action, Grant
from storage.filesystem.layout import Layout
from storage.records.sqlite import SQLite


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    def __init__(self, layout: Layout, database: SQLite) -> None:
        self.layout = layout
        self.clock = Clock()
        self.robots = Robots(database, clock=self.clock)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    layout = Layout.open(tmp_path / "data")
    database = await SQLite.open(layout)
    one = Scene(layout, database)
    await one.robots.open()
    yield one
    await database.close()


GRANTS = [Grant.parse("acme/*", ["pull", "push"])]


async def test_a_secret_is_shown_once_and_only_its_hash_is_kept(scene: Scene) -> None:
    robot, secret = await scene.robots.create("ci", GRANTS, life=None)
    assert re.fullmatch(r"spt_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}", secret)
    assert robot.hash == hashlib.sha256(secret.encode()).digest()
    kept = b"".join(path.read_bytes() for path in scene.layout.root.glob("records.db*"))
    assert robot.hash in kept
    assert secret.encode() not in kept
    assert secret.rpartition("_")[2].encode() not in kept
    assert secret not in repr(robot)


async def test_a_secret_finds_its_robot_with_what_it_may(scene: Scene) -> None:
    _, secret = await scene.robots.create("ci", GRANTS, life=90 * 86_400)
    await scene.robots.create("other", [], life=None)
    robot = await scene.robots.of_secret(secret)
    assert robot
    assert robot.name == "ci"
    assert robot.grants == tuple(GRANTS)
    assert robot.principal.text == "robot:ci"
    assert robot.principal.grants[0].covers(Action.PUSH, "acme/shop")
    assert robot.principal.bounds is None


async def test_what_is_not_the_secret_finds_nobody(scene: Scene) -> None:
    _, secret = await scene.robots.create("ci", GRANTS, life=None)
    _, other = await scene.robots.create("other", GRANTS, life=None)
    wrong = [
        *("", "spt_", "spt_x_y", secret[:-1], f"{secret}x", f"{secret}\n", secret.upper()),
        f"{secret[:16]}_{other[17:]}",  # one's id with the other's secret
        f"{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        f"{secret[:-1]}é",
        secret.replace(secret[4:16], "' OR '1'='1 "),
    ]
    for text in wrong:
        assert await scene.robots.of_secret(text) is None, text


async def test_a_token_ends_when_it_expires(scene: Scene) -> None:
    _, secret = await scene.robots.create("ci", GRANTS, life=100)
    scene.clock.now += 99
    assert await scene.robots.of_secret(secret)
    assert await scene.robots.of_name("ci")
    scene.clock.now += 1
    assert await scene.robots.of_secret(secret) is None
    assert await scene.robots.of_name("ci") is None


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_revoked_token_ends_at_once_for_every_process(scene: Scene, by: str) -> None:
    robot, secret = await scene.robots.create("ci", GRANTS, life=None)
    beside = await SQLite.open(scene.layout)  # as another worker, or the command
    other = Robots(beside, clock=scene.clock)
    assert await other.of_secret(secret)
    await scene.robots.revoke(robot.id if by == "id" else "ci")
    assert await other.of_secret(secret) is None
    assert await other.of_name("ci") is None
    assert (await other.all())[0].revoked == scene.clock.now
    with pytest.raises(RobotRefused, match="no valid token"):
        await other.revoke("ci")
    await beside.close()


async def test_a_name_has_one_valid_token_at_a_time(scene: Scene) -> None:
    await scene.robots.create("ci", GRANTS, life=100)
    with pytest.raises(RobotRefused, match="has a token"):
        await scene.robots.create("ci", GRANTS, life=100)
    scene.clock.now += 100
    await scene.robots.create("ci", GRANTS, life=100)
    await scene.robots.revoke("ci")
    await scene.robots.create("ci", GRANTS, life=100)
    assert len(await scene.robots.all()) == 3


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "x" * 65, "ci\n", "é"])
async def test_a_name_that_could_be_read_in_two_ways_is_refused(scene: Scene, name: str) -> None:
    with pytest.raises(RobotRefused, match="no name of a robot"):
        await scene.robots.create(name, GRANTS, life=None)


async def test_its_use_is_noted_once_an_hour(scene: Scene) -> None:
    robot, secret = await scene.robots.create("ci", GRANTS, life=None)
    assert scene.robots.unnoted(robot)
    await scene.robots.note(robot)
    again = await scene.robots.of_secret(secret)
    assert again
    assert again.last_used == scene.clock.now
    assert not scene.robots.unnoted(again)
    scene.clock.now += COARSE
    assert scene.robots.unnoted(again)


async def test_the_table_is_sealed_like_every_other(scene: Scene) -> None:
    await scene.robots.create("ci", GRANTS, life=None)
    connection = sqlite3.connect(scene.layout.records)
    assert connection.execute("SELECT seal FROM robots").fetchone()[0]
    connection.close()
