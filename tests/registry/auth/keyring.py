"""Keys in real files, a clock that tests set, and tokens that are signed but wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from registry.auth.keys import Key, Keys
from storage.records.sqlite import SQLite

LIFE = 30 * 24 * 3600.0
LONGEST = 3600.0
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Clock:
    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Process:
    """What one of several processes holds: a connection of its own, and its keys."""

    def __init__(self, database: SQLite, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.keys = Keys(database, life=LIFE, longest=LONGEST, clock=clock)


@asynccontextmanager
async def processes(root: Path, count: int = 1) -> AsyncIterator[list[Process]]:
    """Not yet open; with one clock for all."""
    clock = Clock()
    found = [Process(SQLite(root / "records.db"), clock) for _ in range(count)]
    try:
        yield found
    finally:
        for process in found:
            await process.database.close()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def raw_signature(
    key: ec.EllipticCurvePrivateKey, data: bytes, *, low: bool = True, size: int = 32
) -> bytes:
    """r and s one after the other, s in the half that is asked for."""
    algorithm = hashes.SHA256() if size == 32 else hashes.SHA384()
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
    if size == 32:
        s = min(s, ORDER - s) if low else max(s, ORDER - s)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class Forger:
    """Makes tokens by hand. What is changed in none of its parts is as good as one of ours."""

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.header: dict[str, Any] = {"alg": "ES256", "kid": key.kid, "typ": "JWT"}
        self.payload: dict[str, Any] = {
            "iss": "spindle",
            "aud": "spindle",
            "sub": "user:ada",
            "exp": int(now) + 3600,
            "nbf": int(now),
            "iat": int(now),
            "jti": "an-id",
            "access": [
                {"type": "repository", "name": "acme/shop", "actions": ["pull", "push"]},
            ],
        }

    def sign(self, head: bytes, body: bytes) -> str:
        """Any bytes, with a signature of the right key."""
        data = f"{b64(head)}.{b64(body)}"
        return f"{data}.{b64(raw_signature(self.key.private, data.encode()))}"

    def good(self) -> str:
        return self.with_payload()

    def with_header(self, **members: Any) -> str:
        header = {**self.header, **members}
        return self.sign(_json(header), _json(self.payload))

    def without_header(self, name: str) -> str:
        header = {key: value for key, value in self.header.items() if key != name}
        return self.sign(_json(header), _json(self.payload))

    def with_payload(self, **members: Any) -> str:
        return self.sign(_json(self.header), _json({**self.payload, **members}))

    def without(self, name: str) -> str:
        payload = {key: value for key, value in self.payload.items() if key != name}
        return self.sign(_json(self.header), _json(payload))

    def with_body(self, text: str | bytes) -> str:
        """Any bytes as the payload."""
        return self.sign(_json(self.header), text.encode() if isinstance(text, str) else text)

    def with_access(self, value: Any) -> str:
        return self.with_payload(access=value)

    def with_entry(self, **members: Any) -> str:
        return self.with_access([{**self.payload["access"][0], **members}])

    def signed_by(self, signature: bytes, **header: Any) -> str:
        return f"{self.data(**header)}.{b64(signature)}"

    def data(self, **header: Any) -> str:
        """The first two parts."""
        return f"{b64(_json({**self.header, **header}))}.{b64(_json(self.payload))}"

    def body(self) -> str:
        return json.dumps(self.payload)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
