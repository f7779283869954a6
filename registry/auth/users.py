"""The users' file, in the format of Apache's htpasswd: `name:hash` a line. Pure.

Hashes are bcrypt's alone, since all others of that format are quick to try passwords against.
Comments and blank lines stay where they are when a user is added or removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

LARGEST: Final = 1 << 20  # bytes of the file: some 10,000 users
COST: Final = 12  # of new hashes: a quarter of a second of one core
COSTS: Final = range(
    10, 15
)  # below, guessing is cheap; above, one sign-in holds a core for seconds

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
# The last character of a salt has two bits: bcrypt raises for what has more.
_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}", re.ASCII)


class UsersInvalid(ValueError):
    """A sentence that names the line; never what is in it, for it may be a secret."""


class NameRefused(ValueError):
    """No name of a user, or one that is taken, or that nobody has."""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    hash: str
    """bcrypt's, with its cost and salt."""

    @property
    def cost(self) -> int:
        return int(self.hash[4:6])


@dataclass(frozen=True, slots=True)
class Users:
    """Only made by `parse` and by the methods here."""

    lines: tuple[str, ...] = ()
    """Of the file, without their ends."""
    by_name: Mapping[str, User] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    costs: tuple[int, ...] = ()
    """Of all hashes, from the lowest."""

    @staticmethod
    def parse(content: bytes) -> Users:
        """Raises UsersInvalid."""
        if len(content) > LARGEST:
            raise UsersInvalid(f"the file is larger than {LARGEST} bytes; keep robots as tokens")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            number = content.count(b"\n", 0, error.start) + 1
            raise UsersInvalid(f"line {number} is not UTF-8 text") from None
        lines = tuple(line.removesuffix("\r") for line in text.split("\n"))
        if lines[-1] == "":
            lines = lines[:-1]
        found: dict[str, User] = {}
        at: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            user = _user(number, line)
            if user is None:
                continue
            if user.name in found:
                raise UsersInvalid(
                    f"line {number}: {user.name!r} is in line {at[user.name]} already; keep one"
                )
            found[user.name], at[user.name] = user, number
        costs = tuple(sorted(user.cost for user in found.values()))
        return Users(lines, MappingProxyType(found), costs)

    def write(self) -> bytes:
        return "".join(f"{line}\n" for line in self.lines).encode()

    def find(self, name: str) -> User | None:
        return self.by_name.get(name)

    def with_new(self, name: str, hash: str) -> Users:
        """Raises NameRefused."""
        check_name(name)
        if name in self.by_name:
            raise NameRefused(f"there is a user {name!r} already; `spindle user passwd {name}`")
        return self._with((*self.lines, f"{name}:{hash}"))

    def with_hash(self, name: str, hash: str) -> Users:
        """Raises NameRefused."""
        own = self._start_of(name)
        return self._with(
            tuple(own + hash if line.startswith(own) else line for line in self.lines)
        )

    def without(self, name: str) -> Users:
        """Raises NameRefused."""
        own = self._start_of(name)
        return self._with(tuple(line for line in self.lines if not line.startswith(own)))

    def _start_of(self, name: str) -> str:
        if name not in self.by_name:
            raise NameRefused(f"there is no user {name[:64]!r}; `spindle user list` shows them all")
        return f"{name}:"

    @staticmethod
    def _with(lines: tuple[str, ...]) -> Users:
        return Users.parse("".join(f"{line}\n" for line in lines).encode())


def check_name(name: str) -> str:
    """The name itself. Raises NameRefused."""
    if not _NAME.fullmatch(name):
        raise NameRefused(
            f"{name[:64]!r} is no name of a user: 1 to 64 letters, digits and any of . _ @ -"
        )
    return name


def _user(number: int, line: str) -> User | None:
    """Of one line; None for a comment. Raises UsersInvalid."""
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    name, colon, hash = line.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise UsersInvalid(
            f"line {number} does not begin with a name and a colon; a name has 1 to 64 letters,"
            " digits and any of . _ @ -"
        )
    found = _HASH.fullmatch(hash.rstrip())
    if found is None:
        raise UsersInvalid(
            f"line {number}: what is there for {name!r} is no bcrypt hash ($2y$, $2a$ or $2b$);"
            f" use `spindle user passwd {name}` or `htpasswd -B`"
        )
    if (cost := int(found[1])) not in COSTS:
        raise UsersInvalid(
            f"line {number}: the hash of {name!r} has cost {cost}; {COSTS[0]} to {COSTS[-1]} are"
            " taken, for less is guessed too fast and more holds the server up"
        )
    return User(name, hash.rstrip())
