"""`spindle user`: who may sign in with a password. A running server sees it within a second."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.commands.options import Assignments, ConfigFile, Data, effective, stop
from registry.settings import Config

if TYPE_CHECKING:
    from registry.auth.users import Users

command = typer.Typer(
    help="Add, change and remove those who sign in with a password.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and any of . _ @ -")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
Generate = Annotated[
    bool, typer.Option("--generate", help="Make a password up, and print it this once.")
]


@command.command()
def add(
    name: Name,
    password_stdin: FromInput = False,
    generate: Generate = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Add a user; the password is asked for, and never an argument."""

    def added(users: Users, hash: str) -> Users:
        return users.with_new(name, hash)

    _set(added, name, password_stdin, generate, config, data, assignments)


@command.command()
def passwd(
    name: Name,
    password_stdin: FromInput = False,
    generate: Generate = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Give a user another password."""

    def changed(users: Users, hash: str) -> Users:
        return users.with_hash(name, hash)

    _set(changed, name, password_stdin, generate, config, data, assignments)


@command.command()
def remove(
    name: Name, config: ConfigFile = None, data: Data = None, assignments: Assignments = None
) -> None:
    """Remove a user; what was handed out to that name ends with it."""
    from registry.auth import htpasswd

    with _saying():
        settings = effective(config, {"data": data}, assignments)
        htpasswd.change(_file(settings), lambda users: users.without(name))
        _tell(settings, "user.remove", name)
    print(f"{name} is no user any more")


@command.command("list")
def list_users(
    config: ConfigFile = None, data: Data = None, assignments: Assignments = None
) -> None:
    """Print the names, one a line."""
    from registry.auth import htpasswd

    with _saying():
        for name in sorted(
            htpasswd.read(_file(effective(config, {"data": data}, assignments))).by_name
        ):
            print(name)


def _set(
    changed: Callable[[Users, str], Users],
    name: str,
    from_input: bool,
    generate: bool,
    config: Path | None,
    data: str | None,
    assignments: list[str] | None,
) -> None:
    import secrets

    from registry.auth import htpasswd
    from registry.auth.passwords import NO_HASH, hash_of

    with _saying():
        if from_input and generate:
            stop("--password-stdin and --generate exclude each other")
        settings = effective(config, {"data": data}, assignments)
        file = _file(settings)
        changed(htpasswd.read(file), NO_HASH)  # what is refused is refused before anybody types
        if generate:
            password = secrets.token_urlsafe(24)
        else:
            password = _read_line() if from_input else _asked(name)
        hash = hash_of(password)
        htpasswd.change(file, lambda users: changed(users, hash))
        _tell(settings, "user.password", name)
    if generate:
        print(f"{name} / {password}")
        print("This is the only time that the password is shown.", file=sys.stderr)
    else:
        print(f"{name} can sign in")


def _read_line() -> str:
    """The first line of standard input; `echo` and `pass` end theirs, `printf` does not."""
    line = sys.stdin.buffer.readline(4096)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        stop("the password on standard input is not UTF-8 text")


def _asked(name: str) -> str:
    if not sys.stdin.isatty():
        stop("there is no terminal to ask for a password; use --password-stdin or --generate")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != password:
        stop("the two are not the same; nothing was changed")
    return password


def _file(settings: Config) -> Path:
    from registry.entrance import users_file
    from storage.filesystem.layout import Layout

    return users_file(settings, Layout.open(settings.data))


def _tell(settings: Config, action: str, name: str) -> None:
    """Raises OSError, StorageError: it is done then, and not in the audit."""
    import asyncio

    from registry.audit import done_at_the_terminal
    from registry.audit_log import open_audit

    async def tell() -> None:
        async with open_audit(settings) as audit:
            await audit.record(done_at_the_terminal(action, reference=f"user:{name}"))

    asyncio.run(tell())


@contextmanager
def _saying() -> Iterator[None]:
    """What goes wrong, as a sentence."""
    from registry.auth.passwords import PasswordRefused
    from registry.auth.users import NameRefused, UsersInvalid
    from storage.errors import StorageError

    try:
        yield
    except (StorageError, OSError, NameRefused, UsersInvalid, PasswordRefused) as error:
        stop(str(error))
