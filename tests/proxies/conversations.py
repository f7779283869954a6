"""What clients say through a proxy, and whether both logs tell of the same requests."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tests.proxies.payloads import PAYLOADS, Payload
from tests.proxies.programs import UNVERIFIED, Passed, Proxy
from tests.servers import Spindle, wait_for

AT_ONCE: Final = 24
INNOCENT: Final = 3  # requests of another client after each payload
_QUIET: Final = 1.0  # seconds without an answer until a client leaves
_LIMIT: Final = 30.0  # seconds until whatever is still said counts as hanging
_MARKED: Final = re.compile(r"(?:payload|smuggled|innocent)[-_]+(\d{3})", re.IGNORECASE)
_ID: Final = re.compile(rb"(?im)^x-request-id: *((?:payload|innocent)-[0-9-]+)\r?$")
# What a proxy tells a client by itself when it was Spindle that refused, or the client that left.
_BROKEN_OFF: Final = (400, 408, 413, 414, 431, 499, 501, 505, 0, -1)


@dataclass(frozen=True)
class Asked:
    """One line of Spindle's log."""

    method: str
    path: str
    status: int | None


Line = TypeVar("Line", Passed, Asked)


@dataclass
class Conversation:
    """A payload, what was answered, and what both logs say of it."""

    number: int
    payload: Payload
    answer: bytes = b""
    innocents: list[bytes] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    hung: bool = False
    proxied: bool = True

    @property
    def problems(self) -> list[str]:
        found = self._compared() if self.proxied else []
        smuggled = [asked for asked in self.asked if "smuggled" in asked.path]
        if not self.proxied and smuggled and not self.payload.two:
            found.append("what was hidden was answered")
        found += [f"5xx: {asked}" for asked in self.asked if (asked.status or 0) >= 500]
        if self.hung:
            found.append("it hung")
        own = f"payload-{self.number:03}".encode()
        found += [f"got the answer of {one!r}" for one in _ID.findall(self.answer) if one != own]
        for at, answer in enumerate(self.innocents):
            name = f"innocent-{self.number:03}-{at}".encode()
            if not answer.startswith(b"HTTP/1.1 404 ") or _ID.findall(answer) != [name]:
                found.append(f"{name!r} got {answer[:300]!r}")
        if len(self.innocents) != INNOCENT:
            found.append(f"only {len(self.innocents)} innocent requests were answered")
        return found

    def _compared(self) -> list[str]:
        """Each client for itself: of two, one may be logged before the other or behind."""
        return [
            problem
            for innocent in (False, True)
            for problem in compare(_of(self.passed, innocent), _of(self.asked, innocent))
        ]

    @property
    def outcome(self) -> str:
        if self.problems:
            return "disagreements"
        passed, asked_by_it = _of(self.passed, False), _of(self.asked, False)
        if self.proxied and not any(one.forwarded for one in passed):
            return "refused by the proxy"
        answered = [asked for asked in asked_by_it if asked.status is not None]
        return "forwarded" if answered else "refused by Spindle"


def _of(lines: Sequence[Line], innocent: bool) -> list[Line]:
    return [one for one in lines if ("innocent" in one.path) is innocent]


def compare(passed: Sequence[Passed], asked: Sequence[Asked]) -> list[str]:
    """In what the logs of a proxy and of Spindle differ, each in the order of one client.

    Spindle logs no request whose head it refuses: the proxy's log then tells that it was refused.
    """
    left = [one for one in passed if one.forwarded]
    found = []
    for one in asked:
        while left and (left[0].method, left[0].path) != (one.method, one.path):
            skipped = left.pop(0)
            if skipped.status not in _BROKEN_OFF:
                found.append(f"only the proxy knows {skipped}")
        if not left:
            found.append(f"only Spindle knows {one}")
            continue
        sent = left.pop(0)
        if sent.status not in _BROKEN_OFF and sent.status != one.status:
            found.append(f"answered differently: {sent}, {one}")
    found += [f"only the proxy knows {one}" for one in left if one.status not in _BROKEN_OFF]
    return found


def asked_of(log: Path) -> list[Asked]:
    found = []
    for line in log.read_text().splitlines():
        if line.startswith("{") and (entry := json.loads(line)).get("event") == "request":
            found.append(Asked(entry["method"], entry["path"], entry["status"]))
    return found


def hold_all(server: Spindle, proxy: Proxy | None, *, at_once: int = AT_ONCE) -> list[Conversation]:
    """Send every payload, each followed by another client's requests; then read both logs."""
    all_of_them = [
        Conversation(number, payload, proxied=proxy is not None)
        for number, payload in enumerate(PAYLOADS)
    ]
    host, _, port = server.registry.rpartition(":")
    place = Place(host, proxy.port if proxy else int(port), tls=proxy is not None)
    asyncio.run(_hold(all_of_them, place, at_once))

    def settled() -> bool:
        for one in all_of_them:
            one.asked, one.passed = [], []
        for asked in asked_of(server.log):
            if (number := _number(asked.path)) is not None:
                all_of_them[number].asked.append(asked)
        for passed in proxy.passed() if proxy else ():
            if (number := _number(passed.path)) is not None:
                all_of_them[number].passed.append(passed)
        return not any(one.problems for one in all_of_them)

    with suppress(AssertionError):  # the tests tell it better
        wait_for(settled, "the logs to agree", 5.0)
    return all_of_them


def _number(path: str) -> int | None:
    found = _MARKED.search(path)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Place:
    host: str
    port: int
    tls: bool

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = UNVERIFIED if self.tls else None
        return await asyncio.open_connection(self.host, self.port, ssl=context, limit=1 << 20)


async def _hold(all_of_them: list[Conversation], place: Place, at_once: int) -> None:
    room = asyncio.Semaphore(at_once)

    async def hold(one: Conversation) -> None:
        async with room:
            try:
                async with asyncio.timeout(_LIMIT):
                    one.answer = await _say(place, one.payload.numbered(one.number))
                    one.innocents = await _ask(place, one.number)
            except TimeoutError:
                one.hung = True

    async with asyncio.TaskGroup() as tasks:
        for one in all_of_them:
            tasks.create_task(hold(one))


async def _say(place: Place, data: bytes) -> bytes:
    """All that is answered, until the other side ends it or there is nothing more."""
    reader, writer = await place.connect()
    answer = b""
    try:
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(1 << 16), _QUIET):
            answer += piece
    except (TimeoutError, OSError):
        pass
    finally:
        writer.transport.abort()
    return answer


async def _ask(place: Place, number: int) -> list[bytes]:
    """The heads of the answers to a client that does nothing strange."""
    reader, writer = await place.connect()
    answers = []
    try:
        for at in range(INNOCENT):
            name = f"innocent-{number:03}-{at}"
            writer.write(
                f"GET /v2/{name}/tags/list HTTP/1.1\r\nHost: localhost\r\n"
                f"X-Request-Id: {name}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            answers.append(head)
            if found := re.search(rb"(?i)content-length: *(\d+)", head):
                await reader.readexactly(int(found[1]))
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()
    return answers
