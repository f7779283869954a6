"""One deployer acts at a time, by a row that it renews.

Time is that of the machines' clocks, so `TTL` is long beside what clocks differ. A deployer that
was killed need not be waited for by another one on its machine: there the process can be looked up.
Whoever lost the lease without noticing is stopped by `Fenced`: its changes look at the row first.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from registry.deploy.tables import real, text, whole
from storage.records.database import Connection, Database, Step

T = TypeVar("T")

TTL = 15.0  # seconds without renewal until anybody may take it
RENEWAL = 4.0  # seconds; three may fail


class LeaseLost(Exception):
    """Another deployer acts now."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A deployer, as another one can recognise it."""

    machine: str
    """A boot of a kernel and a namespace of process ids: where `pid` means something."""
    pid: int
    started: int
    """When the process began, in ticks since boot: process ids are used again."""
    token: str
    """Random: one process may have several deployers one after the other."""

    @staticmethod
    def here() -> Holder:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # Containers share the boot, but not the numbers of their processes.
        namespace = os.readlink("/proc/self/ns/pid")
        pid = os.getpid()
        return Holder(f"{boot} {namespace}", pid, _started(pid) or 0, secrets.token_hex(16))

    def gone(self, me: Holder) -> bool:
        """Whether its process has certainly ended, as seen from `me`, which runs here."""
        return self.machine == me.machine and _started(self.pid) != self.started


@dataclass(frozen=True, slots=True)
class Claim:
    holder: Holder
    expires: float


def may_take(claim: Claim | None, me: Holder, *, now: float, gone: bool) -> bool:
    """`gone`: the process of the present holder has certainly ended."""
    return claim is None or claim.holder == me or gone or claim.expires <= now


class Lease:
    """The row, for one holder."""

    def __init__(
        self, database: Database, holder: Holder, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock

    async def take(self) -> bool:
        """Take or renew it; False when another deployer has it."""
        me, clock = self._holder, self._clock

        def change(connection: Connection) -> bool:
            claim = _claim(connection)
            gone = claim is not None and claim.holder.gone(me)
            now = clock()
            if not may_take(claim, me, now=now, gone=gone):
                return False
            connection.execute("DELETE FROM deploy_lease WHERE id = 1")
            connection.execute(
                "INSERT INTO deploy_lease (id, machine, pid, started, token, expires)"
                " VALUES (1, ?, ?, ?, ?, ?)",
                *(me.machine, me.pid, me.started, me.token, now + TTL),
            )
            return True

        return await self._database.write(change)

    async def free(self) -> bool:
        """Whether `take` is worth a write."""
        me = self._holder
        claim = await self._database.read(_claim)
        gone = claim is not None and claim.holder.gone(me)
        return may_take(claim, me, now=self._clock(), gone=gone)

    async def renew(self) -> None:
        """Raises LeaseLost."""
        token, clock = self._holder.token, self._clock

        def change(connection: Connection) -> int:
            return connection.execute(
                "UPDATE deploy_lease SET expires = ? WHERE id = 1 AND token = ?",
                *(clock() + TTL, token),
            )

        if not await self._database.write(change):
            raise LeaseLost

    async def release(self) -> None:
        """Nothing happens if it is another one's."""
        token = self._holder.token

        def change(connection: Connection) -> None:
            connection.execute("DELETE FROM deploy_lease WHERE id = 1 AND token = ?", token)

        await self._database.write(change)


async def forget(database: Database) -> None:
    """Whoever has the lease has it no more: for rows whose deployer can only be elsewhere."""
    await database.write(lambda c: c.execute("DELETE FROM deploy_lease"))


class Fenced:
    """The database for the holder of the lease only: every change raises LeaseLost for others."""

    def __init__(self, database: Database, holder: Holder) -> None:
        self._database = database
        self._token = holder.token

    async def read(self, query: Callable[[Connection], T]) -> T:
        return await self._database.read(query)

    async def scan(self, query: Callable[[Connection], T]) -> T:
        return await self._database.scan(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        token = self._token

        def fenced(connection: Connection) -> T:
            # An update and not a look, so that the row stays as it is until this commits.
            held = connection.execute(
                "UPDATE deploy_lease SET token = token WHERE id = 1 AND token = ?", token
            )
            if not held:
                raise LeaseLost
            return change(connection)

        return await self._database.write(fenced)

    async def snapshot(self, path: str, query: Callable[[Connection], T]) -> T:
        return await self._database.snapshot(path, query)

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        await self._database.migrate(room, steps)

    async def close(self) -> None:
        await self._database.close()


def _claim(connection: Connection) -> Claim | None:
    row = connection.one(
        "SELECT machine, pid, started, token, expires FROM deploy_lease WHERE id = 1"
    )
    if row is None:
        return None
    machine, pid, started, token, expires = row
    return Claim(Holder(text(machine), whole(pid), whole(started), text(token)), real(expires))


def _started(pid: int) -> int | None:
    """Start of a process in ticks since boot; None when there is none, or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in brackets, which may contain anything.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
