"""The command line. A verb imports what is heavy when it runs, so that --help is quick."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from registry.commands import apps, audit, cert, demo, key, policy, token, user
from registry.commands.options import Assignments, ConfigFile, Data, read
from registry.commands.options import stop as _stop
from registry.config import ConfigInvalid, as_toml
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
command.add_typer(audit.command, name="audit")
command.add_typer(key.command, name="key")
command.add_typer(policy.command, name="policy")
command.add_typer(user.command, name="user")
command.add_typer(token.command, name="token")
command.add_typer(cert.command, name="cert")
command.command("demo")(demo.demo)

ListenOn = Annotated[str | None, typer.Option("--listen", help="HOST:PORT of the registry.")]
GatewayListenOn = Annotated[
    str | None, typer.Option("--gateway-listen", help="HOST:PORT of the applications.")
]
Workers = Annotated[str | None, typer.Option("--workers", help="Registry processes.")]


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
        given = (data, listen, gateway_listen, workers, assignments)
        serving.serve(_settings(config, *given), lambda: _read(config, *given))
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


@command.command()
def retain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would go, and change nothing.")
    ] = False,
    repository: Annotated[str | None, typer.Option("--repository", help="Only this one.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print also what stays.")] = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Remove tags by the [[retention]] rules now; a server may be running on the data."""
    from registry.commands import retain as retaining
    from registry.commands import serve as serving

    settings = _settings(config, data, None, None, None, assignments)
    try:
        retaining.retain(settings, dry_run=dry_run, repository=repository, everything=everything)
    except serving.CannotStart as error:
        _stop(str(error))


@command.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A directory for backups.")],
    link: Annotated[
        bool, typer.Option("--link", help="Link to the files of blobs instead of copying them.")
    ] = False,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, metavar="N", help="Remove all but the newest N.")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only show the snapshots that there are.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Only read all that there is, and compare digests.")
    ] = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Copy a data directory, of which a server may be running; only what is new is copied.

    Exit status 1: something is damaged, and the rest was saved.
    """
    from registry.commands import backup as backing
    from registry.commands import serve as serving

    try:
        if list_only:
            whole = backing.list_snapshots(target)
        elif verify:
            whole = backing.verify_all(target)
        else:
            settings = _settings(config, data, None, None, None, assignments)
            whole = backing.backup(settings, target, link=link, keep=keep)
    except serving.CannotStart as error:
        _stop(str(error))
    raise typer.Exit(0 if whole else 1)


@command.command()
def restore(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A directory of backups.")],
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="ID", help="Which one; else the newest.")
    ] = None,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Make a new data directory, named by --data, out of a backup.

    Exit status 1: some blobs are lost, and the rest is there.
    """
    from registry.commands import restore as restoring
    from registry.commands import serve as serving

    try:
        settings = _settings(config, data, None, None, None, assignments)
        whole = restoring.restore(settings, target, id=snapshot)
    except serving.CannotStart as error:
        _stop(str(error))
    raise typer.Exit(0 if whole else 1)


@command.command("export")
def export_layout(
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY[:TAG|@DIGEST]")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A directory, or a .tar file.")],
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Write a repository as an OCI image layout; a server may be running on it.

    Exit status 1: something is damaged, and the rest was written.
    """
    from registry.commands import serve as serving
    from registry.commands import transfer

    try:
        settings = _settings(config, data, None, None, None, assignments)
        whole = transfer.export(settings, repository, target)
    except serving.CannotStart as error:
        _stop(str(error))
    raise typer.Exit(0 if whole else 1)


@command.command("import")
def import_layout(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An OCI image layout: a directory or a tar.")
    ],
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY")],
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Push an OCI image layout into a repository, as a client would; needs no server.

    Exit status 1: something was refused, and the rest was taken.
    """
    from registry.commands import serve as serving
    from registry.commands import transfer

    try:
        settings = _settings(config, data, None, None, None, assignments)
        whole = transfer.bring(settings, source, repository)
    except serving.CannotStart as error:
        _stop(str(error))
    raise typer.Exit(0 if whole else 1)


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
    try:
        return _read(file, data, listen, gateway_listen, workers, assignments)
    except ConfigInvalid as error:
        _stop(str(error))


def _read(
    file: Path | None,
    data: str | None,
    listen: str | None,
    gateway_listen: str | None,
    workers: str | None,
    assignments: list[str] | None,
) -> Config:
    """Raises ConfigInvalid."""
    named = {
        "data": data,
        "registry.listen": listen,
        "gateway.listen": gateway_listen,
        "registry.workers": workers,
    }
    return read(file, named, assignments)


def main() -> None:
    command()
