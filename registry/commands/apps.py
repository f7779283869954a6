"""`spindle apps`: what is deployed, why, and with which settings."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.commands import display
from registry.commands.client import (
    DEFAULT_SERVER,
    UNREACHABLE,
    CommandFailed,
    connect,
    run,
)

command = typer.Typer(
    help="See and change what is deployed.", invoke_without_command=True, add_completion=False
)

FOLLOW = 1.0  # seconds between two looks at a log

ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help=f"The registry; SPINDLE_SERVER, else {DEFAULT_SERVER}."
    ),
]
Repository = Annotated[str, typer.Argument(metavar="ACCOUNT/APP", help="The app's repository.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the server says.")]


@command.callback()
def default(context: typer.Context, server: ServerUrl = None) -> None:
    """See and change what is deployed. Alone, the same as `list`."""
    context.obj = server
    if context.invoked_subcommand is None:
        list_apps(context)


def _server(context: typer.Context, given: str | None) -> str:
    return given or context.obj or os.environ.get("SPINDLE_SERVER") or DEFAULT_SERVER


@command.command("list")
def list_apps(context: typer.Context, server: ServerUrl = None, as_json: AsJson = False) -> None:
    """Every app: what is live, and what was pushed last."""

    async def act() -> None:
        async with connect(_server(context, server)) as api:
            answer = await api.get("/v1/apps")
            if as_json:
                _print_json(answer)
            elif answer["apps"]:
                _table_of_apps(answer["apps"])
            else:
                print("No apps yet: push a Spin application, or try `spindle demo`.")

    run(act())


def _table_of_apps(apps: list[dict[str, Any]]) -> None:
    now = datetime.now().astimezone()
    rows = []
    for app in apps:
        newest = app["revisions"][0] if app["revisions"] else None
        rows.append(
            (
                app["repository"],
                f"revision {app['live']['revision']}" if app["live"] else "nothing",
                f"revision {newest['number']}" if newest else "",
                newest["phase"] if newest else "never pushed",
                display.age(display.moment(newest["created"]), now) if newest else "",
                app["url"],
            )
        )
    display.table(("APP", "LIVE", "PUSHED LAST", "PHASE", "AGE", "URL"), rows)


@command.command()
def show(
    context: typer.Context,
    repository: Repository,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> None:
    """One app with its revisions, and why those failed that did."""

    async def act() -> None:
        path = _path(repository)
        async with connect(_server(context, server)) as api:
            app = await api.get(path)
            if as_json:
                _print_json(app)
                return
            settings = await api.get(f"{path}/_settings")
        _print_app(app, settings)

    run(act())


def _print_app(app: dict[str, Any], settings: dict[str, Any]) -> None:
    live = app["live"]
    print(display.safe(app["repository"]))
    print(f"  url        {display.safe(app['url'])}")
    print(f"  id         {display.safe(app['id'])}")
    shown = f"revision {live['revision']}, {live['digest']}" if live else "nothing"
    print(f"  live       {display.safe(shown)}")
    print(f"  variables  {display.safe(', '.join(settings['variables'])) or 'none are set'}")
    if settings["health_path"]:
        print(f"  health     {display.safe(settings['health_path'])}")
    if not app["revisions"]:
        return
    print()
    now = datetime.now().astimezone()
    rows = [
        (
            str(revision["number"]),
            revision["phase"],
            revision["tag"],
            display.short(revision["digest"]),
            display.clock(display.moment(revision["created"])),
            display.age(display.moment(revision["created"]), now),
        )
        for revision in app["revisions"]
    ]
    display.table(("REVISION", "PHASE", "TAG", "DIGEST", "PUSHED", "AGE"), rows)
    for revision in app["revisions"]:
        if revision["reason"]:
            print(f"\nrevision {revision['number']} {display.safe(revision['phase'])}:")
            print(display.wrapped(revision["reason"]))


@command.command()
def events(
    context: typer.Context,
    repository: Repository,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> None:
    """What happened to an app, oldest first."""

    async def act() -> None:
        async with connect(_server(context, server)) as api:
            answer = await api.get(f"{_path(repository)}/_events", limit=limit)
        if as_json:
            _print_json(answer)
            return
        for event in reversed(answer["events"]):
            subject = f"revision {event['revision']}" if event["revision"] else "app"
            at = display.clock(display.moment(event["at"]))
            print(f"{at}  {subject:<12}  {display.safe(event['phase'] or '')}")
            if event["detail"]:
                print(display.wrapped(event["detail"], " " * 21))

    run(act())


@command.command()
def logs(
    context: typer.Context,
    repository: Repository,
    tail: Annotated[int, typer.Option(min=0, max=10_000, help="Lines from the end.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> None:
    """What an app printed."""

    def emit(lines: list[dict[str, Any]]) -> None:
        for line in lines:
            print(json.dumps(line) if as_json else _log_line(line))
        sys.stdout.flush()

    async def act() -> None:
        import asyncio

        path = f"{_path(repository)}/_logs"
        async with connect(_server(context, server)) as api:
            answer = await api.get(path, tail=tail)
            emit(answer["lines"])
            while follow:
                await asyncio.sleep(FOLLOW)
                answer = await api.get(path, after=answer["cursor"])
                emit(answer["lines"])

    run(act())


def _log_line(line: dict[str, Any]) -> str:
    try:
        at = f"{display.clock(display.moment(str(line.get('time'))))}  "
    except ValueError:
        at = ""
    names = " ".join(str(line[key]) for key in ("component", "stream") if key in line)
    # A line is one line here too, whatever is in it.
    return display.safe(f"{at}{names}  {line.get('line', '')}").replace("\n", "\\n")


@command.command()
def wait(
    context: typer.Context,
    repository: Repository,
    digest: Annotated[str, typer.Option(help="The digest that was pushed: sha256:…")],
    timeout: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds to wait.")] = 60,
    server: ServerUrl = None,
) -> None:
    """Wait until a digest is live.

    Exit status: 0 it is live; 1 its newest revision failed, or another one took its place, and the
    reason is printed; 2 the server could not be asked; 124 neither came in time.
    """

    async def act() -> None:
        from registry.commands.waiting import until_live
        from storage.digest import Digest
        from storage.errors import DigestInvalid

        try:
            Digest.parse(digest)
        except DigestInvalid as error:
            raise CommandFailed(str(error), UNREACHABLE) from None
        _path(repository)
        async with connect(_server(context, server)) as api:
            app = await until_live(
                api,
                repository,
                digest,
                seconds=timeout,
                told=lambda text: print(text, file=sys.stderr, flush=True),
            )
        print(f"{repository} is live: revision {app['live']['revision']} at {app['url']}")

    run(act())


@command.command("set")
def set_settings(
    context: typer.Context,
    repository: Repository,
    assignments: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", show_default=False)
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Remove a variable.")
    ] = None,
    health_path: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Must answer 2xx before a revision is live; '' for none."
        ),
    ] = None,
    server: ServerUrl = None,
) -> None:
    """Set variables of an app; it is deployed again with them.

    NAME=@FILE takes the value from a file and NAME=- from standard input, so that a secret is not
    seen in the list of processes; one line break at the end is not part of it. Values are kept by
    the server and never shown.
    """
    variables: dict[str, str | None] = {}
    change: dict[str, object] = {}

    async def act() -> None:
        path = f"{_path(repository)}/_settings"
        for assignment in assignments or ():
            name, value = _assigned(assignment)
            variables[name] = value
        variables.update(dict.fromkeys(unset or (), None))
        if variables:
            change["variables"] = variables
        if health_path is not None:
            change["health_path"] = health_path or None
        if not change:
            raise CommandFailed("nothing to set; write NAME=VALUE, or see --help", UNREACHABLE)
        async with connect(_server(context, server)) as api:
            settings = await api.patch(path, change)
        print(f"{repository}: {', '.join(settings['variables']) or 'no variables'}")
        if settings["health_path"]:
            print(f"  health {settings['health_path']}")

    run(act())


def _assigned(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandFailed(f"{text.partition('=')[0]!r} is not NAME=VALUE", UNREACHABLE)
    try:
        if value == "-":
            value = sys.stdin.read().removesuffix("\n")
        elif value.startswith("@"):
            value = Path(value[1:]).read_text("utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CommandFailed(f"the value of {name} cannot be read: {why}", UNREACHABLE) from None
    return name, value


def _path(repository: str) -> str:
    """Raises CommandFailed."""
    from storage.errors import NameInvalid
    from storage.names import RepositoryName

    try:
        return f"/v1/apps/{RepositoryName.parse(repository)}"
    except NameInvalid as error:
        raise CommandFailed(str(error), UNREACHABLE) from None


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
