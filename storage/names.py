"""Repository names, tags, and the place in a URL that takes a tag or a digest.

Distribution spec, "Pulling manifests": the grammars are quoted beside their patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from storage.digest import Digest
from storage.errors import NameInvalid, TagInvalid

NAME_LENGTH = 255  # "many clients impose a limit of 255 characters on the length of" host and name

# "<name> MUST match [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)

# "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"; always fullmatch, since $ would let a newline follow.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """One or more components with slashes between; the first is the account."""

    text: str

    @staticmethod
    def parse(text: str) -> RepositoryName:
        """Raises NameInvalid."""
        if len(text) > NAME_LENGTH:
            raise NameInvalid(f"a repository name has at most {NAME_LENGTH} characters")
        if not _NAME.fullmatch(text):
            raise NameInvalid(
                f"{text!r} is not a repository name; use lower-case letters and digits, single"
                " '.', '_', '__' or dashes between them, and '/' between components"
            )
        return RepositoryName(text)

    @property
    def account(self) -> str:
        return self.text.partition("/")[0]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """A name that points at a manifest, and can be moved. Case matters."""

    text: str

    @staticmethod
    def parse(text: str) -> Tag:
        """Raises TagInvalid."""
        if not _TAG.fullmatch(text):
            raise TagInvalid(
                f"{text[:140]!r} is not a tag; use 1 to 128 letters, digits, '.', '_' and '-',"
                " not beginning with '.' or '-'"
            )
        return Tag(text)

    def __str__(self) -> str:
        return self.text


def parse_reference(text: str) -> Tag | Digest:
    """A tag or a digest, never anything else: a colon decides.

    Raises TagInvalid, DigestInvalid or DigestUnsupported.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)
