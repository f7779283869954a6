"""The deployer with the runtime that it has by default."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.demo import component
from registry.deploy.rollout import Phase
from registry.deploy.runtimes.wasmtime import EmbeddedRuntime
from tests.deploy.artifacts import Artifact, config_app, layer_app, locked_app
from tests.deploy.deployment import Deployment, eventually, opened


def greeting(text: str) -> Artifact:
    wasm = component(text)
    return layer_app(locked_app(wasm), wasm)


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Deployment]:
    runtime = EmbeddedRuntime(tmp_path / "compiled")
    async with opened(tmp_path / "data", runtime) as deployment:
        yield deployment


async def test_a_component_goes_live_and_its_successor_takes_over(embedded: Deployment) -> None:
    async with embedded.deploying(health_timeout=30.0):
        await embedded.push(greeting("one\n"))
        await embedded.live(1)
        assert await embedded.ask() == (200, "one\n")
        await embedded.push(greeting("two\n"))
        await embedded.live(2)
        assert await embedded.ask() == (200, "two\n")
        await embedded.until(1, Phase.RETIRED)


async def test_a_component_is_started_again_by_the_next_deployer(embedded: Deployment) -> None:
    async with embedded.deploying(health_timeout=30.0):
        await embedded.push(greeting("one\n"))
        await embedded.live(1)
    assert await embedded.ask() == (503, "")
    async with embedded.deploying(health_timeout=30.0):
        await embedded.live(1)
        assert await embedded.ask() == (200, "one\n")


@pytest.mark.parametrize(
    ("wasm", "reason"),
    [(b"not wasm at all", "not"), (b"\0asm\x01\0\0\0", "component")],
    ids=["nonsense", "a core module"],
)
async def test_what_is_no_component_fails_and_the_old_one_serves_on(
    embedded: Deployment, wasm: bytes, reason: str
) -> None:
    async with embedded.deploying(health_timeout=30.0):
        await embedded.push(greeting("one\n"))
        await embedded.live(1)
        await embedded.push(layer_app(locked_app(wasm), wasm))
        failed = await embedded.until(2, Phase.FAILED)
        assert reason in failed.reason
        assert await embedded.ask() == (200, "one\n")


async def test_a_component_of_spin_1_goes_live(embedded: Deployment) -> None:
    wasm = component("old\n")
    async with embedded.deploying(health_timeout=30.0):
        await embedded.push(config_app(locked_app(wasm), wasm))
        await embedded.live(1)

        async def old() -> bool:
            return await embedded.ask() == (200, "old\n")

        await eventually(old, lambda: "the app to answer")
