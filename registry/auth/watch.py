"""What a small file says, while somebody else may change it: the newest good state of it.

For files that an operator writes: the policy, the users, certificates. Nothing has to be told of a
change, and a change for the worse changes nothing but the log.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

import structlog

T = TypeVar("T")

LIMIT: Final = 1 << 20  # bytes; what is read here is read on the event loop
EVERY: Final = 1.0  # seconds between two looks

_Seen: TypeAlias = tuple[int, ...]
"""Device, inode, size and times of a file, links followed; an errno where there is none."""
_NOWHERE: Final[_Seen] = (errno.ENOENT,)

log = structlog.get_logger()


class FileRefused(ValueError):
    """One sentence, with the file: what is wrong, and what to do."""


class Watched(Generic[T]):
    """The newest good value of a file. To be asked by one thread; may be asked on the event loop.

    A change is seen at the first look after it, and a second later where it was written in its
    place and not renamed there, for then it may be half of it. Whatever is wrong with it is logged
    once, and the value stays.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        absent: T | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`parse` raises ValueError with a sentence that names the file and shows no secret.

        `absent` holds until there is a file, and a link to nowhere is one; None if there has to be
        one. `clock` is in seconds.
        Raises FileRefused, and what `parse` raises.
        """
        self.generation = 0
        """Grows with each new value, for whoever remembers what was made of one."""
        self._path = path
        self._parse = parse
        self._clock = clock
        self._due = clock() + EVERY
        self._told = ""
        self._settled = False
        self._seen = _look(path)
        self._good: bytes | None = None
        """Hash of what the value was made of."""
        if absent is not None and not os.path.lexists(path):
            self._value = absent
        else:
            content = read(path)
            self._good, self._value = hashlib.sha256(content).digest(), parse(content)

    def current(self) -> T:
        """The value. Looks at the file at most once a second; what it finds raises nothing."""
        now = self._clock()
        if now >= self._due:
            self._due = now + EVERY
            self._look()
        return self._value

    def _look(self) -> None:
        before, self._seen = self._seen, _look(self._path)
        if self._good is None and self._seen == _NOWHERE:
            return
        if self._seen == before:
            if self._settled:
                return
            # Once more: a file system's clock is coarse, so what was written right after the last
            # look may have left the times as they were.
            self._settled = True
        else:
            self._settled = False
            self._told = ""
            appeared = len(before) == 1 < len(self._seen)
            if appeared or self._seen[:2] == before[:2]:
                return
        try:
            content = read(self._path)
            hashed = hashlib.sha256(content).digest()
            if hashed != self._good:
                self._value = self._parse(content)
                self._good = hashed
                self.generation += 1
                log.info("a file was read anew", path=str(self._path))
        except ValueError as error:
            if self._told != str(error):
                self._told = str(error)
                log.error("a file is refused; what it said before holds", reason=self._told)


def _look(path: Path) -> _Seen:
    try:
        found = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    # The last one also tells of a change of owner or permissions.
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read(path: Path) -> bytes:
    """The content of a file that only we and root can write. Raises FileRefused; never hangs."""
    try:
        _check(path, os.stat(path))  # before it is opened, which would wake up a device
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            _check(path, os.fstat(file))  # as it is now
            content = b""
            while piece := os.read(file, LIMIT + 1 - len(content)):
                content += piece
        finally:
            os.close(file)
    except OSError as error:
        raise FileRefused(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > LIMIT:
        raise FileRefused(f"{path} is larger than {LIMIT >> 20} MiB, which no such file has to be")
    return content


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise FileRefused(f"{path} is {kind}; name a file")
    if found.st_uid not in (os.geteuid(), 0):
        raise FileRefused(
            f"{path} belongs to user {found.st_uid}, who could change it; make it belong to user"
            f" {os.geteuid()}, who reads it, or to root"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileRefused(
            f"{path} can be written by others; use `chmod go-w {path}` when you have made sure that"
            " nobody changed it"
        )
