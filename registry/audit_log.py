"""The audit in files: many that have something to tell share a write and a sync."""

from __future__ import annotations

import asyncio
import errno
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import structlog

from registry.audit import Audit, Event, NoAudit, Outcome
from registry.settings import Config
from storage.chain import Entry, Head
from storage.filesystem.chained import ChainFiles
from storage.filesystem.layout import AuditRoom
from storage.reserve import Boundless, Reserve, afford
from storage.threads import Threads

log = structlog.get_logger(__name__)

TOGETHER: Final = 1000  # events of one write at most
LATE: Final = 1000  # events that wait for a disk that takes nothing; more are only counted
HOURLY: Final = 3600.0  # seconds between two lines in the log of how far the audit is
MINUTE: Final = 60.0  # seconds
EACH: Final = 300  # refusals of one address that have a line of their own in a minute
ADDRESSES: Final = 10_000  # that are remembered for that

_FIELDS: Final = tuple(row.name for row in fields(Event))


def entry(event: Event) -> Entry:
    """What is not empty of it, in the order of Event."""
    values = ((name, getattr(event, name)) for name in _FIELDS)
    return {name: value for name, value in values if value}


@dataclass(slots=True)
class _Minute:
    began: float
    told: int = 0
    more: int = 0


class Floods:
    """Whoever is refused again and again must not fill the disk with it: the rest is counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minutes: OrderedDict[str, _Minute] = OrderedDict()

    def tells(self, address: str) -> bool:
        """Whether one more refusal has a line of its own."""
        now = self._clock()
        minute = self._minutes.get(address)
        if minute is None or (now - minute.began >= MINUTE and not minute.more):
            minute = self._minutes[address] = _Minute(now)
            self._minutes.move_to_end(address)
        if minute.told < EACH:
            minute.told += 1
            return True
        minute.more += 1
        return False

    def over(self, *, all: bool = False) -> list[Event]:
        """A line for each address that was counted in a minute that is over, or in any."""
        now = self._clock()
        events = []
        for address, minute in [*self._minutes.items()]:
            spare = len(self._minutes) > ADDRESSES
            if not (all or spare or now - minute.began >= MINUTE):
                continue
            del self._minutes[address]
            if minute.more:
                detail = f"{minute.more} more in a minute; {EACH} of them have lines of their own"
                events.append(Event("flood", Outcome.REFUSED, "anonymous", address, detail=detail))
        return events


class AuditLog:
    """Audit over ChainFiles. Only to be used in one event loop; `close` it there."""

    def __init__(
        self, files: ChainFiles, reserve: Reserve, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._floods = Floods(clock)
        self._files = files
        self._reserve = reserve
        self._thread = Threads("audit", 1)
        self._waiting: deque[tuple[Entry, asyncio.Future[None]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._late: deque[Entry] = deque(maxlen=LATE)
        self._missed = 0
        self._failed: Exception | None = None
        self._resuming = asyncio.Lock()
        self._head: Head | None = None

    async def record(self, event: Event) -> None:
        if event.outcome is not Outcome.REFUSED or self._floods.tells(event.address):
            await self._take(entry(event))

    async def settle(self, *, all: bool = False) -> None:
        """Tell what was only counted in minutes that are over, or all of it. Raises OSError."""
        for event in self._floods.over(all=all):
            await self._take(entry(event))

    async def _take(self, told: Entry) -> None:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((told, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        """Until nobody waits: whoever comes while a write is under way is in the next one."""
        try:
            while self._waiting:
                count = min(len(self._waiting), TOGETHER)
                batch = [self._waiting.popleft() for _ in range(count)]
                error = await self._append([told for told, _ in batch])
                for told, done in batch:
                    if error is not None:
                        self._miss(told)
                    if done.cancelled():
                        continue
                    if error is None:
                        done.set_result(None)
                    else:
                        done.set_exception(_said(error))
        finally:
            self._writing = None

    async def _append(self, entries: list[Entry]) -> Exception | None:
        try:
            self._head = await afford(
                self._reserve, lambda: self._thread.run(lambda: self._files.append(entries))
            )
        except Exception as error:  # whatever it is, who waits has to hear of it
            if self._failed is None:
                log.error("the audit cannot be written; no change is taken", exc_info=error)
            self._failed = error
            return error
        return None

    def _miss(self, told: Entry) -> None:
        self._missed += len(self._late) == LATE
        self._late.append(told)

    async def ready(self) -> None:
        if self._failed is None:
            return
        async with self._resuming:
            if self._failed is None:
                return
            late = [*self._late]
            gap: Entry = {
                "action": "audit.late",
                "outcome": "failed",
                "detail": f"the audit could not be written: {len(late)} lines that follow are late,"
                f" and their answers were other ones or none; {self._missed} more are lost",
            }
            error = await self._append([gap, *late])
            if error is not None:
                raise _said(error)
            for _ in late:
                self._late.popleft()
            self._missed, self._failed = 0, None
            log.warning("the audit is written again", late=len(late))

    async def head(self) -> Head:
        """Of the last line that is there, whoever wrote it. Raises OSError."""
        return await self._thread.run(self._files.head)

    async def close(self) -> None:
        with suppress(OSError):
            await self.settle(all=True)
        while self._writing is not None:
            await asyncio.wait([self._writing])
        with suppress(OSError):  # what is late would be lost
            await self.ready()
        await self._thread.run(self._files.close)
        self._thread.close()


def _said(error: Exception) -> OSError:
    """One for each who waits; with the number by which a full disk is known."""
    number = error.errno if isinstance(error, OSError) else None
    return OSError(number or errno.EIO, "the audit cannot be written")


def directory_of(config: Config) -> Path:
    """Where the files of the audit are."""
    given = config.audit.directory
    return given if given != Path() else config.data / "audit"


@asynccontextmanager
async def open_audit(
    config: Config, reserve: Reserve | None = None, *, now: Callable[[], float] = time.time
) -> AsyncIterator[Audit]:
    """The audit that the settings want, made first if there is none; also for commands.

    Raises LayoutRefused or OSError.
    """
    # Commands know of the file, but not of the flags that the server was started with.
    begun = config.audit.enabled == "auto" and directory_of(config).is_dir()
    if not (config.audited or begun):
        yield NoAudit()
        return
    room = AuditRoom.open(directory_of(config).absolute())
    settings = config.audit
    files = ChainFiles(room, size=settings.size, keep=settings.keep, now=now)
    audit = AuditLog(files, reserve or Boundless())
    try:
        yield audit
    finally:
        await audit.close()


async def keep_noting(audit: Audit, every: float = HOURLY) -> None:
    """Until it is cancelled: how far the audit is, in the log, which goes elsewhere.

    And what is told once a minute.
    """
    noted = float("-inf")
    while isinstance(audit, AuditLog):
        if (now := time.monotonic()) - noted >= every:
            noted = now
            await note(audit)
        with suppress(OSError):
            await audit.settle()
        await asyncio.sleep(min(every, MINUTE))


async def note(audit: Audit) -> None:
    """Once."""
    if not isinstance(audit, AuditLog):
        return
    try:
        head = await audit.head()
    except OSError as error:
        log.error("the audit cannot be read", reason=str(error))
        return
    log.info("audit", head=str(head))
