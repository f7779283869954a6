"""Waiting until a digest that was pushed is live, or is not going to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from registry.commands.client import CommandFailed, NotThere, Server

PAUSE = 0.25  # seconds between two looks; the deployer looks about as often
GRACE = 2.0  # seconds in which the deployer has certainly seen a push

TIMED_OUT = 124  # exit status, as timeout(1) has it

OVER = {
    "failed": "failed",
    "superseded": "was superseded",
    "draining": "was live, but another one has replaced it",
    "retired": "was live, but another one has replaced it",
}


async def until_live(
    server: Server,
    repository: str,
    digest: str,
    *,
    seconds: float,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the app once the digest is live; `told` hears of each phase on the way.

    Raises CommandFailed: with the reason when the digest's newest revision is over, or with
    TIMED_OUT. A revision that was over from the beginning may be an earlier one, of the same
    digest, than the one that is just being made: that verdict counts only after GRACE.
    """
    began = time.monotonic()
    at_first: tuple[int, str] | None = None
    seen: tuple[int, str] | None = None
    while True:
        elapsed = time.monotonic() - began
        app = await _app(server, repository)
        if app is not None and (app["live"] or {}).get("digest") == digest:
            return app
        newest = next((r for r in (app or {}).get("revisions", ()) if r["digest"] == digest), None)
        state = (newest["number"], newest["phase"]) if newest else (0, "")
        at_first = at_first or state
        if newest and state != seen:
            told(f"revision {newest['number']} is {newest['phase']}")
            seen = state
        if newest and newest["phase"] in OVER and (state != at_first or elapsed > GRACE):
            reason = f": {newest['reason']}" if newest["reason"] else ""
            raise CommandFailed(
                f"revision {newest['number']} of {repository} {OVER[newest['phase']]}{reason}"
            )
        if elapsed > seconds:
            where = (
                f"revision {newest['number']} is {newest['phase']}" if newest else "not deployed"
            )
            raise CommandFailed(
                f"{digest} is not live in {repository} after {seconds:g} s ({where}); wait longer"
                f" with --timeout, or see `spindle apps events {repository}`",
                TIMED_OUT,
            )
        await asyncio.sleep(PAUSE)


async def _app(server: Server, repository: str) -> dict[str, Any] | None:
    try:
        return await server.get(f"/v1/apps/{repository}")
    except NotThere:
        return None  # the deployer makes it when it sees the push
