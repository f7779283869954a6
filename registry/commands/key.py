"""`spindle key`: what signs tokens. A running server sees a change in a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.commands import display
from registry.commands.options import ConfigFile, Data, effective, stop
from registry.settings import Config

if TYPE_CHECKING:  # cryptography takes its time to load
    from registry.auth.keys import Keys

command = typer.Typer(
    help="See and replace the keys that tokens are signed with.",
    no_args_is_help=True,
    add_completion=False,
)


@command.command("list")
def list_keys(config: ConfigFile = None, data: Data = None) -> None:
    """The keys that tokens are signed with, or can still be verified with; the newest first."""
    _run(config, data, _list)


@command.command()
def rotate(
    now: Annotated[
        bool,
        typer.Option(
            "--now", help="Forget the old ones too: every token is invalid within a second."
        ),
    ] = False,
    config: ConfigFile = None,
    data: Data = None,
) -> None:
    """Make a new key; what was signed by the old ones stays valid until it expires."""

    async def act(keys: Keys) -> None:
        await keys.rotate(forget=now)
        await _list(keys)
        if now:
            print("Every token that was given before is invalid; clients get new ones themselves.")

    _run(config, data, act, said="the old ones are forgotten" if now else "another one signs")


async def _list(keys: Keys) -> None:
    signing = await keys.signing()
    rows = []
    for key in await keys.all():
        if key.kid == signing.kid:
            use = "signs"
        elif key.until is None:
            use = "signs in a moment"  # when every process has seen it
        else:
            use = f"verifies until {_shown(key.until)}"
        rows.append((key.kid, _shown(key.created), use))
    display.table(("KEY", "MADE", "USE"), rows)


def _shown(at: float) -> str:
    return display.clock(datetime.fromtimestamp(at).astimezone())


def _run(
    config: Path | None, data: str | None, act: Callable[[Keys], Awaitable[None]], *, said: str = ""
) -> None:
    """`said`: for the audit."""
    from registry import app
    from registry.audit import done_at_the_terminal
    from registry.auth.keys import Keys
    from storage.errors import StorageError
    from storage.filesystem.layout import Layout

    async def run(settings: Config) -> None:
        async with app.open_records(settings) as records:
            auth = settings.auth
            keys = Keys(records.store.database, life=auth.key_life, longest=auth.token_life)
            await keys.open()
            await act(keys)
            if said:
                await records.audit.record(done_at_the_terminal("key.rotate", detail=said))

    settings = effective(config, {"data": data}, None)
    try:
        if not Layout.is_at(settings.data):
            stop(f"there is no data directory at {settings.data}")
        asyncio.run(run(settings))
    except (StorageError, OSError) as error:
        stop(str(error))
