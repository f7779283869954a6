"""Tar archives that nobody is trusted to have made: where in the file each member's bytes are.

Nothing is unpacked. Only regular files count; whatever a tar could do beyond that (links, devices,
sparse files, sizes below zero) is refused. Not Python's tarfile, which follows such claims.
"""

from __future__ import annotations

import os
from typing import Final

from storage.errors import LayoutRefused
from storage.filesystem import calls

MEMBERS: Final = 1_000_000
LONGEST: Final = 160  # characters of a name; those of others would only fill the memory
_BLOCK: Final = 512
SEPARATOR: Final = os.sep  # as tar's
_EXTENSION: Final = 64 << 10  # bytes of a long name or of extended headers
_REGULAR: Final = frozenset(b"0\07")
_DIRECTORY: Final = ord("5")
_LONG_NAME: Final = ord("L")
_EXTENDED: Final = ord("x")
_GLOBAL: Final = ord("g")


def members(file: int) -> dict[str, tuple[int, int]]:
    """The regular files of an archive: offset and size of each in bytes. Raises LayoutRefused.

    Without those whose names are longer than any of a layout.
    """
    end = calls.fstat(file).st_size
    found: dict[str, tuple[int, int]] = {}
    at, count = 0, 0
    extended: dict[str, str] = {}
    while any(header := _read(file, at, _BLOCK)):
        count += 1
        if count > MEMBERS:
            raise LayoutRefused(f"the archive has more than {MEMBERS} members")
        _check_sum(header)
        kind = header[156]
        size = _number(header[124:136])
        if kind not in (_LONG_NAME, _EXTENDED, _GLOBAL):
            size = int(extended.get("size", size))
        start = at + _BLOCK
        at = start + -(-size // _BLOCK) * _BLOCK
        if size < 0 or start + size > end:
            raise LayoutRefused("the archive ends within one of its members")
        if kind in (_LONG_NAME, _EXTENDED, _GLOBAL):
            if size > _EXTENSION:
                raise LayoutRefused(f"the archive has a header of {size} bytes")
            data = _read(file, start, size)
            if kind == _LONG_NAME:
                extended["path"] = _text(data)
            elif kind == _EXTENDED:
                extended |= _records(data)
            continue
        name = extended.get("path") or _name(header)
        extended = {}
        if kind in _REGULAR:
            _check_name(name)
            if len(name) > LONGEST:
                continue
            if found.setdefault(name.removeprefix(f".{SEPARATOR}"), (start, size)) != (start, size):
                raise LayoutRefused(f"the archive has {name!r} twice")
        elif kind != _DIRECTORY:
            raise LayoutRefused(
                f"the archive's {name[:200]!r} is neither a file nor a directory; links and devices"
                " are not followed"
            )
    return found


def header(name: str, size: int) -> bytes:
    """What comes before the bytes of a regular file."""
    records = b""
    if len(name) > 100:
        records += _record("path", name)
    if size >= 1 << 33:
        records += _record("size", str(size))
    if not records:
        return _header(name, size, b"0")
    # Readers that do not know the extension see a name that is cut and a size of none.
    return (
        _header("PaxHeader", len(records), b"x")
        + records
        + padding(len(records))
        + _header(name[:100], size if size < 1 << 33 else 0, b"0")
    )


def padding(size: int) -> bytes:
    """What comes behind the bytes of a file."""
    return bytes(-size % _BLOCK)


END: Final = bytes(2 * _BLOCK)


def _header(name: str, size: int, kind: bytes) -> bytes:
    fields = b"%s%s%s%s%011o\0%011o\0%s%s%s%s" % (
        name.encode().ljust(100, b"\0"),
        *(b"0000644\0", b"0000000\0", b"0000000\0"),
        *(size, 0),  # bytes; and a time that is always the same
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\00000",
    )
    block = fields.ljust(_BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    """A line that begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _records(data: bytes) -> dict[str, str]:
    found = {}
    while data.strip(b"\0"):
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        line = data[len(digits) + 1 : length]
        key, equals, value = line.removesuffix(b"\n").partition(b"=")
        if not equals or length > len(data):
            raise LayoutRefused("the archive has an extended header that cannot be read")
        if key.startswith(b"GNU.sparse"):
            raise LayoutRefused("the archive has a sparse file; write it anew without")
        if key in (b"path", b"size"):
            found[key.decode()] = _text(value)
        if key == b"size" and not (value.isdigit() and len(value) < 20):
            raise LayoutRefused("the archive has a member whose size cannot be read")
        data = data[length:]
    return found


def _check_sum(header: bytes) -> None:
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if len(header) < _BLOCK or _number(header[148:156]) != total:
        raise LayoutRefused("this is not a tar archive, or it is damaged")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256, of GNU tar, for what octal digits cannot hold
        if field[0] != 0x80:
            raise LayoutRefused("the archive has a member whose size is below zero")
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise LayoutRefused("this is not a tar archive, or it is damaged")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}{SEPARATOR}{name}" if prefix else name


def _check_name(name: str) -> None:
    if name.startswith(SEPARATOR) or ".." in name.split(SEPARATOR):
        raise LayoutRefused(f"the archive's {name[:200]!r} leads out of it")


def _text(data: bytes) -> str:
    try:
        return data.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        raise LayoutRefused("the archive has a name that is not UTF-8") from None


def _read(file: int, at: int, count: int) -> bytes:
    return calls.pread(file, count, at)
