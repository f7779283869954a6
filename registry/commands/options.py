"""What every command takes that works on a data directory, and the settings that follow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from registry.config import ConfigInvalid, load
from registry.settings import Config

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="SPINDLE_CONFIG", help="A TOML file of settings."),
]
Data = Annotated[str | None, typer.Option("--data", help="Where everything is kept.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, by its dotted name."),
]


def effective(
    file: Path | None, named: Mapping[str, str | None], assignments: list[str] | None
) -> Config:
    """The settings: `named` are by dotted name, None where nobody said. Ends the process."""
    try:
        return read(file, named, assignments)
    except ConfigInvalid as error:
        stop(str(error))


def read(
    file: Path | None, named: Mapping[str, str | None], assignments: list[str] | None
) -> Config:
    """The same. Raises ConfigInvalid."""
    flags: dict[str, str] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            stop(f"--set takes NAME=VALUE, not {assignment!r}")
        flags[name.strip()] = value
    flags |= {name: value for name, value in named.items() if value is not None}
    return load(file, os.environ, flags)


def stop(reason: str) -> NoReturn:
    """End the process, with a sentence for whoever started it."""
    typer.echo(f"spindle: {reason}", err=True)
    raise typer.Exit(2)
