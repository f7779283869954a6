"""The command line. A verb imports what is heavy when it runs, so that --help is quick."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from registry.commands import apps, demo
from registry.config import ConfigInvalid, as_toml, load
from registry.settings import Config

command = typer.Typer(
    name="spindle",
    help="An OCI registry that deploys the Spin applications pushed to it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes half of the time that --help needs
    add_completion=False,
)
command.add_typer(apps.command, name="apps")
command.command("demo")(demo.demo)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="SPINDLE_CONFIG", help="A TOML file of settings."),
]
Data = Annotated[str | None, typer.Option("--data", help="Where everything is kept.")]
ListenOn = Annotated[str | None, typer.Option("--listen", help="HOST:PORT of the registry.")]
GatewayListenOn = Annotated[
    str | None, typer.Option("--gateway-listen", help="HOST:PORT of the applications.")
]
Workers = Annotated[str | None, typer.Option("--workers", help="Registry processes.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, by its dotted name."),
]


@command.command()
def serve(
    config: ConfigFile = None,
    data: Data = None,
    listen: ListenOn = None,
    gateway_listen: GatewayListenOn = None,
    workers: Workers = None,
    assignments: Assignments = None,
) -> None:
    """Start the registry, the gateway and the deployment of what is pushed."""
    from registry.commands import serve as serving

    try:
        serving.serve(_settings(config, data, listen, gateway_listen, workers, assignments))
    except serving.CannotStart as error:
        _stop(str(error))


@command.command()
def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would go, and change nothing.")
    ] = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Collect the garbage of a data directory now; a server may be running on it."""
    from registry.commands import collect as collecting
    from registry.commands import serve as serving

    try:
        collecting.collect(_settings(config, data, None, None, None, assignments), dry_run=dry_run)
    except serving.CannotStart as error:
        _stop(str(error))


@command.command()
def verify(
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and hash the bytes of every blob, too.")
    ] = False,
    max_duration: Annotated[
        float | None,
        typer.Option(
            "--max-duration", metavar="SECONDS", min=0, help="Stop then; the next run goes on."
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take damaged records as they are from now on.")
    ] = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Check that what is kept is what was pushed; a server may be running on it.

    Ends with status 1 when something is wrong.
    """
    from registry.commands import serve as serving
    from registry.commands import verify as verifying

    try:
        settings = _settings(config, data, None, None, None, assignments)
        if verifying.verify(settings, read=read_data, accept=accept, within=max_duration):
            raise typer.Exit(1)
    except serving.CannotStart as error:
        _stop(str(error))


@command.command("config")
def show_config(
    config: ConfigFile = None,
    data: Data = None,
    listen: ListenOn = None,
    gateway_listen: GatewayListenOn = None,
    workers: Workers = None,
    assignments: Assignments = None,
) -> None:
    """Print the effective settings, as a file that --config reads."""
    sys.stdout.write(as_toml(_settings(config, data, listen, gateway_listen, workers, assignments)))


@command.command()
def version() -> None:
    """Print the version."""
    typer.echo(version_of("spindle"))


def _settings(
    file: Path | None,
    data: str | None,
    listen: str | None,
    gateway_listen: str | None,
    workers: str | None,
    assignments: list[str] | None,
) -> Config:
    flags: dict[str, str] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            _stop(f"--set takes NAME=VALUE, not {assignment!r}")
        flags[name.strip()] = value
    named = {
        "data": data,
        "registry.listen": listen,
        "gateway.listen": gateway_listen,
        "registry.workers": workers,
    }
    flags |= {name: value for name, value in named.items() if value is not None}
    try:
        return load(file, os.environ, flags)
    except ConfigInvalid as error:
        _stop(str(error))


def _stop(reason: str) -> NoReturn:
    typer.echo(f"spindle: {reason}", err=True)
    raise typer.Exit(2)


def main() -> None:
    command()
