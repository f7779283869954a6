"""`spindle audit`: read what happened, and whether anybody changed what is written of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from registry.commands.options import Assignments, ConfigFile, Data, effective, stop

if TYPE_CHECKING:
    from storage.chain import Checked, Head
    from storage.filesystem.layout import AuditRoom

T = TypeVar("T")

command = typer.Typer(
    help="Read the audit, and check that nobody changed it.",
    no_args_is_help=True,
    add_completion=False,
)


@command.command()
def verify(
    noted: Annotated[
        str | None,
        typer.Option("--head", metavar="SEQ:HASH", help="A head that was noted elsewhere."),
    ] = None,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Read all that there is; a server may be running on it.

    Ends with status 1, and names the first line that is not as it was written. Only with a --head
    can it tell that the last lines are gone, or that everything was written anew.
    """
    head = _parse_head(noted)
    room = _room(config, data, assignments, needed=head is None)
    checked = _read(lambda: _verified(room, head))
    if checked.broken is not None:
        typer.echo(str(checked.broken))
        typer.echo(f"{checked.lines} lines before it are as they were written")
        raise typer.Exit(1)
    typer.echo(f"{checked.lines} lines are as they were written; the head is {checked.head}")


@command.command()
def head(config: ConfigFile = None, data: Data = None, assignments: Assignments = None) -> None:
    """Print the number and the hash of the last line, to be noted on another machine.

    Ends with status 1 when the audit is not as it was written.
    """
    room = _room(config, data, assignments, needed=True)
    checked = _read(lambda: _verified(room, None))
    if checked.broken is not None:
        typer.echo(str(checked.broken), err=True)
        raise typer.Exit(1)
    typer.echo(str(checked.head))


@command.command()
def show(
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="A date, a time, or an age: 90min, 12h, 7d."),
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", help="Only of these, such as 'acme/*'.")
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", help="Only of these, such as 'robot:*'.")
    ] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Only such, as 'tag.*' or sign-in.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are.")] = False,
    config: ConfigFile = None,
    data: Data = None,
    assignments: Assignments = None,
) -> None:
    """Print what happened, oldest first. In names, * stands for anything."""
    begin = _moment(since) if since is not None else None
    room = _room(config, data, assignments, needed=True)
    wanted = {"repository": repository, "principal": principal, "action": action}

    def print_all() -> None:
        for raw, content in _lines(room):
            if begin is not None and _time(content) < begin:
                continue
            if all(
                pattern is None or fnmatchcase(str(content.get(name, "")), pattern)
                for name, pattern in wanted.items()
            ):
                typer.echo(raw.decode("ascii", "replace") if as_json else _row(content))

    _read(print_all)


def _verified(room: AuditRoom, noted: Head | None) -> Checked:
    from storage import chain
    from storage.filesystem.chained import read_files

    return chain.verify(read_files(room), noted)


def _lines(room: AuditRoom) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    """What can be read; `verify` is there to say what cannot."""
    from storage import chain
    from storage.filesystem.chained import read_files

    for _, lines in read_files(room):
        for raw in lines:
            line = chain.read(raw.rstrip(b"\n"))
            if line is not None:
                yield raw.rstrip(b"\n"), line.content


def _row(content: Mapping[str, Any]) -> str:
    what = str(content.get("repository", ""))
    if reference := content.get("reference"):
        digest = str(reference).startswith(("sha256:", "sha512:"))
        what += f"{'@' if digest else ':'}{reference}" if what else str(reference)
    if (digest_of := content.get("digest")) and digest_of != content.get("reference"):
        what += f" {digest_of}"
    parts = [
        *(str(content.get("time", "")), str(content.get("outcome", ""))),
        *(str(content.get("action", "")), str(content.get("principal", "-"))),
        *(str(content.get("address", "-")), str(content.get("status", "-")), what or "-"),
    ]
    if detail := content.get("detail"):
        parts.append(f"({detail})")
    # As JSON escapes it: what a client sent must not move the cursor of who reads it.
    return json.dumps("  ".join(parts))[1:-1].replace('\\"', '"').replace("\x7f", "\\u007f")


def _time(content: Mapping[str, Any]) -> datetime:
    try:
        found = datetime.fromisoformat(str(content.get("time")))
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)  # rather one too many
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _moment(text: str) -> datetime:
    from registry.settings import Seconds

    try:
        return datetime.now(UTC) - timedelta(seconds=Seconds.parse(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        stop(f"--since {text!r} is no time: use 2026-05-01, 2026-05-01T12:00:00Z, or 12h")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _parse_head(text: str | None) -> Head | None:
    from storage.chain import Head

    try:
        return Head.parse(text) if text is not None else None
    except ValueError as error:
        stop(str(error))


def _room(
    file: Path | None, data: str | None, assignments: list[str] | None, *, needed: bool
) -> AuditRoom:
    """Where the audit is. It is only read: nothing is made that is not there."""
    from registry.audit_log import directory_of
    from storage.filesystem.layout import AuditRoom

    directory = directory_of(effective(file, {"data": data}, assignments))
    room = AuditRoom(directory)
    if needed and not _read(room.files):
        stop(
            f"there is no audit in {directory}; name its data directory with --data, and see that"
            " audit.enabled is set"
        )
    return room


def _read(work: Callable[[], T]) -> T:
    try:
        return work()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as with `| head`
        raise typer.Exit(0) from None
    except OSError as error:
        stop(f"the audit cannot be read: {error}")
