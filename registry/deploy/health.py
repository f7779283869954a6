"""Is the instance healthy, and is it the revision that was pushed?

Spin's host answers `/.well-known/spin/health` once everything is compiled and bound, and `info`
with the digest we put into the lock file. An app may name a path of its own besides, since neither
of these runs the app. Polling begins at once, and slows down from 0.25 s to 2 s.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import aiohttp
from yarl import URL

from registry.deploy.runtimes import Address
from storage.digest import Digest

HEALTH: Final = "/.well-known/spin/health"
INFO: Final = "/.well-known/spin/info"
FIRST_PAUSE: Final = 0.25  # seconds
LONGEST_PAUSE: Final = 2.0
ANSWER_TIMEOUT: Final = 10.0  # seconds for one answer
_SHOWN: Final = 200  # characters of an answer that a transcript repeats
_BODY_LIMIT: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Healthy:
    """All that was asked was answered as it should be."""


@dataclass(frozen=True, slots=True)
class NotYet:
    transcript: str
    """What was asked last and how it was answered; lines for a person."""


Health: TypeAlias = Healthy | NotYet


@dataclass(frozen=True, slots=True)
class Check:
    """What must be true of an instance."""

    address: Address
    host: str
    """Of the app; its own path may answer to nothing else."""
    digest: Digest
    path: str | None
    """The app's own."""

    async def until_healthy(self, within: float) -> Health:
        """Probe until the instance is healthy, for `within` seconds at most."""
        deadline = time.monotonic() + within
        attempts = 0
        async with self._session() as session:
            for pause in _pauses():
                left = max(deadline - time.monotonic(), 0.1)
                health = await self._probe(session, min(ANSWER_TIMEOUT, left))
                attempts += 1
                if isinstance(health, Healthy):
                    return health
                left = deadline - time.monotonic()
                if left <= 0:
                    return NotYet(f"{health.transcript}\n({attempts} attempts in {within:g} s)")
                await asyncio.sleep(min(pause, left))
        raise AssertionError("pauses do not end")

    async def once(self) -> Health:
        async with self._session() as session:
            return await self._probe(session, ANSWER_TIMEOUT)

    def _session(self) -> aiohttp.ClientSession:
        connector = (
            aiohttp.UnixConnector(str(self.address.unix))
            if self.address.unix is not None
            else aiohttp.TCPConnector()
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )

    async def _probe(self, session: aiohttp.ClientSession, within: float) -> Health:
        """`within`: seconds for each answer."""
        transcript: list[str] = []
        for target in [HEALTH, INFO] if self.path is None else [HEALTH, INFO, self.path]:
            try:
                status, body = await self._get(session, target, within)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                said = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                return NotYet("\n".join([*transcript, f"GET {target}: {said or repr(error)}"]))
            shown = " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
            transcript.append(f"GET {target}: {status} {shown}".rstrip())
            fault = _fault(target, status, body, self.digest)
            if fault is not None:
                transcript[-1] += f" ({fault})"
                return NotYet("\n".join(transcript))
        return Healthy()

    async def _get(
        self, session: aiohttp.ClientSession, target: str, within: float
    ) -> tuple[int, bytes]:
        base = "http://instance"  # the path of a socket is in the connector
        if self.address.tcp is not None:
            name, port = self.address.tcp
            base = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
        async with session.get(
            URL(base + target, encoded=True),
            headers={"Host": self.host},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=within),
        ) as answer:
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > _BODY_LIMIT:
                    break
            return answer.status, bytes(body)


def _fault(target: str, status: int, body: bytes, digest: Digest) -> str | None:
    if target == INFO:
        if status != 200:
            return "should be 200"
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        named = content.get("oci_image_digest") if isinstance(content, dict) else None
        return None if named == digest.text else f"oci_image_digest should be {digest}"
    if target == HEALTH:
        return None if status == 200 else "should be 200"
    return None if 200 <= status < 300 else "should be 2xx"


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
