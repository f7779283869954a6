"""`spindle retain`: the rules for tags, kept to now, also beside a running server."""

from __future__ import annotations

import asyncio

from registry import app
from registry.audit import at_the_terminal
from registry.collecting import retained, tell, untagged_age
from registry.commands.display import safe
from registry.commands.serve import CannotStart
from registry.settings import Config
from storage.errors import StorageError
from storage.names import RepositoryName
from storage.retain import Judged, Retainer
from storage.retention import Decision


def retain(config: Config, *, dry_run: bool, repository: str | None, everything: bool) -> None:
    """Print which tags go and why, or with `dry_run` would; with `everything` also which stay.

    Raises CannotStart.
    """
    if not config.retention:
        raise CannotStart(
            "there are no rules, so every tag stays; add a [[retention]] table to the file that"
            " --config names"
        )
    try:
        name = None if repository is None else RepositoryName.parse(repository)
        asyncio.run(_retain(config, name, dry_run, everything))
    except (StorageError, OSError) as error:
        raise CannotStart(str(error)) from None


async def _retain(
    config: Config, name: RepositoryName | None, dry_run: bool, everything: bool
) -> None:
    async with app.open_records(config) as records:
        retaining = Retainer(records.store, config.retention, config.immutable)
        judged = await retaining.preview(name)
        if everything:
            for one in judged:
                for decision in one.decisions:
                    if decision.stays:
                        _print("stays", one.name, decision)
        if dry_run:
            for one in judged:
                for decision in one.going:
                    _print("goes", one.name, decision)
            _summarise(config, judged)
            return
        gone = 0
        for one in judged:
            async for decision in retaining.retain(one.name):
                _print("went", one.name, decision)
                await tell(records.audit, retained(one.name, decision, at_the_terminal()))
                gone += 1
    print(f"{_tags(gone)} went")


def _print(verb: str, name: RepositoryName, decision: Decision) -> None:
    tagged = decision.tagged
    print(f"{verb:5}  {name}:{tagged.tag}  {tagged.digest}  {safe(decision.reason)}")


def _summarise(config: Config, judged: list[Judged]) -> None:
    age = untagged_age(config.collect, config.retention)
    tags = sum(len(one.decisions) for one in judged)
    going = sum(len(one.going) for one in judged)
    print(f"{going} of {_tags(tags)} would go")
    for one in judged:
        if not one.going:
            continue
        what = f"at least {len(one.freed.manifests)} manifests and {one.freed.bytes} bytes of blobs"
        if age(one.name) is None:
            print(
                f"{one.name}: nothing becomes free, for untagged manifests stay for ever:"
                f' with untagged = "7d" in the rule, {what} would'
            )
        else:
            print(f"{one.name}: {what} become garbage")


def _tags(count: int) -> str:
    return f"{count} tag" if count == 1 else f"{count} tags"
