"""Where everything is. The only file that spells a path.

    <root>/                         0700, ours alone
        layout.json                 {"layout": 1}, written last: all below was durable then
        records.db                  the catalogue (SQLite, with -wal and -shm beside it)
        blobs/<algorithm>/<aa>/<hex>    aa = first two digits; all 256 are made in advance
        uploads/<key>               bytes on their way
        reserve/<n>                 room for when the disk is full; need not be copied
        apps/<app>/                 what the deployer unpacked and what applications logged
        compiled/                   machine code; may be removed when nothing runs

The fan-out directories are made and fsynced once, so that no blob ever lies in a directory that
might itself be lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from storage.digest import ALGORITHMS, Digest
from storage.errors import LayoutRefused, LayoutUnknown
from storage.filesystem import calls, durable

VERSION: Final = 1
_MARKER: Final = "layout.json"
_ROOMS: Final = ("blobs", "uploads", "apps", "compiled")
RESERVE_PARTS: Final = 4
_FAN_OUT: Final = tuple(f"{number:02x}" for number in range(256))
_APP: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_KEY: Final = re.compile(r"[a-f0-9]{64}", re.ASCII)
# What a fresh directory may hold: a creation that a crash cut short, and a file system's own.
_EXPECTED: Final = frozenset({*_ROOMS, "reserve", _MARKER, f"{_MARKER}.new", "lost+found"})


class Layout:
    """Only made by `open`; the directories it names are there and durable."""

    __slots__ = ("_blobs", "apps", "compiled", "records", "reserve", "root", "uploads")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records.db"
        self.apps = root / "apps"
        self.compiled = root / "compiled"
        # Text from here on: these two are spelled on every request.
        self._blobs = str(root / "blobs")
        self.uploads = str(root / "uploads")
        self.reserve = str(root / "reserve")

    @staticmethod
    def open(root: Path) -> Layout:
        """The layout of a data directory, made first if there is none. Blocks for some 10 ms.

        Raises LayoutRefused when others could change what is in it, or it holds something else;
        LayoutUnknown when a newer release wrote it.
        """
        layout = Layout(Path(os.path.abspath(root)))
        _make_root(layout.root)
        with _opening(layout.root) as directory:
            marked = _read_marker(layout.root)
            _check_root(layout.root, calls.fstat(directory), fresh=not marked)
            _make_rooms(layout.root, fresh=not marked)
            if not marked:
                calls.fchmod(directory, 0o700)
                durable.write_file(
                    str(layout.root / _MARKER),
                    str(layout.root),
                    json.dumps({"layout": VERSION}).encode(),
                )
        return layout

    def app(self, id: str) -> Path:
        """The directory of one application; the deployer makes and removes it."""
        if not _APP.fullmatch(id):
            raise ValueError(f"not the id of an application: {id[:80]!r}")
        return self.apps / id

    def blob(self, digest: Digest) -> str:
        return f"{self._blobs}/{digest.algorithm.name}/{digest.encoded[:2]}/{digest.encoded}"

    def blob_directory(self, digest: Digest) -> str:
        """The directory that holds the blob's name."""
        return f"{self._blobs}/{digest.algorithm.name}/{digest.encoded[:2]}"

    @property
    def blob_directories(self) -> list[tuple[str, str]]:
        """All that hold names of blobs, each with its algorithm's name."""
        return [
            (algorithm, f"{self._blobs}/{algorithm}/{part}")
            for algorithm in ALGORITHMS
            for part in _FAN_OUT
        ]

    @property
    def reserve_parts(self) -> list[str]:
        return [f"{self.reserve}/{number}" for number in range(RESERVE_PARTS)]

    def upload(self, key: str) -> str:
        """`key` is 64 hexadecimal digits."""
        if not _KEY.fullmatch(key):
            raise ValueError(f"not the key of an upload: {key[:80]!r}")
        return f"{self.uploads}/{key}"


def _make_root(root: Path) -> None:
    missing = [root, *root.parents]
    missing = missing[: next(at for at, path in enumerate(missing) if os.path.lexists(path))]
    for path in reversed(missing):
        with suppress(FileExistsError):
            calls.mkdir(str(path), 0o700)
        durable.sync_directory(str(path.parent.resolve()))


@contextmanager
def _opening(root: Path) -> Iterator[int]:
    """The root, held so that two processes that start together make it once."""
    try:
        directory = calls.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise LayoutRefused(
            f"the data directory {root} cannot be used ({error.strerror}); name the directory"
            " itself, not a link to it or a file"
        ) from None
    try:
        calls.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        calls.close(directory)


def _check_root(root: Path, found: os.stat_result, *, fresh: bool) -> None:
    if found.st_uid != os.geteuid():
        raise LayoutRefused(
            f"the data directory {root} belongs to user {found.st_uid}, and this is user"
            f" {os.geteuid()}; run as its owner, or name a new directory inside it"
        )
    # The permissions of a fresh directory are ours to set; only what anybody could have put
    # something into is refused even then.
    if found.st_mode & (stat.S_IWOTH if fresh else stat.S_IWOTH | stat.S_IWGRP):
        raise LayoutRefused(
            f"the data directory {root} can be written by others; use `chmod 700 {root}` when you"
            " have made sure that nobody put anything there"
        )
    if fresh:
        strangers = sorted(set(calls.listdir(root)) - _EXPECTED)
        if strangers:
            raise LayoutRefused(
                f"{root} holds {strangers[0]!r} and is no data directory of Spindle; name an empty"
                " or a new one"
            )


def _read_marker(root: Path) -> bool:
    """Whether the directory was made to its end. Raises LayoutUnknown, LayoutRefused."""
    try:
        found = json.loads((root / _MARKER).read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        found = None
    version = found.get("layout") if isinstance(found, dict) else None
    if type(version) is not int or version < 1:
        raise LayoutRefused(f"{root / _MARKER} is damaged; put it back from a backup")
    if version > VERSION:
        raise LayoutUnknown(
            f"{root} was written by a newer release (layout {version}, this one knows {VERSION});"
            " start that release or restore a backup"
        )
    return True


def _make_rooms(root: Path, *, fresh: bool) -> None:
    """Make what is missing, also in an old directory: a backup may have dropped empty ones."""
    _make(root, _ROOMS, fresh=fresh)
    _make(root / "blobs", tuple(ALGORITHMS), fresh=fresh)
    for algorithm in ALGORITHMS:
        _make(root / "blobs" / algorithm, _FAN_OUT, fresh=fresh)


def _make(parent: Path, names: tuple[str, ...], *, fresh: bool) -> None:
    """Directories in `parent`, durable on return."""
    with calls.scandir(parent) as entries:
        found = {
            entry.name: entry.is_dir(follow_symlinks=False)
            for entry in entries
            if entry.name in names
        }
    for name, is_directory in found.items():
        if not is_directory:
            raise LayoutRefused(
                f"{parent / name} is not a directory but something else, such as a link; move the"
                " data there instead of linking to them"
            )
    for name in names:
        if name not in found:
            calls.mkdir(str(parent / name), 0o700)
    # A crash may have cut short a process that had made them all but synced none.
    if fresh or len(found) < len(names):
        durable.sync_directory(str(parent))
