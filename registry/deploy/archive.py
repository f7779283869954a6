"""Take wanted files out of a gzipped tar that nobody is trusted to have made.

Only the content of regular files counts, found by its SHA-256; their names are never used, so none
can lead out of anywhere. Everything is a stream of bounded length: what the tar claims about sizes
is held against what arrives. Python's tarfile is not used: it follows claims of an archive (sparse
maps, links, negative sizes) that have no place here.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Set
from pathlib import Path
from typing import Final

from registry.deploy.refusal import NotRunnable

UNPACKED_LIMIT: Final = 256 << 20  # bytes
ENTRIES_LIMIT: Final = 10_000
RATIO: Final = 100  # unpacked bytes for each packed one; deflate itself allows 1032
RATIO_FLOOR: Final = 4 << 20  # bytes that are unpacked whatever the ratio; text of zeros is legal

_BLOCK: Final = 512
_PIECE: Final = 256 << 10
_EXTENSION_LIMIT: Final = 64 << 10  # bytes of a long name or of extended headers
_REGULAR: Final = frozenset(b"0\07")
_DIRECTORY: Final = ord("5")
_LONG_NAME: Final = ord("L")
_EXTENDED: Final = frozenset(b"xg")


def unpack(archive: Path, wanted: Set[str], into: Path) -> dict[str, int]:
    """Write each file whose SHA-256 (in hex) is wanted to `into` under that name.

    Returns the sizes of those, in bytes.

    Blocks. Raises NotRunnable, leaving what was written so far.
    """
    found: dict[str, int] = {}
    draft = into / ".draft"
    with archive.open("rb", buffering=0) as packed:
        tar = _Tar(_Inflated(packed.fileno()))
        while (size := tar.next_file()) is not None:
            hasher, left = hashlib.sha256(), size
            with draft.open("wb", buffering=0) as file:
                while left:
                    piece = tar.read(min(left, _PIECE))
                    hasher.update(piece)
                    _write(file.fileno(), piece)
                    left -= len(piece)
            tar.skip_padding()
            name = hasher.hexdigest()
            if name in wanted and name not in found:
                draft.rename(into / name)
                found[name] = size
    draft.unlink(missing_ok=True)
    return found


class _Inflated:
    """The unpacked bytes of a gzip file of one or more members."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(wbits=31)
        self._packed = b""
        self._ready = memoryview(b"")
        self._taken = 0
        self._given = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        pieces: list[memoryview] = []
        while size:
            if not self._ready:
                self._ready = memoryview(self._more())
                if not self._ready:
                    break
            piece, self._ready = self._ready[:size], self._ready[size:]
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _more(self) -> bytes:
        """Some bytes; none at the end."""
        while True:
            if not self._packed:
                self._packed = os.read(self._file, _PIECE)
                self._taken += len(self._packed)
            if self._inflate.eof:
                # Another member may follow; tools for tapes fill up with zeros.
                self._packed = self._packed.lstrip(b"\0")
                if not self._packed:
                    self._packed = os.read(self._file, _PIECE)
                    self._taken += len(self._packed)
                    if not self._packed:
                        return b""
                    continue
                self._inflate = zlib.decompressobj(wbits=31)
            at_end = not self._packed
            try:
                data = self._inflate.decompress(self._packed, _PIECE)
            except zlib.error as error:
                raise _broken(f"it is not gzip: {error}") from None
            self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
            if data:
                self._given += len(data)
                self._check()
                return data
            if at_end and not self._inflate.eof:
                raise _broken("it is cut short")

    def _check(self) -> None:
        if self._given > UNPACKED_LIMIT:
            raise NotRunnable(
                f"an archive of files has more than {UNPACKED_LIMIT >> 20} MiB unpacked, which is"
                " the limit; push fewer or smaller files"
            )
        if self._given > max(RATIO_FLOOR, RATIO * (self._taken - len(self._packed))):
            raise NotRunnable(
                f"an archive of files unpacks to more than {RATIO} times its size, as a bomb does;"
                " push the files without SPIN_OCI_ARCHIVE_LAYERS"
            )


class _Tar:
    """The regular files of a tar (POSIX.1-2001 ustar and pax, and GNU's long names)."""

    def __init__(self, stream: _Inflated) -> None:
        self._stream = stream
        self._entries = 0
        self._padding = 0

    def next_file(self) -> int | None:
        """The size of the next regular file, whose bytes come next; None at the end."""
        while True:
            header = self._stream.read(_BLOCK)
            if not header or header == bytes(_BLOCK):
                return None
            if len(header) < _BLOCK:
                raise _broken("it is cut short")
            self._entries += 1
            if self._entries > ENTRIES_LIMIT:
                raise NotRunnable(
                    f"an archive of files has more than {ENTRIES_LIMIT} entries, which is the"
                    " limit; push fewer files"
                )
            size = _size(header)
            kind = header[156]
            self._padding = -size % _BLOCK
            if kind in _REGULAR:
                return size
            if kind == _DIRECTORY and size == 0:
                continue
            if kind not in _EXTENDED and kind != _LONG_NAME:
                raise NotRunnable(
                    f"an archive of files has an entry of type {chr(kind)!r}, and only regular"
                    " files and directories are unpacked; replace links by files and push again"
                )
            if size > _EXTENSION_LIMIT:
                raise _broken("it has a header that is too long")
            extension = self.read(size)
            self.skip_padding()
            if kind in _EXTENDED and _changes_content(extension):
                raise _broken("it has sparse files, or sizes outside of their headers")

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise _broken("it is cut short")
        return data

    def skip_padding(self) -> None:
        self.read(self._padding)


def _size(header: bytes) -> int:
    """The size that a header claims, once its checksum is right."""
    claimed = _octal(header[148:156])
    actual = sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")
    if claimed != actual:
        raise _broken("it is not a tar, or is damaged")
    return _octal(header[124:136])


def _octal(field: bytes) -> int:
    """A number of a header. GNU's binary form is for more than 8 GiB, and refused."""
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if any(digit not in b"01234567" for digit in digits):
        raise _broken("it has a header that is not a number")
    return int(digits, 8)


def _changes_content(extension: bytes) -> bool:
    """Whether pax records say that the file has another size, or is made of pieces."""
    while extension:
        length, blank, _ = extension.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 6 or not int(length):
            return True
        record = extension[: int(length)]
        keyword = record[len(length) + 1 :].partition(b"=")[0]
        if keyword == b"size" or keyword.startswith(b"GNU.sparse"):
            return True
        extension = extension[len(record) :]
    return False


def _broken(what: str) -> NotRunnable:
    return NotRunnable(f"an archive of files cannot be unpacked: {what}; push it again")


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
