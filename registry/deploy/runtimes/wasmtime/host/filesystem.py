"""wasi:filesystem 0.2, read-only: a component's assets, mounted at `/`.

A guest's path is a list of plain names that is walked one directory at a time, without following
links, from a descriptor that the guest already has; so there is no path that leads outside.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat as modes
from typing import Any

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call
from registry.deploy.runtimes.wasmtime.host import Interface
from registry.deploy.runtimes.wasmtime.host.clocks import datetime
from registry.deploy.runtimes.wasmtime.host.io import CLOSED, PIECE, Always, failed

preopens = Interface("wasi:filesystem/preopens")
types = Interface("wasi:filesystem/types")
INTERFACES = (preopens, types)

_CODES = {
    errno.EACCES: "access",
    errno.EBADF: "bad-descriptor",
    errno.EINVAL: "invalid",
    errno.EIO: "io",
    errno.EISDIR: "is-directory",
    errno.ELOOP: "loop",
    errno.EMFILE: "insufficient-memory",
    errno.ENAMETOOLONG: "name-too-long",
    errno.ENFILE: "insufficient-memory",
    errno.ENOENT: "no-entry",
    errno.ENOTDIR: "not-directory",
    errno.EPERM: "not-permitted",
}


def _code(error: OSError) -> Err:
    return Err(_CODES.get(error.errno or 0, "io"))


class Descriptor:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.stat = os.fstat(fd)

    @property
    def is_directory(self) -> bool:
        return modes.S_ISDIR(self.stat.st_mode)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FileStream(Always):
    """Reads a file on from an offset; independent of the descriptor that it came from."""

    def __init__(self, fd: int, offset: int) -> None:
        self._fd, self._offset = fd, offset

    def read(self, call: Call, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, self._offset)
        except OSError as error:
            raise failed(str(error)) from None
        if not data:
            raise Err(CLOSED)
        self._offset += len(data)
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Entries:
    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.left = entries


def _names(path: str) -> list[str]:
    """The names to walk, with `..` taken off against what came before. Raises Err."""
    if path.startswith("/"):
        raise Err("not-permitted")
    if "\0" in path:
        raise Err("invalid")
    names: list[str] = []
    for name in path.split("/"):
        if name in ("", "."):
            continue
        if name == "..":
            if not names:
                raise Err("not-permitted")
            names.pop()  # exact, since no name that is walked may be a link
        else:
            names.append(name)
    return names


def _walk(directory: Descriptor, path: str) -> int:
    """A descriptor of the file or directory at `path`. Raises Err."""
    if not directory.is_directory:
        raise Err("not-directory")
    if not path:
        raise Err("no-entry")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.dup(directory.fd)
        for name in _names(path):
            try:
                inner = os.open(name, flags, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
    except OSError as error:
        raise _code(error) from None
    mode = os.fstat(fd).st_mode
    if not (modes.S_ISREG(mode) or modes.S_ISDIR(mode)):
        os.close(fd)
        raise Err("not-permitted")
    if path.endswith("/") and not modes.S_ISDIR(mode):
        os.close(fd)
        raise Err("not-directory")
    return fd


def _kind(mode: int) -> str:
    if modes.S_ISDIR(mode):
        return "directory"
    return "regular-file" if modes.S_ISREG(mode) else "unknown"


def _record(found: os.stat_result) -> dict[str, Any]:
    return {
        "type": _kind(found.st_mode),
        "link-count": 1,
        "size": found.st_size,
        "data-access-timestamp": datetime(found.st_mtime_ns),
        "data-modification-timestamp": datetime(found.st_mtime_ns),
        "status-change-timestamp": datetime(found.st_mtime_ns),
    }


def _hash(found: os.stat_result) -> dict[str, int]:
    seed = f"{found.st_dev}.{found.st_ino}.{found.st_size}.{found.st_mtime_ns}".encode()
    digest = hashlib.blake2b(seed, digest_size=16).digest()
    return {
        "lower": int.from_bytes(digest[:8], "little"),
        "upper": int.from_bytes(digest[8:], "little"),
    }


@preopens("get-directories")
def get_directories(call: Call) -> list[tuple[Descriptor, str]]:
    if call.component.assets is None:
        return []
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return [(Descriptor(os.open(call.component.assets, flags)), "/")]


@types("[method]descriptor.open-at")
def open_at(
    call: Call,
    self: Descriptor,
    follow: frozenset[str],
    path: str,
    opening: frozenset[str],
    wanted: frozenset[str],
) -> Descriptor:
    if opening & {"create", "truncate", "exclusive"} or wanted & {"write", "mutate-directory"}:
        raise Err("read-only")
    found = Descriptor(_walk(self, path))
    if "directory" in opening and not found.is_directory:
        found.close()
        raise Err("not-directory")
    return found


@types("[method]descriptor.read-via-stream")
def read_via_stream(call: Call, self: Descriptor, offset: int) -> FileStream:
    if self.is_directory:
        raise Err("is-directory")
    return FileStream(os.dup(self.fd), min(offset, 1 << 62))


@types("[method]descriptor.read")
def read(call: Call, self: Descriptor, length: int, offset: int) -> tuple[bytes, bool]:
    if self.is_directory:
        raise Err("is-directory")
    wanted = min(length, PIECE)
    try:
        data = os.pread(self.fd, wanted, min(offset, 1 << 62))
    except OSError as error:
        raise _code(error) from None
    return data, len(data) < wanted or (wanted == 0 and offset >= self.stat.st_size)


@types("[method]descriptor.stat")
def stat(call: Call, self: Descriptor) -> dict[str, Any]:
    return _record(self.stat)


@types("[method]descriptor.stat-at")
def stat_at(call: Call, self: Descriptor, follow: frozenset[str], path: str) -> dict[str, Any]:
    fd = _walk(self, path)
    try:
        return _record(os.fstat(fd))
    finally:
        os.close(fd)


@types("[method]descriptor.metadata-hash")
def metadata_hash(call: Call, self: Descriptor) -> dict[str, int]:
    return _hash(self.stat)


@types("[method]descriptor.metadata-hash-at")
def metadata_hash_at(
    call: Call, self: Descriptor, follow: frozenset[str], path: str
) -> dict[str, int]:
    fd = _walk(self, path)
    try:
        return _hash(os.fstat(fd))
    finally:
        os.close(fd)


@types("[method]descriptor.get-type")
def get_type(call: Call, self: Descriptor) -> str:
    return _kind(self.stat.st_mode)


@types("[method]descriptor.get-flags")
def get_flags(call: Call, self: Descriptor) -> frozenset[str]:
    return frozenset({"read"})


@types("[method]descriptor.is-same-object")
def is_same_object(call: Call, self: Descriptor, other: Descriptor) -> bool:
    return os.path.samestat(self.stat, other.stat)


@types("[method]descriptor.advise", "[method]descriptor.sync", "[method]descriptor.sync-data")
def nothing_to_do(call: Call, self: Descriptor, *_: Any) -> None:
    return None


@types("[method]descriptor.read-directory")
def read_directory(call: Call, self: Descriptor) -> Entries:
    if not self.is_directory:
        raise Err("not-directory")
    try:
        with os.scandir(self.fd) as entries:
            listed = [
                {
                    "type": _kind(entry.stat(follow_symlinks=False).st_mode),
                    "name": entry.name,
                }
                for entry in entries
            ]
    except OSError as error:
        raise _code(error) from None
    return Entries(sorted(listed, key=lambda entry: entry["name"], reverse=True))


@types("[method]directory-entry-stream.read-directory-entry")
def read_directory_entry(call: Call, self: Entries) -> dict[str, Any] | None:
    return self.left.pop() if self.left else None


@types("[method]descriptor.readlink-at")
def readlink_at(call: Call, self: Descriptor, path: str) -> str:
    raise Err("invalid")  # as the C function says it of whatever is no link


@types("filesystem-error-code")
def filesystem_error_code(call: Call, error: object) -> None:
    return None


@types(
    "[method]descriptor.write-via-stream",
    "[method]descriptor.append-via-stream",
    "[method]descriptor.set-size",
    "[method]descriptor.set-times",
    "[method]descriptor.set-times-at",
    "[method]descriptor.write",
    "[method]descriptor.create-directory-at",
    "[method]descriptor.link-at",
    "[method]descriptor.remove-directory-at",
    "[method]descriptor.rename-at",
    "[method]descriptor.symlink-at",
    "[method]descriptor.unlink-file-at",
)
def read_only(call: Call, self: Descriptor, *_: Any) -> None:
    raise Err("read-only")
