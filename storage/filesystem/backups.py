"""Where everything is in a directory of backups. Only this file spells its paths.

    <root>/                         0700
        backups.json                {"backups": 1}, written last when the directory is made
        blobs/<algorithm>/<aa>/<hex>    shared by all snapshots; as in a data directory
        blobs/<algorithm>/<aa>/<hex>.damaged    had other bytes when it was verified
        drafts/<id>/                a backup on its way: <hex> for blobs, and snapshot/
        snapshots/<id>/             there wholly or not at all, since it is renamed to its place
            manifest.json           what the snapshot is, with the digests of the files beside it
            records.db              all rows (SQLite)
            sha256sums  sha512sums  its blobs, for `sha256sum --check` in <root>, without Spindle

Who writes shares a lock on <root>, and who removes has it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from storage.digest import ALGORITHMS, SHA256, Digest
from storage.errors import Damaged, DigestInvalid, Held, LayoutRefused, LayoutUnknown
from storage.filesystem import calls, copying, durable
from storage.filesystem.layout import Layout, make_directories, make_fan_out, make_root, shown
from storage.snapshot import Loss, Snapshot

VERSION: Final = 1
RECORDS: Final = "records.db"
_MARKER: Final = "backups.json"
_MANIFEST: Final = "manifest.json"
_ROOMS: Final = ("blobs", "drafts", "snapshots")
_EXPECTED: Final = frozenset({*_ROOMS, f"{_MARKER}.new", "lost+found"})
_SET_ASIDE: Final = ".damaged"
_ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9a-f]{8}", re.ASCII)
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Backups:
    """A directory of backups. Only made by `make` and `open`. Everything here blocks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._snapshots = root / "snapshots"
        self._drafts = root / "drafts"

    @staticmethod
    def make(root: Path) -> Backups:
        """The backups in a directory, which is made first if there is none. Raises LayoutRefused
        when it holds something else, and LayoutUnknown when a newer release wrote it."""
        found = Backups(Path(os.path.realpath(root)))
        make_root(found.root)
        if not _marked(found.root):
            with found.locked(alone=True):
                found._make()
        return found

    def _make(self) -> None:
        strangers = sorted(set(calls.listdir(self.root)) - _EXPECTED - {_MARKER})
        if strangers:
            raise LayoutRefused(
                f"{self.root} holds {strangers[0]!r} and no backups of Spindle; name an empty or a"
                " new directory"
            )
        make_directories(self.root, _ROOMS, fresh=True)
        make_fan_out(self.root / "blobs", fresh=True)
        marker = json.dumps({"backups": VERSION}).encode()
        durable.write_file(str(self.root / _MARKER), str(self.root), marker)

    @staticmethod
    def open(root: Path) -> Backups:
        """The same for what has to be there. Raises LayoutRefused, LayoutUnknown."""
        found = Backups(Path(os.path.realpath(root)))
        if not _marked(found.root):
            raise LayoutRefused(f"{root} is no directory of backups made by `spindle backup`")
        return found

    @contextmanager
    def locked(self, *, alone: bool = False) -> Iterator[None]:
        """Share the directory, or have it alone. Raises Held when that cannot be now."""
        with durable.opened(str(self.root)) as directory:
            kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
            try:
                calls.flock(directory, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Held(
                    f"somebody else is at work in {self.root}; try again when they have ended"
                ) from None
            yield

    # Snapshots

    def ids(self) -> list[str]:
        """All snapshots, the oldest first."""
        return sorted(name for name in calls.listdir(self._snapshots) if _ID.fullmatch(name))

    def snapshot(self, id: str) -> Snapshot:
        """Raises LayoutRefused when there is no such one, LayoutUnknown, and Damaged."""
        try:
            if not _ID.fullmatch(id):
                raise FileNotFoundError
            data = (self._snapshots / id / _MANIFEST).read_bytes()
        except FileNotFoundError:
            raise LayoutRefused(
                f"there is no snapshot {id[:80]!r} in {self.root}; `spindle backup --list` shows"
                " those that there are"
            ) from None
        return Snapshot.parse(data, id)

    def check_records(self, snapshot: Snapshot) -> None:
        """Raises Damaged."""
        calls.close(self._open_file(snapshot, RECORDS))

    def restore_records(self, snapshot: Snapshot, layout: Layout) -> None:
        """Copy the rows to where they are used; durable but for the name. Raises Damaged."""
        source = self._open_file(snapshot, RECORDS)
        try:
            copying.copy(source, str(layout.records), snapshot.files[RECORDS], mode=0o600)
        finally:
            calls.close(source)

    def restore_others(self, snapshot: Snapshot, layout: Layout) -> None:
        """What the operator wrote, durable on return. Raises Damaged."""
        for path in layout.written_by_hand:
            if path.name in snapshot.files:
                with open(self._open_file(snapshot, path.name), "rb") as file:
                    durable.write_file(str(path), str(layout.root), file.read())

    def _open_file(self, snapshot: Snapshot, name: str) -> int:
        """A file beside the manifest, verified; the caller closes it. Raises Damaged."""
        try:
            file = calls.open(str(self._snapshots / snapshot.id / name), _READ)
            try:
                copying.check(file, snapshot.files[name])
            except BaseException:
                calls.close(file)
                raise
        except (OSError, KeyError, Damaged) as error:
            raise Damaged(f"{name} of snapshot {snapshot.id} is damaged: {error}") from None
        return file

    def blobs(self, snapshot: Snapshot) -> list[Digest]:
        """What it needs of `blobs`. Raises Damaged."""
        found = []
        for algorithm in ALGORITHMS:
            file = self._open_file(snapshot, _sums(algorithm))
            with open(file, encoding="ascii") as lines:
                for line in lines:
                    encoded, _, path = line.rstrip("\n").partition("  ")
                    digest = Digest.parse(f"{algorithm}:{encoded}")
                    if path != _relative(digest):
                        raise Damaged(f"snapshot {snapshot.id} names {path!r} for {digest}")
                    found.append(digest)
        return found

    # Blobs

    def blob(self, digest: Digest) -> str:
        return f"{self.root}/{_relative(digest)}"

    def has(self, digest: Digest, size: int) -> bool:
        """Whether a blob is there with as many bytes. They are not read."""
        try:
            return calls.lstat(self.blob(digest)).st_size == size
        except FileNotFoundError:
            return False

    def check_blob(self, digest: Digest) -> int:
        """Read it; its size in bytes. Raises Damaged."""
        with self._opened(digest) as file:
            return copying.check(file, digest)

    def restore_blob(self, digest: Digest, layout: Layout) -> int:
        """Copy it to where it is served; its size in bytes. Durable but for the name.

        What is there already, of a restore that was cut short, is looked at. Raises Damaged.
        """
        path = layout.blob(digest)
        with contextlib.suppress(FileNotFoundError, Damaged):
            file = calls.open(path, _READ)
            try:
                return copying.check(file, digest)
            finally:
                calls.close(file)
        draft = layout.upload(SHA256.digest(digest.text.encode()).encoded)
        with self._opened(digest) as file:
            try:
                size = copying.copy(file, draft, digest)
                durable.rename(draft, path)
            finally:
                durable.unlink(draft)
        return size

    @contextmanager
    def _opened(self, digest: Digest) -> Iterator[int]:
        try:
            file = calls.open(self.blob(digest), _READ)
        except OSError as error:
            why = f"blob {digest} cannot be read in {self.root} ({error.strerror})"
            raise Damaged(why) from None
        try:
            yield file
        finally:
            calls.close(file)

    def set_aside(self, digest: Digest) -> None:
        """Take wrong bytes from their name, so that the next backup copies the blob anew."""
        path = self.blob(digest)
        with contextlib.suppress(FileNotFoundError), durable.opened(os.path.dirname(path)) as place:
            durable.publish(path, path + _SET_ASIDE, place)

    # Making

    def begin(self, id: str) -> Draft:
        return Draft(self, id, self._drafts / id, self._snapshots)

    # Removing; the lock is held alone

    def remove_snapshot(self, id: str) -> None:
        """At once: what is left of it when this is cut short is a draft."""
        gone = self._drafts / id
        calls.mkdir(str(gone), 0o700)
        with durable.opened(str(self._snapshots)) as snapshots:
            durable.publish(str(self._snapshots / id), str(gone / "snapshot"), snapshots)
        _remove_draft(gone)

    def remove_drafts(self) -> None:
        """What those left who died."""
        for name in calls.listdir(self._drafts):
            _remove_draft(self._drafts / name)

    def remove_blobs(self, needed: set[Digest]) -> list[int]:
        """All but those; the sizes in bytes of what went."""
        gone = []
        for algorithm in ALGORITHMS:
            for part in calls.listdir(self.root / "blobs" / algorithm):
                with calls.scandir(self.root / "blobs" / algorithm / part) as entries:
                    for entry in entries:
                        # What is no name of ours is not ours to remove.
                        with contextlib.suppress(DigestInvalid):
                            encoded = entry.name.removesuffix(_SET_ASIDE)
                            if Digest.parse(f"{algorithm}:{encoded}") not in needed:
                                gone.append(entry.stat(follow_symlinks=False).st_size)
                                durable.unlink(entry.path)
        return gone


class Draft:
    """A snapshot on its way. What is copied is shared at once; it shows itself by `publish`."""

    def __init__(self, backups: Backups, id: str, path: Path, snapshots: Path) -> None:
        self.id = id
        self._backups = backups
        self._path = path
        self._snapshot = path / "snapshot"
        self._snapshots = snapshots
        self._others: list[str] = []
        calls.mkdir(str(path), 0o700)
        calls.mkdir(str(self._snapshot), 0o700)
        self.records = str(self._snapshot / RECORDS)
        """Where the rows have to be written."""

    def copy(self, source: int, digest: Digest, *, link: bool) -> bool:
        """Keep a blob out of an open file; whether a link to it was enough.

        Its bytes are durable on return, and its name when a snapshot is published that has it.
        Raises Damaged when the file has not the bytes that the digest names.
        """
        draft = str(self._path / digest.encoded)
        linked = link and self._link(source, draft)
        try:
            if linked:
                copying.check(source, digest)
            else:
                copying.copy(source, draft, digest)
            durable.rename(draft, self._backups.blob(digest))
        finally:
            durable.unlink(draft)
        return linked

    def keep(self, path: Path) -> None:
        """Copy a file of the operator, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._write(path.name, path.read_bytes())
            self._others.append(path.name)

    def publish(
        self, *, time: str, digests: Sequence[Digest], size: int, lost: Sequence[Loss]
    ) -> Snapshot:
        """Show the snapshot, whose records are written and whose blobs were all copied."""
        # Also those of blobs that were there: who put them there may have died before.
        for place in sorted({os.path.dirname(self._backups.blob(digest)) for digest in digests}):
            durable.sync_directory(place)
        durable.sync_path(self.records)
        for algorithm in ALGORITHMS:
            lines = (
                f"{digest.encoded}  {_relative(digest)}\n"
                for digest in digests
                if digest.algorithm.name == algorithm
            )
            self._write(_sums(algorithm), "".join(lines).encode())
        names = (RECORDS, *map(_sums, ALGORITHMS), *self._others)
        files = {name: copying.digest_of(str(self._snapshot / name)) for name in names}
        snapshot = Snapshot(self.id, time, len(digests), size, tuple(lost), files)
        self._write(_MANIFEST, snapshot.to_json())
        with durable.opened(str(self._snapshots)) as directory:
            durable.publish(str(self._snapshot), str(self._snapshots / self.id), directory)
        self.abandon()
        return snapshot

    def _write(self, name: str, data: bytes) -> None:
        durable.write_file(str(self._snapshot / name), str(self._snapshot), data)

    def abandon(self) -> None:
        _remove_draft(self._path)

    def _link(self, source: int, draft: str) -> bool:
        try:
            durable.link(source, shown(source), draft)
        except OSError:  # another file system, or as many links as it can count
            return False
        return True


def _relative(digest: Digest) -> str:
    return f"blobs/{digest.algorithm.name}/{digest.encoded[:2]}/{digest.encoded}"


def _sums(algorithm: str) -> str:
    return f"{algorithm}sums"


def _marked(root: Path) -> bool:
    try:
        found = json.loads((root / _MARKER).read_bytes())
        version = found["backups"]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (ValueError, TypeError, KeyError):
        raise LayoutRefused(f'{root / _MARKER} is damaged; write {{"backups": 1}} there') from None
    if version != VERSION:
        raise LayoutUnknown(
            f"{root} was written by a newer release (format {version}, this one knows {VERSION});"
            " use that release"
        )
    return True


def _remove_draft(path: Path) -> None:
    for part in (path / "snapshot", path):
        with contextlib.suppress(FileNotFoundError):
            for name in calls.listdir(part):
                durable.unlink(str(part / name))
            calls.rmdir(str(part))
