"""`spindle export` and `spindle import`: repositories as OCI image layouts, without a server."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from registry import app
from registry.audit import Event, Outcome, at_the_terminal
from registry.collecting import tell
from registry.commands.backup import print_lost, require_data
from registry.commands.display import safe
from registry.commands.serve import CannotStart
from registry.settings import Bytes, Config
from storage.digest import Digest
from storage.errors import StorageError
from storage.export import Exported
from storage.export import export as write_out
from storage.filesystem.imagelayout import make_target, open_source
from storage.importing import BroughtIn, bring_in
from storage.names import RepositoryName, Tag, parse_reference
from storage.pause import PauseLost


def export(config: Config, source: str, target: Path) -> bool:
    """`source` is NAME, NAME:TAG or NAME@DIGEST; whether all was whole. Raises CannotStart."""
    require_data(config)
    try:
        name, reference = _parse(source)
        done = asyncio.run(_export(config, name, reference, target))
    except (StorageError, OSError, PauseLost, sqlite3.Error) as error:
        raise CannotStart(str(error)) from None
    for sentence in done.absent:
        print(f"absent    {safe(sentence)}")
    print_lost(tuple(done.lost))
    print(
        f"{done.tags} tags, {done.manifests} manifests, {done.blobs} blobs,"
        f" {Bytes(done.bytes)} bytes are in {target}"
    )
    return not done.lost


async def _export(
    config: Config, name: RepositoryName, reference: Tag | Digest | None, target: Path
) -> Exported:
    async with app.open_records(config) as records:
        return await write_out(records.store, name, reference, make_target(target))


def bring(config: Config, source: Path, repository: str) -> bool:
    """Whether every entry was taken. Raises CannotStart."""
    try:
        done = asyncio.run(_bring(config, source, RepositoryName.parse(repository)))
    except (StorageError, OSError, sqlite3.Error) as error:
        raise CannotStart(str(error)) from None
    for tag, digest in done.tags:
        print(f"tag       {repository}:{tag}  {digest}")
    for sentence in done.absent:
        print(f"absent    {safe(sentence)}")
    for sentence in done.refused:
        print(f"refused   {safe(sentence)}")
    print(
        f"{len(done.tags)} tags, {done.manifests} manifests and {done.blobs} new blobs,"
        f" {Bytes(done.bytes)} bytes, are in {repository}"
    )
    return not done.refused


async def _bring(config: Config, source: Path, name: RepositoryName) -> BroughtIn:
    layout = open_source(source)
    try:
        async with app.open_records(config) as records:
            done = await bring_in(
                records.store.repository(name), layout, manifest_limit=config.limits.manifest
            )
            await tell(records.audit, _imported(name, done))
            return done
    finally:
        layout.close()


def _imported(name: RepositoryName, done: BroughtIn) -> Event:
    tags = " ".join(tag.text for tag, _ in done.tags)
    return Event(
        *("layout.import", Outcome.DONE, at_the_terminal()),
        repository=name.text,
        detail=f"{done.manifests} manifests, {done.blobs} new blobs, {len(done.tags)} tags: {tags}",
    )


def _parse(text: str) -> tuple[RepositoryName, Tag | Digest | None]:
    name, at, digest = text.partition("@")
    if at:
        return RepositoryName.parse(name), Digest.parse(digest)
    name, colon, tag = text.partition(":")
    return RepositoryName.parse(name), parse_reference(tag) if colon else None
