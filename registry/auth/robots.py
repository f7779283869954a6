"""The tokens of programs: named, scoped, expiring, revocable; rows beside the registry's own.

A secret has 256 random bits, so a fast hash keeps it as well as bcrypt would, and a row is read on
each request: what was revoked is refused at once, by every process. The id in front of the secret
finds the row, and is no secret: lists and the log show it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from registry.auth.identity import Kind, Principal
from registry.auth.scope import Grant
from storage.records.database import Connection, Database, Row, Value

PREFIX: Final = "spt_"
ROOM: Final = "auth"
COARSE: Final = 3600.0  # seconds between two notes that a token was used

STEPS: Final[Sequence[Sequence[str]]] = (
    (
        """CREATE TABLE robots (
            id {text} PRIMARY KEY,
            name {text} NOT NULL,
            hash {bytes} NOT NULL,
            grants {text} NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            expires DOUBLE PRECISION,
            last_used DOUBLE PRECISION,
            revoked DOUBLE PRECISION
        )""",
        "CREATE INDEX robots_by_name ON robots (name)",
    ),
)

_SELECT: Final = "SELECT id, name, hash, grants, created, expires, last_used, revoked FROM robots"
_SECRET = re.compile(r"spt_([A-Za-z0-9]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}", re.ASCII)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class RobotRefused(ValueError):
    """No name of a robot, or one that is taken, or that no token has."""


@dataclass(frozen=True, slots=True)
class Robot:
    """Times are seconds since 1970."""

    id: str
    name: str
    hash: bytes
    """SHA-256 of the whole secret."""
    grants: tuple[Grant, ...]
    """Empty: the policy decides what robot:NAME may do."""
    created: float
    expires: float | None
    last_used: float | None
    """Up to an hour before the last use; None: never."""
    revoked: float | None

    def valid(self, now: float) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)

    @property
    def principal(self) -> Principal:
        return Principal(Kind.ROBOT, self.name, grants=self.grants)


class Robots:
    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def open(self) -> None:
        """Bring the table up to date. Raises LayoutUnknown."""
        await self._database.migrate(ROOM, STEPS)

    async def create(
        self, name: str, grants: Sequence[Grant], *, life: float | None
    ) -> tuple[Robot, str]:
        """A new robot and its secret, which nothing can tell again. `life` in seconds, or None.

        A name has one valid token at a time. Raises RobotRefused.
        """
        if not _NAME.fullmatch(name):
            raise RobotRefused(
                f"{name[:64]!r} is no name of a robot: 1 to 64 letters, digits and any of . _ @ -"
            )
        now = self._clock()
        id = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        secret = f"{PREFIX}{id}_{secrets.token_urlsafe(32)}"
        expires = None if life is None else now + life
        robot = Robot(id, name, _hash(secret), tuple(grants), now, expires, None, None)

        def change(connection: Connection) -> None:
            if any(one.valid(now) for one in _named(connection, name)):
                raise RobotRefused(
                    f"robot {name!r} has a token; `spindle token revoke {name}` first, or choose"
                    " another name so that both can be used for a while"
                )
            connection.execute(
                "INSERT INTO robots (id, name, hash, grants, created, expires)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                *(id, name, robot.hash, _write(robot.grants), now, expires),
            )

        await self._database.write(change)
        return robot, secret

    async def all(self) -> list[Robot]:
        """By name, the newest last; also those that are over."""
        statement = _SELECT + " ORDER BY name, created"
        return await self._database.read(
            lambda connection: [_robot(row) for row in connection.all(statement)]
        )

    async def revoke(self, id_or_name: str) -> list[Robot]:
        """Those that are revoked now: the next request with one of them is refused.

        Raises RobotRefused when no valid token has that id or name.
        """
        now = self._clock()

        def change(connection: Connection) -> list[Robot]:
            found = [_found(connection, id_or_name), *_named(connection, id_or_name)]
            going = [one for one in found if one is not None and one.valid(now)]
            if not going:
                raise RobotRefused(
                    f"no valid token has the id or name {id_or_name[:64]!r}; `spindle token list`"
                    " shows them all"
                )
            for one in going:
                connection.execute("UPDATE robots SET revoked = ? WHERE id = ?", now, one.id)
            return going

        return await self._database.write(change)

    async def of_secret(self, secret: str) -> Robot | None:
        """The robot that a secret is of, if it is valid. On the event loop: some microseconds."""
        match = _SECRET.fullmatch(secret)
        if match is None:
            return None
        robot = await self._database.read(lambda connection: _found(connection, match[1]))
        if robot is None or not hmac.compare_digest(robot.hash, _hash(secret)):
            return None
        return robot if robot.valid(self._clock()) else None

    async def of_name(self, name: str) -> Robot | None:
        """The robot that has a valid token under that name."""
        now = self._clock()
        found = await self._database.read(lambda connection: _named(connection, name))
        return next((one for one in found if one.valid(now)), None)

    def unnoted(self, robot: Robot) -> bool:
        """Whether it is time for `note`."""
        return robot.last_used is None or self._clock() - robot.last_used >= COARSE

    async def note(self, robot: Robot) -> None:
        """Keep that it was used now. Raises StorageError, OSError, sqlite3.Error."""
        now = self._clock()
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE robots SET last_used = ? WHERE id = ?", now, robot.id
            )
        )

    async def any(self) -> bool:
        """Whether there was ever one."""
        return await self._database.read(
            lambda connection: connection.one("SELECT 1 FROM robots LIMIT 1") is not None
        )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()


def _found(connection: Connection, id: str) -> Robot | None:
    row = connection.one(_SELECT + " WHERE id = ?", id)
    return _robot(row) if row else None


def _named(connection: Connection, name: str) -> list[Robot]:
    rows = connection.all(_SELECT + " WHERE name = ?", name)
    return [_robot(row) for row in rows]


def _robot(row: Row) -> Robot:
    id, name, hash, grants, created, expires, last_used, revoked = row
    assert isinstance(hash, bytes)
    return Robot(
        *(str(id), str(name), hash, _read(str(grants))),
        _time(created) or 0.0,
        *(_time(expires), _time(last_used), _time(revoked)),
    )


def _time(value: Value) -> float | None:
    return None if value is None else float(value)


def _write(grants: Sequence[Grant]) -> str:
    """As JSON, `[["acme/*", ["pull", "push"]]]`."""
    return json.dumps([[one.pattern.text, sorted(one.actions)] for one in grants])


@lru_cache(maxsize=1024)  # the same few texts, with each request
def _read(text: str) -> tuple[Grant, ...]:
    return tuple(Grant.parse(pattern, actions) for pattern, actions in json.loads(text))
