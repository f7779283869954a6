"""How things look: tables for a terminal, aligned text for a pipe, times as people say them.

What comes from applications and clients is never printed raw: a control character could make the
terminal do or show something else.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import datetime

PLAIN_WIDTH = 100  # columns where there is no terminal


def safe(text: str) -> str:
    """Control characters escaped, those of writing direction too; line breaks and tabs stay."""
    return "".join(
        character
        if character in "\n\t" or character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def age(then: datetime, now: datetime) -> str:
    """Coarse on purpose: "5 min"."""
    seconds = max(0, int((now - then).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(text: str) -> datetime:
    """RFC 3339, in the time zone of this machine."""
    return datetime.fromisoformat(text).astimezone()


def clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def short(digest: str) -> str:
    """Enough of a digest for a person."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}:{encoded[:12]}"


def wrapped(text: str, indent: str = "    ") -> str:
    """Each line of `text`, safe, indented and no wider than the screen."""
    width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else 100
    lines = safe(text).splitlines()
    filled = (
        textwrap.fill(
            line,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        for line in lines
    )
    return "\n".join(filled)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a head."""
    shown = [[safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(head, shown)
        return
    widths = [max(len(row[at]) for row in [list(head), *shown]) for at in range(len(head))]
    for row in [list(head), *shown]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _rich_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        columns.add_column(name, overflow="fold")
    for row in rows:
        columns.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(columns)


_STYLES = {"live": "green", "failed": "red", "superseded": "dim", "retired": "dim"}
