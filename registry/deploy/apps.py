"""Applications, their revisions and settings; which tags feed an app, and where it answers."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from registry.deploy.rollout import Phase
from storage.digest import Digest
from storage.names import RepositoryName, Tag

HOST_LENGTH = 253  # RFC 1035, 2.3.4, as text without the last dot
LABEL_LENGTH = 63
VALUES_LENGTH = 256 << 10  # characters of all variables of an app; they travel in one message


class SettingsInvalid(Exception):
    """Settings that no app can have; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What belongs to the app and not to a push. Made by `parse`, or empty."""

    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Values may be secrets."""
    health_path: str | None = None
    """A path that must answer 2xx before a revision is live, besides the reserved routes."""

    @staticmethod
    def parse(variables: Mapping[str, str], health_path: str | None = None) -> Settings:
        """Raises SettingsInvalid."""
        for name, value in variables.items():
            if not variable_name(name):
                raise SettingsInvalid(
                    f"{name[:80]!r} is not the name of a variable; use lower-case letters, digits"
                    " and '_', beginning with a letter"
                )
            if "\0" in value:
                raise SettingsInvalid(f"the value of {name} contains a NUL; leave it out")
        if sum(map(len, variables.values())) > VALUES_LENGTH:
            raise SettingsInvalid(
                f"the values are longer than {VALUES_LENGTH >> 10} KiB together; put large data"
                " into the application's files"
            )
        if health_path is not None and not _PATH.fullmatch(health_path):
            raise SettingsInvalid(
                f"{health_path[:80]!r} is not a path for a health check; begin it with '/' and"
                " percent-encode what is not plain ASCII"
            )
        return Settings(MappingProxyType(dict(variables)), health_path)


@dataclass(frozen=True, slots=True)
class App:
    """One for a repository. The id is given at creation and never changes.

    The host follows from the repository's name and the domain of the gateway.
    """

    id: str
    repository: RepositoryName
    host: str
    name: str | None
    """What the application calls itself; None until a revision was validated."""
    settings: Settings
    live: int | None
    """The number of the revision that has the traffic."""
    settings_version: int = 0
    previous: int | None = None
    """The number of the revision that had it before."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One digest that was to be deployed. Counted from 1 in its app."""

    app: str
    number: int
    digest: Digest
    tag: Tag
    generation: int
    """Of the move of the tag that asked for it."""
    phase: Phase
    reason: str
    """Why it failed or was superseded; empty otherwise."""
    created: float
    """Seconds since 1970, as `changed`."""
    changed: float
    settings_version: int = 0
    """Of the settings that it runs with."""
    pushed_by: str | None = None
    """Who moved the tag (Principal.text), if somebody had to sign in for it."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for a person to read. `phase` is the one it led to."""

    app: str
    revision: int | None
    phase: Phase | None
    at: float
    detail: str


def new_id() -> str:
    """An id for an app: random, and fit for a file name."""
    return secrets.token_hex(8)


def feeds(tag: Tag) -> bool:
    """Whether moving this tag deploys.

    Signatures and the referrers fallback (distribution spec, "Referrers Tag Schema") live in the
    app's own repository, under tags made from digests.
    """
    return _ABOUT_A_DIGEST.match(tag.text) is None


def variable_name(text: str) -> bool:
    """Spin's rule for variables."""
    return len(text) <= 128 and _VARIABLE.fullmatch(text) is not None


def host_for(repository: RepositoryName, domain: str) -> str:
    """The host an app answers to: `<app>.<account>.<domain>`. No two repositories share one.

    A name that DNS cannot say becomes `<what can be said of it>--<hash>`; names that DNS can say
    are used as they are, and those with `--` inside do not count as such. Raises ValueError when
    `domain` leaves no room.
    """
    account, _, rest = repository.text.partition("/")
    app = rest if _plain(rest) else _hashed(rest or account, repository.text)
    host = f"{app}.{account if _plain(account) else _hashed(account, account)}.{domain}"
    if len(host) > HOST_LENGTH:  # one label before the domain is never one of the hosts above
        host = f"{_hashed(rest or account, repository.text)}.{domain}"
    if len(host) > HOST_LENGTH:
        raise ValueError(f"the domain {domain!r} is too long for hosts of applications below it")
    return host


_PATH = re.compile(r"/[!-~]{0,1023}", re.ASCII)
_VARIABLE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_ABOUT_A_DIGEST = re.compile(r"sha(?:256|512)-[0-9a-f]{64}")  # 64 also for sha512: cut
_LABEL = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)  # no "--", so no xn-- and no hash
_HASH_LENGTH = 20  # of base32: 100 bits


def _plain(component: str) -> bool:
    return len(component) <= LABEL_LENGTH and _LABEL.fullmatch(component) is not None


def _hashed(shown: str, identity: str) -> str:
    digest = hashlib.sha256(identity.encode()).digest()
    suffix = base64.b32encode(digest).decode().lower()[:_HASH_LENGTH]
    slug = re.sub(r"[^a-z0-9]+", "-", shown)[: LABEL_LENGTH - 2 - _HASH_LENGTH].strip("-")
    return f"{slug}--{suffix}"
