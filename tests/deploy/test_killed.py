"""A deployer that is killed between any two of its writes: the next one converges.

Each case lets the n-th write of a deployer happen or not happen, and no write after it: that is
what the rows look like after SIGKILL. Then another deployer begins. The first one's instances end
with it, as they do when their supervisor is gone.
"""

from __future__ import annotations

import asyncio

import pytest

from registry.deploy.rollout import Phase
from tests.deploy.deployment import Deployment, eventually, push, saying
from tests.deploy.local_runtime import LocalRuntime
from tests.deploy.mortal import Mortal

# Writes of each scenario, and one more, in which nothing is killed.
FIRST, SECOND, FAILING = range(1, 10), range(1, 11), range(1, 9)


async def until_killed(
    deployment: Deployment, n: int, *, after: bool, done: tuple[int, Phase]
) -> None:
    """Let a deployer work until it is killed, or has done its work before."""
    mortal = Mortal(deployment.journal.database, n, after=after)
    async with deployment.deploying(mortal):

        async def over() -> bool:
            number, phase = done
            found = [each for each in await deployment.revisions() if each.number == number]
            return mortal.dead.is_set() or bool(found and found[0].phase is phase)

        await eventually(over, lambda: "the deployer to be killed")
    # Its process would be gone now, and the lease with it.
    await deployment.journal.database.write(
        lambda connection: connection.execute("DELETE FROM deploy_lease")
    )


async def check_converged(
    deployment: Deployment, runtime: LocalRuntime, number: int, says: str
) -> None:
    await deployment.live(number)
    assert await deployment.ask() == (200, says)

    async def alone() -> bool:
        return len(runtime.running) == 1

    await eventually(alone, lambda: "one instance only")
    revisions = await deployment.revisions()
    assert [each.phase for each in revisions if each.number == number] == [Phase.LIVE]
    for each in revisions[1:]:
        await deployment.until(each.number, Phase.RETIRED)
    app = await deployment.app()
    assert app.live == number
    holds = await deployment.journal.database.read(
        lambda connection: connection.all("SELECT digest FROM holds")
    )
    kept = {revisions[0].digest.text, *(each.digest.text for each in revisions[1:2])}
    assert {digest for (digest,) in holds} == kept


@pytest.mark.parametrize("after", [False, True], ids=["before it happens", "after it happened"])
@pytest.mark.parametrize("n", FIRST)
async def test_a_first_rollout_converges_after_a_kill_at_any_write(
    deployment: Deployment, runtime: LocalRuntime, n: int, after: bool
) -> None:
    await push(deployment.store, saying("one"))
    await until_killed(deployment, n, after=after, done=(1, Phase.LIVE))
    async with deployment.deploying():
        await check_converged(deployment, runtime, 1, "one")


@pytest.mark.parametrize("after", [False, True], ids=["before it happens", "after it happened"])
@pytest.mark.parametrize("n", SECOND)
async def test_a_second_rollout_converges_and_the_first_is_never_missing(
    deployment: Deployment, runtime: LocalRuntime, n: int, after: bool
) -> None:
    async with deployment.deploying():
        await push(deployment.store, saying("one"))
        await deployment.live(1)
    await push(deployment.store, saying("two"))
    await until_killed(deployment, n, after=after, done=(1, Phase.RETIRED))
    app = await deployment.app()
    assert app.live in (1, 2), "a good one is always the one to start"
    async with deployment.deploying():
        await check_converged(deployment, runtime, 2, "two")


@pytest.mark.parametrize("after", [False, True], ids=["before it happens", "after it happened"])
@pytest.mark.parametrize("n", FAILING)
async def test_a_failing_rollout_converges_to_its_reason_and_the_old_one(
    deployment: Deployment, runtime: LocalRuntime, n: int, after: bool
) -> None:
    async with deployment.deploying():
        await push(deployment.store, saying("one"))
        await deployment.live(1)
    await push(deployment.store, saying("two", start="dies"))
    await until_killed(deployment, n, after=after, done=(2, Phase.FAILED))
    async with deployment.deploying():
        failed = await deployment.until(2, Phase.FAILED)
        assert "cannot go on" in failed.reason
        await deployment.live(1)
        assert await deployment.ask() == (200, "one")


async def test_a_database_that_fails_for_a_while_costs_no_instance(
    deployment: Deployment, runtime: LocalRuntime
) -> None:
    """A full disk, for example: what runs goes on, and the rollout is taken up again."""
    mortal = Mortal(deployment.journal.database, 1000, after=False)
    async with deployment.deploying(mortal):
        await deployment.push(saying("one"))
        target = await deployment.live(1)
        mortal.dead.set()
        await deployment.push(saying("two"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert await deployment.ask() == (200, "one")
        mortal.dead.clear()
        await deployment.live(2)
        assert await deployment.ask() == (200, "two")
        assert target.revision == 1
