"""The files of a chain of lines, to which several processes append.

Whoever appends holds a lock, and looks with one call whether the file is as it left it; only if not
does it read the end anew. A file that is full is made read-only and another one begun, so that what
a shipper of logs reads never changes its name. A new file gets its name when its first lines are
durable.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from storage import chain
from storage.chain import START, Entry, Head
from storage.filesystem import calls, durable
from storage.filesystem.layout import AuditRoom

_BLOCK: Final = 256 << 10  # bytes read at a time from the end; a line has 40 KiB at most


@dataclass(slots=True)
class _Open:
    """The newest file, as this process left it."""

    path: str
    file: int
    device: int
    inode: int
    end: int
    """Where the next line goes."""
    size: int
    """More than `end` if there is something that is no line."""
    full: bool


class ChainFiles:
    """`size` is the bytes after which a file is full; `keep` how many there are, 0 for all.

    `now` tells seconds since 1970. One thread at a time; any number of processes.
    """

    def __init__(self, room: AuditRoom, *, size: int, keep: int, now: Callable[[], float]) -> None:
        self._room = room
        self._size = size
        self._keep = keep
        self._now = now
        self._head = START
        self._open: _Open | None = None
        self._lock: int | None = None
        self._own: list[Entry] = []

    def append(self, entries: Sequence[Entry]) -> Head:
        """Durable on return, in this order and with nothing between them; the head they make.

        Raises OSError: then none of them is there, unless a power cut or a broken disk leaves some.
        """
        with self._locked():
            try:
                self._look()
                self._put(entries)
            except BaseException:
                self._forget()
                raise
            return self._head

    def head(self) -> Head:
        """Of the last line that is there now."""
        with self._locked():
            self._look()
            return self._head

    def close(self) -> None:
        self._forget()
        if self._lock is not None:
            calls.close(self._lock)
            self._lock = None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock is None:
            flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
            self._lock = calls.open(self._room.lock, flags, 0o600)
        calls.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            calls.flock(self._lock, fcntl.LOCK_UN)

    def _forget(self) -> None:
        """What is in the files has to be looked at again. The head is kept, to compare."""
        if self._open is not None:
            calls.close(self._open.file)
            self._open = None

    def _look(self) -> None:
        """Know the end of the chain: as it was left, or read from the files."""
        left = self._open
        if left is not None:
            with suppress(FileNotFoundError):
                found = calls.lstat(left.path)
                same = (found.st_dev, found.st_ino) == (left.device, left.inode)
                if same and found.st_size == left.size == left.end and not _full(found):
                    return
        self._forget()
        self._own = []
        head = START
        for path in reversed(self._room.files()):
            opened, found_head, torn = _read_end(path)
            if self._open is None:
                self._open = opened
                if torn and not opened.full:
                    self._own.append(_closing(opened, torn))
            else:
                calls.close(opened.file)
            if found_head is not None:
                head = found_head
                break
        if self._head.seq > head.seq or (self._head.seq == head.seq and self._head != head):
            # Somebody took away or changed what we wrote. To go on from there would hide it.
            why = f"the files end with {head}, and this process wrote up to {self._head}"
            self._own.append({"action": "audit.lost", "outcome": "failed", "detail": why})
        else:
            self._head = head

    def _put(self, entries: Sequence[Entry]) -> None:
        """`entries`, after what there is to say of the file itself."""
        left = self._open
        begins = left is None or left.full or left.end >= self._size
        if begins and left is not None and not left.full:
            if left.size > left.end:  # its end is torn: it is closed there, and then full
                self._write(left, [])
            with suppress(PermissionError):
                calls.fchmod(left.file, 0o400)
        if left is not None and not begins:
            self._write(left, entries)
            return
        self._begin(left, entries)
        if self._keep:
            self._remove()

    def _lines(self, entries: Sequence[Entry]) -> tuple[bytes, Head]:
        now, head, lines = self._now(), self._head, bytearray()
        for entry in (*self._own, *entries):
            line, head = chain.write(head, now, entry)
            lines += line
        return bytes(lines), head

    def _write(self, left: _Open, entries: Sequence[Entry]) -> None:
        """Over what a crash left behind the last line, which the first of the lines tells."""
        data, head = self._lines(entries)
        view, at = memoryview(data), left.end
        try:
            while view:
                written = calls.pwrite(left.file, view, at)
                view, at = view[written:], at + written
            if left.size > at:
                calls.ftruncate(left.file, at)
            durable.sync_file(left.file)
        except OSError:
            # A part of our own, which was told to nobody. What a crash left must not go silently.
            if left.size == left.end:
                with suppress(OSError):
                    calls.ftruncate(left.file, left.end)
            raise
        left.end = left.size = at
        self._head, self._own = head, []

    def _begin(self, left: _Open | None, entries: Sequence[Entry]) -> None:
        first = self._head.seq + 1
        after = os.path.basename(left.path) if left is not None else ""
        begin: Entry = {
            "action": "audit.begin",
            "outcome": "done",
            "reference": after,
            "digest": str(self._head) if first > 1 else "",
        }
        self._own.insert(0, begin)
        data, head = self._lines(entries)
        path = self._room.file(first)
        durable.write_file(path, self._room.root, data)
        self._forget()
        self._open = _opened(path)
        self._head, self._own = head, []

    def _remove(self) -> None:
        """The files beyond those to keep, after a line each that says so."""
        for path in self._room.files()[: -self._keep]:
            opened, head, _ = _read_end(path)
            calls.close(opened.file)
            told: Entry = {
                "action": chain.REMOVED,
                "outcome": "done",
                "reference": os.path.basename(path),
                "digest": str(head) if head is not None else "",
            }
            if self._open is not None:
                # Not with the others: they are durable, whatever becomes of this.
                with suppress(OSError):
                    self._write(self._open, [told])
                    durable.unlink(path)


def _full(found: os.stat_result) -> bool:
    return not found.st_mode & stat.S_IWUSR


def _opened(path: str) -> _Open:
    """Raises OSError."""
    full = _full(calls.lstat(path))
    file = calls.open(path, (os.O_RDONLY if full else os.O_RDWR) | os.O_NOFOLLOW)
    try:
        found = calls.fstat(file)
    except BaseException:
        calls.close(file)
        raise
    size = found.st_size
    return _Open(path, file, found.st_dev, found.st_ino, size, size, full)


def _read_end(path: str) -> tuple[_Open, Head | None, bytes]:
    """A file, the head its last line makes, and what is behind that."""
    opened = _opened(path)
    try:
        tail, at = b"", opened.size
        while True:
            step = min(_BLOCK, at)
            at -= step
            tail = _pread(opened.file, step, at) + tail
            line, end = chain.last(tail)
            # One that begins before what was read looks like none.
            if line is not None or at == 0:
                break
        opened.end = at + end if line is not None else 0
        return opened, line.head if line is not None else None, tail[end:]
    except BaseException:
        calls.close(opened.file)
        raise


def _pread(file: int, count: int, at: int) -> bytes:
    data = b""
    while len(data) < count and (piece := calls.pread(file, count - len(data), at + len(data))):
        data += piece
    return data


def _closing(opened: _Open, torn: bytes) -> Entry:
    return {
        "action": "audit.repair",
        "outcome": "done",
        "reference": os.path.basename(opened.path),
        "digest": f"sha256:{sha256(torn).hexdigest()}",
        "detail": f"{len(torn)} bytes that were no line, as a crash leaves them, are gone from the"
        " end",
    }


def read_files(room: AuditRoom) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Names and lines, for `chain.verify`: what was there at the beginning, and no more.

    Needs no right to write. Raises OSError.
    """
    paths = room.files()
    with _shared(room):
        sizes = {path: calls.lstat(path).st_size for path in paths}
    for path in paths:
        yield os.path.basename(path), _read_lines(path, sizes[path])


@contextmanager
def _shared(room: AuditRoom) -> Iterator[None]:
    """Without a writer in the middle of a line, if the lock can be had."""
    lock = None
    with suppress(FileNotFoundError, PermissionError):
        lock = calls.open(room.lock, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if lock is not None:
            calls.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        if lock is not None:
            calls.close(lock)


def _read_lines(path: str, size: int) -> Iterator[bytes]:
    """The lines of the first `size` bytes, the last one perhaps without its newline."""
    file = calls.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        rest, at = b"", 0
        while piece := calls.pread(file, min(_BLOCK, size - at), at):
            at += len(piece)
            *lines, rest = (rest + piece).split(b"\n")  # splitlines takes \r for an end, too
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest
    finally:
        calls.close(file)
