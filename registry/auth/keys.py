"""The keys that tokens are signed with: rows beside the registry's own, shared by all processes.

A key signs until it is `life` seconds old; then another one is made, and the old one only verifies
until the longest token that it can have signed has expired. A new key is seen by every process
before it signs, so no process meets a token that it cannot verify.

The private key lies in the row as it is. Who can read the data directory (0700) can read, and
change, everything that tokens protect; a password for it would have to lie beside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage.records.database import Connection, Database, Row, Step

log = structlog.get_logger(__name__)

ROOM: Final = "signing"
ALGORITHM: Final = "ES256"  # what everybody can verify who verifies by a JWKS; clients never look

LOOK: Final = 1.0  # seconds between two looks at the rows
SETTLE: Final = 3.0  # seconds in which all processes look: until then a new key does not sign
LEEWAY: Final = 60  # seconds by which clocks may differ
RETRY: Final = 60.0  # seconds until a rotation is tried again that the disk refused

STEPS: Final[tuple[Step, ...]] = (
    (
        # until: since when it is forgotten; null while no newer one was made.
        """
        CREATE TABLE signing_keys (
            kid {text} NOT NULL PRIMARY KEY,
            private {bytes} NOT NULL,
            created DOUBLE PRECISION NOT NULL,
            until DOUBLE PRECISION
        ) {clustered}
        """,
    ),
)


_SELECT: Final = "SELECT kid, private, created, until FROM signing_keys"


@dataclass(frozen=True, slots=True)
class Key:
    kid: str
    """RFC 7638, SHA-256, of the public key."""
    private: ec.EllipticCurvePrivateKey
    public: ec.EllipticCurvePublicKey
    created: float
    until: float | None
    """Seconds since 1970; None for the newest."""


class Keys:
    """Only to be used after `open`. Belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        *,
        life: float,
        longest: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`life`: seconds that a key signs. `longest`: seconds that a token lives at most."""
        self._database = database
        self._life = life
        self._longest = longest
        self._clock = clock
        self._rows: frozenset[Row] = frozenset()
        self._keys: Mapping[str, Key] = MappingProxyType({})
        self._looked = self._asked = self._tried = float("-inf")
        self.generation = 0
        """Changes whenever the keys do."""

    async def open(self) -> None:
        """Bring the tables up to date, and make a key if there is none. Raises LayoutUnknown."""
        await self._database.migrate(ROOM, STEPS)
        await self._look()
        if self._newest() is None:
            await self.rotate(due=True)

    async def signing(self) -> Key:
        """The key to sign with now. Raises OSError if there is none and the disk takes none."""
        now = await self._fresh()
        newest = self._newest()
        if newest is None or (self._due(newest.created, now) and self._ticked(now)):
            try:
                await self.rotate(due=True)
            except OSError as error:
                if newest is None:
                    raise
                # Who is full can still be pulled and deleted from, with the key that there is.
                log.warning("key.rotate.failed", reason=str(error))
        return self._settled(self._clock())

    async def verifying(self, kid: str) -> Key | None:
        """The key of a token, if it is ours and not forgotten.

        One that is not known may be new: that costs a look, but once a second at most.
        """
        now = await self._fresh()
        key = self._keys.get(kid)
        if key is None and not 0 <= now - self._asked < LOOK:
            self._asked = now
            await self._look()
            key = self._keys.get(kid)
        return key if key is not None and _remembered(key, now) else None

    async def seen(self) -> int:
        """The generation, after a look if it is time for one."""
        await self._fresh()
        return self.generation

    async def all(self) -> list[Key]:
        """Those that verify; newest first."""
        await self._look()
        now = self._clock()
        return sorted(
            (key for key in self._keys.values() if _remembered(key, now)),
            key=_rank,
            reverse=True,
        )

    async def rotate(self, *, due: bool = False, forget: bool = False) -> bool:
        """Make a new key; whether one was made. One transaction.

        `due`: only if there is none that is young enough, as another process may just have made
        one. `forget`: what the older keys signed is invalid at once.
        """
        private = ec.generate_private_key(ec.SECP256R1())
        kid = thumbprint(private.public_key())
        pkcs8 = private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        now = self._clock()

        def change(connection: Connection) -> bool:
            connection.execute("DELETE FROM signing_keys WHERE until <= ?", now)
            standing = map(_key, connection.all(f"{_SELECT} WHERE until IS NULL"))
            if due and any(key and not self._due(key.created, now) for key in standing):
                return False
            if forget:
                connection.execute("DELETE FROM signing_keys")
            connection.execute(
                "UPDATE signing_keys SET until = ? WHERE until IS NULL",
                now + SETTLE + self._longest + LEEWAY,
            )
            connection.execute(
                "INSERT INTO signing_keys (kid, private, created, until) VALUES (?, ?, ?, NULL)",
                *(kid, pkcs8, now),
            )
            return True

        made = await self._database.write(change)
        await self._look()
        return made

    def _due(self, created: float, now: float) -> bool:
        return now >= created + self._life

    def _ticked(self, now: float) -> bool:
        """Whether to try a rotation: not with every request while the disk refuses it."""
        if 0 <= now - self._tried < RETRY:
            return False
        self._tried = now
        return True

    def _newest(self) -> Key | None:
        standing = [key for key in self._keys.values() if key.until is None]
        return max(standing, key=_rank, default=None)

    def _settled(self, now: float) -> Key:
        """The newest that everybody has seen; if there is none, what they may have seen first."""
        keys = [key for key in self._keys.values() if _remembered(key, now)]
        settled = [key for key in keys if not 0 <= now - key.created < SETTLE]
        return max(settled, key=_rank) if settled else min(keys, key=_rank)

    async def _fresh(self) -> float:
        """Look if the last look is a second ago; the time."""
        now = self._clock()
        if not 0 <= now - self._looked < LOOK:
            await self._look()
        return now

    async def _look(self) -> None:
        self._looked = self._clock()
        rows = frozenset(await self._database.read(lambda connection: connection.all(_SELECT)))
        if rows != self._rows:
            found = [key for row in rows if (key := _key(row)) is not None]
            self._rows, self._keys = rows, MappingProxyType({key.kid: key for key in found})
            self.generation += 1


def _rank(key: Key) -> tuple[bool, float, str]:
    """Higher for what was made later, also by a clock that was set back meanwhile."""
    return key.until is None, key.created, key.kid


def _remembered(key: Key, now: float) -> bool:
    return key.until is None or now < key.until


def _key(row: Row) -> Key | None:
    """None for what cannot be a key of ours: it signs and verifies nothing."""
    kid, pkcs8, created, until = row
    assert isinstance(kid, str)
    assert isinstance(pkcs8, bytes)
    assert isinstance(created, float)
    assert until is None or isinstance(until, float)
    try:
        private = serialization.load_der_private_key(pkcs8, password=None)
    except ValueError:
        private = None
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey)
        or not isinstance(private.curve, ec.SECP256R1)
        or thumbprint(private.public_key()) != kid
    ):
        log.error("key.damaged", kid=kid)
        return None
    return Key(kid, private, private.public_key(), created, until)


def thumbprint(public: ec.EllipticCurvePublicKey) -> str:
    """RFC 7638, section 3: of the required members, sorted, without any space."""
    members = json.dumps(_members(public), sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(members.encode()).digest())


def jwk(key: Key) -> dict[str, str]:
    """The public half. RFC 7517, RFC 7518 section 6.2.1."""
    return {**_members(key.public), "kid": key.kid, "alg": ALGORITHM, "use": "sig"}


def _members(public: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
