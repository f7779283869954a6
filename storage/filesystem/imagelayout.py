"""OCI image layouts on disk (image-spec 1.1, image-layout.md). Only this file spells their paths.

    <root>, or a tar archive of it
        oci-layout                  {"imageLayoutVersion": "1.0.0"}
        index.json                  what is in it, with tags as annotations
        blobs/<algorithm>/<hex>     manifests, too

A layout that is read may have been made by anybody: no link in it is followed, nothing is unpacked,
and sizes are held against what arrives. One that is written shows itself when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from storage.blobs import PIECE
from storage.digest import Digest
from storage.errors import Damaged, LayoutRefused
from storage.filesystem import calls, copying, durable, tar

VERSION: Final = "1.0.0"
VERSION_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
_ARCHIVE: Final = ".tar"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_DIRECTORY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes within an open file."""

    file: int
    start: int
    size: int

    def read(self, at: int, count: int) -> bytes:
        return calls.pread(self.file, min(count, self.size - at), self.start + at)


class Source(Protocol):
    """A layout that is read."""

    def file(self, name: str) -> contextlib.AbstractContextManager[Piece | None]:
        """`name` is that of the version or the index. None: there is none. Raises LayoutRefused."""
        ...

    def blob(self, digest: Digest) -> contextlib.AbstractContextManager[Piece | None]: ...

    def close(self) -> None: ...


def open_source(path: Path) -> Source:
    """A directory, or a tar archive whatever its name. Raises LayoutRefused."""
    try:
        file = calls.open(str(path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise LayoutRefused(f"{path} cannot be read ({error.strerror})") from None
    kind = calls.fstat(file).st_mode
    try:
        if stat.S_ISDIR(kind):
            return _Directory(file)
        if stat.S_ISREG(kind):
            return _Archive(file)
        raise LayoutRefused(f"{path} is neither a directory nor an archive")
    except BaseException:
        calls.close(file)
        raise


class _Directory:
    def __init__(self, root: int) -> None:
        self._root = root

    def file(self, name: str) -> contextlib.AbstractContextManager[Piece | None]:
        return self._opened((), name)

    def blob(self, digest: Digest) -> contextlib.AbstractContextManager[Piece | None]:
        return self._opened(("blobs", digest.algorithm.name), digest.encoded)

    def close(self) -> None:
        calls.close(self._root)

    @contextmanager
    def _opened(self, parents: tuple[str, ...], name: str) -> Iterator[Piece | None]:
        """Step by step, so that no link on the way is followed."""
        with contextlib.ExitStack() as stack:
            place = self._root
            try:
                for parent in parents:
                    place = calls.open(parent, _DIRECTORY, dir_fd=place)
                    stack.callback(calls.close, place)
                file = calls.open(name, _READ, dir_fd=place)
                stack.callback(calls.close, file)
            except FileNotFoundError:
                yield None
                return
            except OSError as error:
                if error.errno in _NO_FILE:
                    raise LayoutRefused(_not_a_file(name)) from None
                raise
            found = calls.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise LayoutRefused(_not_a_file(name))
            yield Piece(file, 0, found.st_size)


class _Archive:
    def __init__(self, file: int) -> None:
        self._file = file
        self._members = tar.members(file)

    @contextmanager
    def file(self, name: str) -> Iterator[Piece | None]:
        found = self._members.get(name)
        yield None if found is None else Piece(self._file, *found)

    def blob(self, digest: Digest) -> contextlib.AbstractContextManager[Piece | None]:
        return self.file(_relative(digest))

    def close(self) -> None:
        calls.close(self._file)


class Target(Protocol):
    """A layout that is written. It shows itself by `publish`, durably."""

    def copy(self, source: int, digest: Digest) -> int:
        """Add a blob out of an open file; its size in bytes. Raises Damaged and adds nothing."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """`name` is that of the version or the index."""
        ...

    def write_blob(self, digest: Digest, data: bytes) -> None: ...

    def publish(self) -> None: ...

    def abandon(self) -> None: ...


def make_target(path: Path) -> Target:
    """An archive where the name ends in .tar, else a directory. Raises LayoutRefused."""
    path = Path(os.path.abspath(path))
    if not path.parent.is_dir():
        raise LayoutRefused(f"there is no directory {path.parent}; make it first")
    archive = path.name.endswith(_ARCHIVE)
    if os.path.lexists(path) and (archive or not path.is_dir() or any(path.iterdir())):
        raise LayoutRefused(f"{path} is there already; name a new one, or remove it first")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    return _NewArchive(path, draft) if archive else _NewDirectory(path, draft)


class _NewDirectory:
    def __init__(self, path: Path, draft: Path) -> None:
        self._path = path
        self._draft = draft
        self._places = [str(draft), str(draft / "blobs")]
        for place in self._places:
            calls.mkdir(place, 0o755)

    def copy(self, source: int, digest: Digest) -> int:
        path = self._place(digest)
        try:
            return copying.copy(source, path, digest, mode=0o644)
        except Damaged:
            durable.unlink(path)
            raise

    def write(self, name: str, data: bytes) -> None:
        durable.write_file(str(self._draft / name), str(self._draft), data, mode=0o644)

    def write_blob(self, digest: Digest, data: bytes) -> None:
        path = self._place(digest)
        durable.write_file(path, os.path.dirname(path), data, mode=0o644)

    def publish(self) -> None:
        for place in self._places:
            durable.sync_directory(place)
        with durable.opened(str(self._path.parent)) as parent:
            durable.publish(str(self._draft), str(self._path), parent)

    def abandon(self) -> None:
        for place in reversed(self._places):
            with contextlib.suppress(FileNotFoundError):
                for name in calls.listdir(place):
                    durable.unlink(f"{place}/{name}")
                calls.rmdir(place)

    def _place(self, digest: Digest) -> str:
        place = f"{self._draft}/blobs/{digest.algorithm.name}"
        if place not in self._places:
            calls.mkdir(place, 0o755)
            self._places.append(place)
        return f"{place}/{digest.encoded}"


class _NewArchive:
    def __init__(self, path: Path, draft: Path) -> None:
        self._path = path
        self._draft = str(draft)
        self._file = calls.open(
            self._draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o644
        )
        self._end = 0

    def copy(self, source: int, digest: Digest) -> int:
        before = self._end
        size, at = calls.fstat(source).st_size, 0
        hasher = digest.algorithm.new()
        self._write(tar.header(_relative(digest), size))
        try:
            while at < size:
                piece = _read(source, min(PIECE, size - at), at, digest)
                hasher.update(piece)
                self._write(piece)
                at += len(piece)
            if hasher.hexdigest() != digest.encoded:
                raise Damaged(f"the bytes of blob {digest} are not what they were")
        except Damaged:
            calls.ftruncate(self._file, before)
            self._end = before
            raise
        self._write(tar.padding(size))
        return size

    def write(self, name: str, data: bytes) -> None:
        self._write(tar.header(name, len(data)) + data + tar.padding(len(data)))

    def write_blob(self, digest: Digest, data: bytes) -> None:
        self.write(_relative(digest), data)

    def publish(self) -> None:
        self._write(tar.END)
        durable.sync_file(self._file)
        with durable.opened(str(self._path.parent)) as parent:
            durable.publish(self._draft, str(self._path), parent)
        calls.close(self._file)

    def abandon(self) -> None:
        calls.close(self._file)
        durable.unlink(self._draft)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = calls.pwrite(self._file, rest, self._end)
            rest = rest[written:]
            self._end += written


def _read(source: int, count: int, at: int, digest: Digest) -> bytes:
    try:
        piece = calls.pread(source, count, at)
    except OSError as error:
        raise Damaged(f"blob {digest} cannot be read ({error.strerror})") from error
    if not piece:
        raise Damaged(f"the file of blob {digest} became shorter")
    return piece


def _relative(digest: Digest) -> str:
    return f"blobs/{digest.algorithm.name}/{digest.encoded}"


def _not_a_file(name: str) -> str:
    return f"{name} of the layout is not a regular file; links and devices are not followed"
