"""`spindle collect`: one cycle, now, also beside a running server."""

from __future__ import annotations

import asyncio

from registry import app
from registry.audit import at_the_terminal
from registry.collecting import collected, collector, tell
from registry.commands.serve import CannotStart
from registry.settings import Bytes, Config
from storage.collect import Collected
from storage.errors import StorageError


def collect(config: Config, *, dry_run: bool) -> None:
    """Print what goes, or with `dry_run` what would. Raises CannotStart, also where it must not."""
    try:
        done = asyncio.run(_collect(config, dry_run))
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None
    if done.doubts:
        raise CannotStart("nothing is collected: " + "; ".join(done.doubts))
    _print(done, "would go" if dry_run else "went")


async def _collect(config: Config, dry_run: bool) -> Collected:
    async with app.open_records(config) as records:
        collecting = collector(records.store, config.collect, config.retention)
        if dry_run:
            return await collecting.preview()
        await collecting.strays()
        done = await collecting.cycle()
        await records.store.reserve.fill()
        if done:
            await tell(records.audit, collected(done, at_the_terminal()))
        return done


def _print(done: Collected, verb: str) -> None:
    for name, digest in done.manifests:
        print(f"manifest  {name}@{digest}")
    for name, digest in done.links:
        print(f"blob      {name}@{digest}")
    for digest, size in done.blobs:
        print(f"bytes     {digest}  {Bytes(size)}")
    for size in done.uploads:
        print(f"upload    {Bytes(size)}")
    print(
        f"{len(done.manifests)} manifests, {len(done.links)} blobs of repositories,"
        f" {len(done.uploads)} uploads and {done.freed} bytes {verb}"
    )
