"""Where everything is. The only file that spells a path.

    <root>/                         0700, ours alone
        layout.json                 {"layout": 1}, written last: all below was durable then
        policy.toml                 who may do what, written by the operator
        htpasswd                    who can sign in, with hashes of passwords
        restore.json                in its place while a backup is restored into the directory
        records.db                  the catalogue (SQLite, with -wal and -shm beside it)
        blobs/<algorithm>/<aa>/<hex>    aa = first two digits; all 256 are made in advance
        uploads/<key>               bytes on their way
        quarantine/                 what was found wrong in the place of a blob, for the operator
        reserve/<n>                 room for when the disk is full; need not be copied
        apps/<app>/                 what the deployer unpacked and what applications logged
        compiled/                   machine code; may be removed when nothing runs
        audit/<first>.jsonl         what happened, in a chain; may be elsewhere, see `AuditRoom`

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
_RESTORING: Final = "restore.json"
_POLICY: Final = "policy.toml"
_USERS: Final = "htpasswd"
_ROOMS: Final = ("blobs", "uploads", "quarantine", "apps", "compiled")
RESERVE_PARTS: Final = 4
_FAN_OUT: Final = tuple(f"{number:02x}" for number in range(256))
_APP: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_AUDIT: Final = re.compile(r"[0-9]{19}\.jsonl", re.ASCII)
_KEY: Final = re.compile(r"[a-f0-9]{64}", re.ASCII)
# What a fresh directory may hold: a creation that a crash cut short, what is written before the
# first start, and a file system's own.
_EXPECTED: Final = frozenset(
    {
        *(*_ROOMS, "reserve", "audit", _MARKER, f"{_MARKER}.new", f"{_RESTORING}.new"),
        *(_POLICY, _USERS, "lost+found"),
    }
)


class Layout:
    """Made by `open` or `restoring`: then the directories it names are there and durable.

    Made otherwise it only tells names.
    """

    __slots__ = (
        "_blobs",
        "apps",
        "audit",
        "compiled",
        "policy",
        "quarantine",
        "records",
        "reserve",
        "root",
        "uploads",
        "users",
    )

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = root / "records.db"
        self.apps = root / "apps"
        self.compiled = root / "compiled"
        self.policy = root / _POLICY
        self.users = root / _USERS
        self.audit = root / "audit"
        # Text from here on: these two are spelled on every request.
        self._blobs = str(root / "blobs")
        self.uploads = str(root / "uploads")
        self.quarantine = str(root / "quarantine")
        self.reserve = str(root / "reserve")

    @property
    def written_by_hand(self) -> tuple[Path, ...]:
        """Files of the operator that may be here, small ones: part of a backup."""
        return self.policy, self.users

    @staticmethod
    def open(root: Path) -> Layout:
        """The layout of a data directory, made first if there is none. Blocks for some 10 ms.

        Raises LayoutRefused when others could change what is in it, or it holds something else;
        LayoutUnknown when a newer release wrote it.
        """
        layout = Layout(Path(os.path.abspath(root)))
        make_root(layout.root)
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

    @staticmethod
    def is_at(root: Path) -> bool:
        """Whether there is a data directory, for who must not make one."""
        return os.path.lexists(root / _MARKER)

    @staticmethod
    @contextmanager
    def restoring(root: Path, source: str) -> Iterator[Layout]:
        """The layout of a directory to restore `source` into: nobody can open it until all is done.

        New, empty, or what a restore left that did not come to its end: then without what that one
        put there, but for its blobs. When the block raises, the directory stays like that. On
        return all that was made durable in the block is in a data directory like any other.
        Raises LayoutRefused. Blocks for some 10 ms.
        """
        layout = Layout(Path(os.path.abspath(root)))
        make_root(layout.root)
        draft = str(layout.root / _RESTORING)
        with _opening(layout.root) as directory:
            if os.path.lexists(layout.root / _MARKER):
                raise LayoutRefused(
                    f"{root} is a data directory already; restore into a new or an empty one"
                )
            names = calls.listdir(layout.root)
            if _RESTORING not in names:
                _check_root(layout.root, calls.fstat(directory), fresh=True)
                calls.fchmod(directory, 0o700)
                content = json.dumps({"layout": VERSION, "restored": source}).encode()
                durable.write_file(draft, str(layout.root), content)
            marker = calls.open(draft, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            try:
                calls.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LayoutRefused(f"another restore into {root} is at work") from None
            _make_rooms(layout.root, fresh=True)
            for path in (*layout.root.glob("records.db*"), *(layout.root / "uploads").iterdir()):
                durable.unlink(str(path))
            yield layout
            with durable.opened(str(layout.root)) as directory:
                durable.publish(draft, str(layout.root / _MARKER), directory)
        finally:
            calls.close(marker)

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

    def set_aside(self, digest: Digest, inode: int) -> str:
        """Where what was in the blob's place is kept; no two files can have one inode."""
        return f"{self.quarantine}/{digest.algorithm.name}-{digest.encoded}.{inode}"

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


class AuditRoom:
    """A directory of files of the audit; only made by `open`, by who is going to write."""

    __slots__ = ("lock", "root")

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.lock = f"{root}/lock"

    @staticmethod
    def open(root: Path) -> AuditRoom:
        """Made first if it is not there, durable. Raises LayoutRefused or OSError."""
        make_root(root)
        _check_room(root, calls.lstat(root))
        return AuditRoom(root)

    def file(self, first: int) -> str:
        """The file that begins with line `first`; by name they are in order."""
        return f"{self.root}/{first:019d}.jsonl"

    def files(self) -> list[str]:
        """Those that are there, in order; none, if there is no such directory."""
        try:
            names = calls.listdir(self.root)
        except FileNotFoundError:
            return []
        return [f"{self.root}/{name}" for name in sorted(names) if _AUDIT.fullmatch(name)]


def shown(file: int) -> str:
    """A name of an open file of this process."""
    return f"/proc/self/fd/{file}"


def make_root(root: Path) -> None:
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
        names = set(calls.listdir(root))
        if _RESTORING in names:
            raise LayoutRefused(
                f"a backup was being restored into {root} and that was not finished; run the same"
                " `spindle restore` again"
            )
        strangers = sorted(names - _EXPECTED)
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
    make_directories(root, _ROOMS, fresh=fresh)
    make_fan_out(root / "blobs", fresh=fresh)


def make_fan_out(blobs: Path, *, fresh: bool) -> None:
    """The directories for the names of blobs, durable on return."""
    make_directories(blobs, tuple(ALGORITHMS), fresh=fresh)
    for algorithm in ALGORITHMS:
        make_directories(blobs / algorithm, _FAN_OUT, fresh=fresh)


def _check_room(room: Path, found: os.stat_result) -> None:
    """Whoever can write a directory can put anything in the place of what is in it."""
    if not stat.S_ISDIR(found.st_mode):
        raise LayoutRefused(
            f"{room} is not a directory but something else, such as a link; move the"
            " data there instead of linking to them"
        )
    if found.st_uid != os.geteuid():
        raise LayoutRefused(
            f"{room} belongs to user {found.st_uid}, and this is user {os.geteuid()}; run"
            " `spindle verify` as its owner when you have made sure that nobody changed anything"
        )
    if found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise LayoutRefused(
            f"{room} can be written by others; use `chmod go-w {room}`, and then `spindle verify"
            " --read-data` to see that nobody changed anything"
        )


def make_directories(parent: Path, names: tuple[str, ...], *, fresh: bool) -> None:
    """Directories in `parent`, durable on return."""
    wanted = frozenset(names)
    with calls.scandir(parent) as entries:
        found = {
            entry.name: entry.stat(follow_symlinks=False)
            for entry in entries
            if entry.name in wanted
        }
    for name, is_now in found.items():
        _check_room(parent / name, is_now)
    for name in names:
        if name not in found:
            calls.mkdir(str(parent / name), 0o700)
    # A crash may have cut short a process that had made them all but synced none.
    if fresh or len(found) < len(names):
        durable.sync_directory(str(parent))
