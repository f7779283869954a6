"""The users' file on the disk: read again when it changed, and rewritten whole or not at all."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from registry.auth.users import LARGEST, Users, UsersInvalid
from storage.filesystem import calls, durable

LOOK: Final = 0.5  # seconds between two looks at the file; a stat costs some microseconds

log = structlog.get_logger()


class CurrentUsers(Protocol):
    def current(self) -> Users:
        """The file as it is, or was less than a second ago. On the event loop, for each request."""
        ...


def read(path: Path) -> Users:
    """The users in a file; none when there is no file. Raises UsersInvalid, OSError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        return Users()
    return parse(path, content)


def parse(path: Path, content: bytes) -> Users:
    """Users.parse, and the refusal names the file. Raises UsersInvalid."""
    try:
        return Users.parse(content)
    except UsersInvalid as error:
        raise UsersInvalid(f"{path}: {error}") from None


def change(path: Path, how: Callable[[Users], Users]) -> Users:
    """Rewrite the file, durable on return; `how` may raise, then it stays as it was.

    Who else does the same waits, so that nobody's user is lost. A link stays one: what it points
    to is rewritten. Raises UsersInvalid, OSError.
    """
    path = Path(os.path.realpath(path))
    with _alone(path.parent):
        changed = how(read(path))
        durable.unlink(f"{path}.new")  # of somebody who was cut short: its mode may be any
        durable.write_file(str(path), str(path.parent), changed.write(), mode=0o600)
    return changed


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Held on the directory, since the file itself is replaced."""
    held = durable.open_directory(str(directory))
    try:
        calls.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        calls.close(held)


class Htpasswd:
    """CurrentUsers of a file. A file that cannot be read is refused, and the last one stays."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises UsersInvalid, OSError."""
        self._path = path
        self._clock = clock
        self._seen = _state(path)  # before it is read: what changes meanwhile is seen later
        self._users = read(path)
        self._next = clock() + LOOK

    def current(self) -> Users:
        if (now := self._clock()) >= self._next:
            self._next = now + LOOK
            if (state := _state(self._path)) != self._seen:
                self._seen = state
                try:
                    self._users = read(self._path)
                except (UsersInvalid, OSError) as error:
                    log.error("users.refused", reason=str(error))
        return self._users


def _state(path: Path) -> tuple[int, ...]:
    """Another one for other content; follows links. Empty when there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
