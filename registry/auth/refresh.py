"""Tokens for new tokens: what `docker login` can keep in the place of a password.

`spr_` and 256 random bits, of which only a hash is kept. One dies after 30 days, with its owner,
when its owner gets another password, and when its owner has asked for too many since.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from registry.auth.identity import Principal
from storage.records.database import Connection, Database, Step

ROOM: Final = "refresh"
LIFE: Final = 30 * 24 * 3600.0  # seconds
MOST: Final = 16  # of one owner: one for each machine that somebody signs in from

_FORM: Final = re.compile(r"spr_[A-Za-z0-9_-]{43}", re.ASCII)

STEPS: Final[tuple[Step, ...]] = (
    (
        # hash: SHA-256 of the token, in hex; fingerprint: of the owner's credential, likewise.
        """
        CREATE TABLE refresh_tokens (
            hash {text} NOT NULL PRIMARY KEY,
            owner {text} NOT NULL,
            fingerprint {text} NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            expires DOUBLE PRECISION NOT NULL
        ) {clustered}
        """,
        "CREATE INDEX refresh_tokens_by_owner ON refresh_tokens (owner, created)",
    ),
)


@dataclass(frozen=True, slots=True)
class Owner:
    principal: Principal
    fingerprint: str
    """Of the credential: another one after a change of the password. Only its hash is kept."""


class Owners(Protocol):
    """Those who can come back without a password."""

    async def recall(self, subject: str) -> Owner | None:
        """Whom a Principal.text means now; None for who is gone, or cannot come back."""
        ...


class RefreshTokens:
    """Only to be used after `open`."""

    def __init__(
        self, database: Database, owners: Owners, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._owners = owners
        self._clock = clock

    async def open(self) -> None:
        """Bring the tables up to date. Raises LayoutUnknown."""
        await self._database.migrate(ROOM, STEPS)

    async def issue(self, subject: str) -> str | None:
        """A new one, durable on return; None for who cannot come back. Raises OSError."""
        owner = await self._owners.recall(subject)
        if owner is None:
            return None
        text = f"spr_{secrets.token_urlsafe(32)}"
        now = self._clock()

        def change(connection: Connection) -> None:
            connection.execute("DELETE FROM refresh_tokens WHERE expires <= ?", now)
            connection.execute(
                "INSERT INTO refresh_tokens (hash, owner, fingerprint, created, expires)"
                " VALUES (?, ?, ?, ?, ?)",
                *(_hash(text), subject, _hash(owner.fingerprint), now, now + LIFE),
            )
            connection.execute(
                "DELETE FROM refresh_tokens WHERE owner = ? AND hash NOT IN (SELECT hash"
                " FROM refresh_tokens WHERE owner = ? ORDER BY created DESC, hash LIMIT ?)",
                *(subject, subject, MOST),
            )

        await self._database.write(change)
        return text

    async def redeem(self, text: str) -> Principal | None:
        """Whose it is, as long as it is good for anything. It stays good."""
        if not _FORM.fullmatch(text):
            return None
        row = await self._database.read(
            lambda connection: connection.one(
                "SELECT owner, fingerprint FROM refresh_tokens WHERE hash = ? AND expires > ?",
                *(_hash(text), self._clock()),
            )
        )
        if row is None:
            return None
        owner = await self._owners.recall(str(row[0]))
        if owner is None or _hash(owner.fingerprint) != row[1]:
            return None
        return owner.principal

    async def revoke(self, subject: str) -> int:
        """All of an owner; how many there were. Raises OSError."""
        return await self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM refresh_tokens WHERE owner = ?", subject
            )
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
