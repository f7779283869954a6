"""Digests and the algorithms they are made with (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from storage.errors import DigestInvalid, DigestUnsupported


class Hasher(Protocol):
    """What hashlib's objects do, and what an algorithm from elsewhere would have to do."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A row of ALGORITHMS. Compared and hashed by name."""

    name: str
    encoded_length: int = field(compare=False)
    new: Callable[[], Hasher] = field(compare=False, repr=False)
    """Start a running hash."""

    @staticmethod
    def parse(name: str) -> Algorithm:
        """Raises DigestUnsupported."""
        try:
            return ALGORITHMS[name]
        except KeyError:
            known = ", ".join(ALGORITHMS)
            raise DigestUnsupported(
                f"digest algorithm {name[:40]!r} is not supported; use one of: {known}"
            ) from None

    def digest(self, data: bytes) -> Digest:
        hasher = self.new()
        hasher.update(data)
        return Digest(self, hasher.hexdigest())


SHA256 = Algorithm("sha256", 64, hashlib.sha256)
SHA512 = Algorithm("sha512", 128, hashlib.sha512)

ALGORITHMS = {algorithm.name: algorithm for algorithm in (SHA256, SHA512)}
"""The registered algorithms kept here. A new one is a row: all else goes through the table."""

# Linear by construction: a repetition begins with a character that cannot end what precedes it.
_GRAMMAR = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)", re.ASCII)
_HEX = re.compile(r"[a-f0-9]+", re.ASCII)
_LONGEST = 7 + max(a.encoded_length for a in ALGORITHMS.values())


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm ":" encoded`, for example sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7…

    Only made by `parse`, `Algorithm.digest` or a finished hash: whoever holds one can trust it.
    """

    algorithm: Algorithm = field(compare=False)
    encoded: str = field(compare=False)
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.algorithm.name}:{self.encoded}")

    @staticmethod
    def parse(text: str) -> Digest:
        """Raises DigestInvalid, or DigestUnsupported for a well-formed one of another algorithm."""
        # The length comes first, so that a megabyte of nonsense costs nothing.
        match = _GRAMMAR.fullmatch(text) if len(text) <= 4 * _LONGEST else None
        if match is None:
            raise DigestInvalid(
                f"{text[:80]!r} is not a digest; write it as algorithm:hex, such as sha256:6c3c…"
            )
        algorithm = Algorithm.parse(match[1])
        encoded = match[2]
        if len(encoded) != algorithm.encoded_length or not _HEX.fullmatch(encoded):
            raise DigestInvalid(
                f"{text[:160]!r} is not a digest: {algorithm.name} is followed by exactly"
                f" {algorithm.encoded_length} characters out of 0-9 and a-f"
            )
        return Digest(algorithm, encoded)

    def fits(self, data: bytes) -> bool:
        """Whether it is the digest of these bytes. 1 KiB takes 3 us, 256 KiB 340."""
        hasher = self.algorithm.new()
        hasher.update(data)
        return hasher.hexdigest() == self.encoded

    def __str__(self) -> str:
        return self.text
