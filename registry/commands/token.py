"""`spindle token`: what programs sign in with. A running server sees each change at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from registry.audit import Event, done_at_the_terminal
from registry.commands import display
from registry.commands.options import Assignments, ConfigFile, Data, effective, stop
from registry.settings import NEVER, Age

if TYPE_CHECKING:
    from registry.auth.robots import Robot, Robots
    from registry.settings import Config

T = TypeVar("T")

command = typer.Typer(
    help="Make, list and revoke the tokens of programs.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and any of . _ @ -")]


@command.command()
def create(
    name: Name,
    repository: Annotated[
        list[str] | None,
        typer.Option(
            "--repository",
            metavar="PATTERN",
            help="What it is for, such as acme/*; may be repeated. Without: what the policy says.",
        ),
    ] = None,
    allow: Annotated[
        str | None,
        typer.Option("--allow", metavar="ACTIONS", help="Such as pull,push; pull if not given."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="Such as 90d or 12h, or never.")
    ] = "90d",
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Make a token and print it: nothing can tell it again."""
    from registry.auth.scope import Grant

    if allow is not None and not repository:
        stop("--allow needs a --repository; without one the policy decides what the robot may do")
    try:
        age = Age.parse(expires)
    except ValueError:
        stop(f"--expires {expires!r} is no time above 0, such as 90d or 12h, and not never")
    try:
        actions = [action.strip() for action in ("pull" if allow is None else allow).split(",")]
        grants = [Grant.parse(pattern, actions) for pattern in repository or ()]
    except ValueError as error:
        stop(str(error))
    life = None if age == NEVER else float(age)

    settings = effective(config, {"data": data}, assignments)
    robot, secret = _run(
        settings,
        lambda robots: robots.create(name, grants, life=life),
        lambda made: [_told("robot.create", made[0], f"{_allowed(made[0])}, {_until(made[0])}")],
    )
    typer.echo(
        f"robot {robot.name}, {_allowed(robot)}, {_until(robot)}; use it as a password with any"
        " user name. This is the only time that it is shown:",
        err=True,
    )
    print(secret)


@command.command("list")
def list_tokens(
    config: ConfigFile = None, data: Data = None, assignments: Assignments = None
) -> None:
    """Every token, also those that are over; never a secret."""
    robots = _run(effective(config, {"data": data}, assignments), lambda robots: robots.all())
    now = datetime.now().astimezone()
    if not robots:
        print("No tokens yet: `spindle token create NAME --repository PATTERN --allow pull,push`")
        return
    rows = [
        (
            robot.name,
            robot.id,
            _allowed(robot),
            "revoked" if robot.revoked is not None else _until(robot, now.timestamp()),
            "never" if robot.last_used is None else _ago(robot.last_used, now),
        )
        for robot in robots
    ]
    display.table(("NAME", "ID", "MAY", "VALID", "USED"), rows)


@command.command()
def revoke(
    id_or_name: Annotated[str, typer.Argument(metavar="ID|NAME")],
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Make a token worthless from the next request on."""
    settings = effective(config, {"data": data}, assignments)
    gone = _run(
        settings,
        lambda robots: robots.revoke(id_or_name),
        lambda revoked: [_told("robot.revoke", robot, robot.id) for robot in revoked],
    )
    for robot in gone:
        print(f"{robot.name} ({robot.id}) is revoked")


def _allowed(robot: Robot) -> str:
    if not robot.grants:
        return "what the policy says"
    return "; ".join(f"{', '.join(sorted(one.actions))} {one.pattern}" for one in robot.grants)


def _until(robot: Robot, now: float | None = None) -> str:
    if robot.expires is None:
        return "until it is revoked"
    if now is not None and now >= robot.expires:
        return "expired"
    return f"until {display.clock(datetime.fromtimestamp(robot.expires).astimezone())}"


def _ago(then: float, now: datetime) -> str:
    return f"{display.age(datetime.fromtimestamp(then).astimezone(), now)} ago"


def _told(action: str, robot: Robot, detail: str) -> Event:
    return done_at_the_terminal(action, reference=f"robot:{robot.name}", detail=detail)


def _run(
    config: Config,
    act: Callable[[Robots], Awaitable[T]],
    told: Callable[[T], list[Event]] = lambda _: [],
) -> T:
    """`told`: for the audit, what was done."""
    from registry import app
    from registry.auth.robots import RobotRefused
    from storage.errors import StorageError

    async def acted() -> T:
        async with app.open_records(config) as records:
            done = await act(records.robots)
            try:
                for event in told(done):
                    await records.audit.record(event)
            except OSError as error:
                stop(f"done, but not in the audit: {error}")
            return done

    try:
        return asyncio.run(acted())
    except (StorageError, OSError, RobotRefused) as error:
        stop(str(error))
