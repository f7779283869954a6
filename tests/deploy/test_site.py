"""Turns: a few at a time, and nobody keeps one for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from registry.deploy.runtimes import Limits
from registry.deploy.site import Site
from registry.deploy.staging import Staging
from storage.threads import Threads
from tests.deploy.deployment import Deployment


@pytest.fixture
def site(deployment: Deployment, tmp_path: Path) -> Site:
    return Site(
        store=deployment.store,
        journal=deployment.journal,
        runtime=deployment.runtime,
        routes=deployment.routes,
        staging=Staging(tmp_path / "apps", Threads("test", 1)),
        limits=Limits(),
        workers=1,
        health_timeout=1.0,
        drain_timeout=1.0,
        busy=asyncio.Semaphore(1),
    )


async def test_a_turn_is_waited_for(site: Site) -> None:
    async with site.turn():
        assert site.busy.locked()
    assert not site.busy.locked()


async def test_a_turn_that_takes_long_is_given_back_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.deploy.site.TURN", 0.0)
    async with site.turn(), site.turn():
        pass
    monkeypatch.setattr("registry.deploy.site.TURN", 3600.0)
    async with site.turn():
        assert site.busy.locked()
