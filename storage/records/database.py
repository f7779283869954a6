"""The small protocol under which every record is kept.

Statements are written once, in the subset that SQLite and PostgreSQL share, with `?` for
parameters. A sequence of statements is one plain function, handed to the database whole: it runs
where the driver wants it to run (SQLite reads on the event loop, writes in the one writing thread),
never half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Value, ...]
T = TypeVar("T")


class Connection(Protocol):
    """What a query or change is given. Not to be kept past its return."""

    def execute(self, statement: str, *parameters: Value) -> int:
        """Run it; return the number of rows changed."""
        ...

    def one(self, statement: str, *parameters: Value) -> Row | None:
        """The first row, also of an `INSERT … RETURNING`."""
        ...

    def all(self, statement: str, *parameters: Value) -> list[Row]: ...


Step: TypeAlias = Sequence[str | Callable[[Connection], None]]


class Database(Protocol):
    """A driver."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on one consistent state of the data. It must not change anything."""
        ...

    async def scan(self, query: Callable[[Connection], T]) -> T:
        """`read` for what may take long: other reads and writes go on meanwhile."""
        ...

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run `change` as one transaction; on return it survives a power cut.

        If `change` raises, nothing of it happened and the exception goes on. It may be run again
        when the database asks for it, so it must have no other effect. A caller that is cancelled
        may find the change done or not done, never half.
        """
        ...

    async def snapshot(self, path: str, query: Callable[[Connection], T]) -> T:
        """Write all rows, as of one moment, to a new file; return what `query` finds in that state.

        In small steps beside readers and writers, who wait for none of it. The format is the
        driver's own. Not durable until the caller syncs the file.
        """
        ...

    async def migrate(self, room: str, steps: Sequence[Step]) -> None:
        """Bring the tables of one room up to the number of steps, one transaction a step.

        A step is a sequence of statements, and of functions where those cannot say it; it is never
        edited after a release. Where databases
        differ a statement says `{serial}` (a primary key counted by the database), `{text}` (text
        compared byte by byte), `{bytes}` and, after the bracket of a table with small rows and a
        key of its own, `{clustered}`. Raises LayoutUnknown when the data have seen more steps than
        we know.
        """
        ...

    async def close(self) -> None: ...
