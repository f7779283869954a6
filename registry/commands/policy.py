"""`spindle policy`: who may do what, and which line says so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from registry.commands import display
from registry.commands.options import ConfigFile, Data, effective

if TYPE_CHECKING:
    from registry.auth.identity import Principal
    from registry.settings import Config

command = typer.Typer(
    help="Say who may do what, and why.", no_args_is_help=True, add_completion=False
)

DENIED = 1
WRONG = 2  # the question makes no sense, or there is no policy to answer it


@command.command()
def explain(
    who: Annotated[
        str,
        typer.Argument(
            metavar="WHO", help="anonymous, user:NAME, robot:NAME or workload:ISSUER:SUBJECT."
        ),
    ],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="Such as pull or push.")],
    repository: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPOSITORY]", help="Left out: what belongs to none, such as the catalogue."
        ),
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What the issuer says of a workload."),
    ] = None,
    config: ConfigFile = None,
    data: Data = None,
) -> None:
    """Print whether somebody may do something, and the line that decides.

    What the token of a robot allows by itself is not asked here: it is where the token is kept.
    Exit status: 0 allowed, 1 denied, 2 the question or the policy is wrong.
    """
    from registry.auth import policyfile
    from registry.auth.policy import decide
    from registry.auth.scope import parse_action
    from storage.errors import NameInvalid
    from storage.names import RepositoryName

    try:
        principal = _principal(who, claim or [])
        if repository is not None:
            RepositoryName.parse(repository)
        policy = policyfile.load(_settings(config, data))
        decision = decide(policy, principal, parse_action(action), repository)
    except (ValueError, NameInvalid) as error:
        _stop(str(error))
    print(display.safe(f"{'allowed' if decision.allowed else 'denied'}: {decision.reason}"))
    if groups := policy.groups_of(principal):
        print(display.safe(f"{principal.text} is in {', '.join(groups)}"))
    raise typer.Exit(0 if decision.allowed else DENIED)


@command.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Else the one that the settings name.")
    ] = None,
    config: ConfigFile = None,
    data: Data = None,
) -> None:
    """Read a policy file as the server would; exit status 1 and a sentence if it is refused."""
    from registry.auth import policyfile

    path = policyfile.path(_settings(config, data)) if file is None else file
    try:
        policy = policyfile.load_file(path)
    except ValueError as error:
        _stop(str(error), DENIED)
    rules, accounts = len(policy.lines), len(policy.accounts)
    print(f"{display.safe(str(path))} is good: [[allow]] {rules}, accounts {accounts}")


@command.command()
def example() -> None:
    """Print a policy file to begin with; `spindle policy example > policy.toml`."""
    sys.stdout.write(EXAMPLE)


def _principal(text: str, claims: list[str]) -> Principal:
    """Raises ValueError."""
    from registry.auth.identity import ANONYMOUS, Kind, Principal
    from registry.auth.who import Who

    if text == ANONYMOUS.text:
        principal = ANONYMOUS
    elif "*" in text:
        raise ValueError(f"{text!r}: ask for somebody, without *")
    else:
        Who.member(text)
        kind, _, name = text.partition(":")
        principal = Principal(Kind(kind), name, dict(map(_claim, claims)))
    if claims and principal.kind is not Kind.WORKLOAD:
        raise ValueError(f"only workloads have claims, and {text} is none")
    return principal


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--claim takes NAME=VALUE, not {text!r}")
    return name, value


def _settings(file: Path | None, data: str | None) -> Config:
    return effective(file, {"data": data}, None)


def _stop(reason: str, status: int = WRONG) -> NoReturn:
    typer.echo(f"spindle: {display.safe(reason)}", err=True)
    raise typer.Exit(status)


EXAMPLE = """\
# Who may do what. Nothing is allowed but what a line here allows (and what a robot's own token
# does). The lines are looked at in their order, and the first that fits is what
# `spindle policy explain WHO ACTION REPOSITORY` shows. Read anew when it changes, within seconds.

[groups]
admins = ["user:admin"]
shop = ["user:ada", "user:grace"]
ci = ["robot:ci", "workload:github:repo:acme/*"]    # * in workloads: any characters

# Owners of all that begins with the name of an account: they may do everything there.
[accounts]
acme = ["group:shop"]

# `admin` is every action; on "**" also what belongs to no repository.
[[allow]]
who = ["group:admins"]
repository = ["**"]
actions = ["admin"]

# Whoever signed in may pull; "anonymous" is who did not, and what it may do everybody may.
[[allow]]
who = ["everyone"]
repository = ["**"]
actions = ["pull"]

[[allow]]
who = ["anonymous"]
repository = ["public/**"]
actions = ["pull"]

# push: new content and tags. overwrite: move a tag that is there. delete, deploy: as they say.
[[allow]]
who = ["group:ci"]
repository = ["acme/*", "acme/*/cache"]             # *: within one component; **: any components
actions = ["push"]

# Only workloads of which the issuer says all of this, whatever they are called.
[[allow]]
claims = { issuer = "github", repository = "acme/shop", ref = "refs/heads/main" }
repository = ["acme/shop"]
actions = ["push", "overwrite", "deploy"]
"""
