"""Compiled components: native code that is trusted when it is loaded.

Whoever can write here can run code in the workers, so the directory and each file must be ours,
and nobody else's to write.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.deploy.runtimes.wasmtime.engine import identity


class CacheUnsafe(Exception):
    pass


class Cache:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def open(cls, directory: str | Path) -> Cache:
        """Make the directory if need be. Raises CacheUnsafe if others can write to it."""
        path = Path(directory)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or not _ours(found) or found.st_mode & 0o077:
            raise CacheUnsafe(
                f"{path} holds compiled code: it must be a directory of this user with mode 0700"
            )
        return cls(path)

    def path(self, wasm: str) -> Path:
        """Where the code compiled from the component of that sha256 belongs."""
        key = hashlib.sha256(f"{wasm} {identity()}".encode()).hexdigest()
        return self.directory / f"{key}.native"

    def has(self, wasm: str) -> bool:
        try:
            os.close(self._open(self.path(wasm)))
        except (FileNotFoundError, CacheUnsafe):
            return False
        return True

    def _open(self, path: Path) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CacheUnsafe(f"{path}: {error.strerror}") from None
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not _ours(found) or found.st_mode & 0o022:
            os.close(fd)
            raise CacheUnsafe(f"{path} could have been written by somebody else")
        return fd

    @contextmanager
    def opened(self, path: str) -> Iterator[str]:
        """A path at which compiled code can be mapped while the context lasts.

        By descriptor, so that what is mapped is the file that was looked at. Raises CacheUnsafe.
        """
        if Path(path).parent != self.directory:
            raise CacheUnsafe(f"{path} is not in the cache")
        try:
            fd = self._open(Path(path))
        except FileNotFoundError:
            raise CacheUnsafe(f"{path} is not there any more") from None
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def keep(self, wasm: str, code: bytes | bytearray) -> Path:
        """Write compiled code; on return it is whole, under its name, and survives a crash."""
        target = self.path(wasm)
        draft = target.with_suffix(f".{os.getpid()}.draft")
        draft.unlink(missing_ok=True)  # of a process that was killed and had the same number
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(code)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return target


def _ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid()
