"""One deployer acts at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.deploy.journal import Journal
from registry.deploy.lease import TTL, Claim, Fenced, Holder, Lease, LeaseLost, may_take
from storage.records.sqlite import SQLite

ME = Holder("machine", 10, 100, "me")
OTHER = Holder("machine", 11, 100, "other")


@pytest.mark.parametrize(
    ("claim", "now", "gone", "expected"),
    [
        pytest.param(None, 0, False, True, id="nobody has it"),
        pytest.param(Claim(ME, 10), 0, False, True, id="mine already"),
        pytest.param(Claim(OTHER, 10), 0, False, False, id="another one acts"),
        pytest.param(Claim(OTHER, 10), 9.9, False, False, id="not yet expired"),
        pytest.param(Claim(OTHER, 10), 10, False, True, id="expired"),
        pytest.param(Claim(OTHER, 10), 0, True, True, id="its process is gone"),
    ],
)
def test_who_may_take_the_lease(
    claim: Claim | None, now: float, gone: bool, expected: bool
) -> None:
    assert may_take(claim, ME, now=now, gone=gone) is expected


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def test_a_process_that_runs_is_not_gone() -> None:
    assert not Holder.here().gone(Holder.here())


def test_a_process_that_ended_is_gone() -> None:
    here = Holder.here()
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert dataclasses.replace(here, pid=process.pid).gone(here)


def test_a_zombie_is_gone() -> None:
    """Killed, and its parent has not looked yet."""
    here = Holder.here()
    process = subprocess.Popen([sys.executable, "-S", "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    started = start_of(process.pid)
    with process.stdout:
        process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert dataclasses.replace(here, pid=process.pid, started=started).gone(here)
    process.wait()


def test_another_process_under_the_same_number_does_not_count() -> None:
    here = Holder.here()
    assert dataclasses.replace(here, started=here.started - 1).gone(here)


def test_nothing_is_known_of_a_process_on_another_machine() -> None:
    here = Holder.here()
    assert not dataclasses.replace(here, machine="elsewhere", pid=1 << 30).gone(here)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SQLite]:
    database = SQLite(tmp_path / "records.db")
    await Journal(database).open()
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease(database: SQLite, clock: Clock) -> tuple[Lease, Holder]:
    holder = Holder.here()
    return Lease(database, holder, clock=clock), holder


async def test_one_takes_it_and_another_does_not(database: SQLite, clock: Clock) -> None:
    one, other = lease(database, clock)[0], lease(database, clock)[0]
    assert await one.take()
    assert not await other.free()
    assert not await other.take()


async def test_it_can_be_taken_when_it_was_released(database: SQLite, clock: Clock) -> None:
    one, other = lease(database, clock)[0], lease(database, clock)[0]
    await one.take()
    await one.release()
    assert await other.free()
    assert await other.take()


async def test_it_can_be_taken_when_it_expired(database: SQLite, clock: Clock) -> None:
    one, other = lease(database, clock)[0], lease(database, clock)[0]
    await one.take()
    clock.now += TTL
    assert await other.take()
    with pytest.raises(LeaseLost):
        await one.renew()


async def test_renewing_puts_the_end_off(database: SQLite, clock: Clock) -> None:
    one, other = lease(database, clock)[0], lease(database, clock)[0]
    await one.take()
    clock.now += TTL - 1
    await one.renew()
    clock.now += 2
    assert not await other.take()


async def test_one_releases_only_its_own(database: SQLite, clock: Clock) -> None:
    one, other = lease(database, clock)[0], lease(database, clock)[0]
    await one.take()
    await other.release()
    assert not await other.free()


async def test_a_killed_holder_on_this_machine_is_not_waited_for(
    database: SQLite, clock: Clock
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", "input()"), stdin=asyncio.subprocess.PIPE
    )
    killed = dataclasses.replace(Holder.here(), pid=process.pid, started=start_of(process.pid))
    assert await Lease(database, killed, clock=clock).take()
    other, _ = lease(database, clock)
    assert not await other.free()
    process.kill()
    await process.wait()
    assert await other.take()


async def test_changes_of_the_holder_happen(database: SQLite, clock: Clock) -> None:
    one, holder = lease(database, clock)
    await one.take()
    changed = await Fenced(database, holder).write(
        lambda connection: connection.execute("UPDATE deploy_cursor SET generation = 5")
    )
    assert changed == 1


async def test_changes_of_others_do_not_happen(database: SQLite, clock: Clock) -> None:
    """A deployer that slept through the loss of its lease must not undo what the next one did."""
    one, holder = lease(database, clock)
    await one.take()
    clock.now += TTL
    await lease(database, clock)[0].take()
    with pytest.raises(LeaseLost):
        await Fenced(database, holder).write(
            lambda connection: connection.execute("UPDATE deploy_cursor SET generation = 5")
        )
    assert await Journal(database).cursor() == 0
