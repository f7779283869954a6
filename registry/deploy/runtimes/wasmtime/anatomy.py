"""What a WebAssembly file imports and exports, read from its section headers. Pure.

Only the outermost names are needed, and they are in two small sections; everything else is
skipped by its length, so this costs microseconds whatever the size. It is a look, not a
validation: compiling does that.

The format: component-model, "Binary format".
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

HANDLER = "wasi:http/incoming-handler@0.2."
"""How the export begins that makes a component answer HTTP requests."""

MODULE, COMPONENT = b"\x01\x00\x00\x00", b"\x0d\x00\x01\x00"
_IMPORTS, _EXPORTS = 10, 11
_MOST = 4 << 20  # bytes of one of those two sections


class NotWasm(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Anatomy:
    component: bool
    """False for a core module, of which nothing more is read."""
    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()


def anatomy(file: BinaryIO) -> Anatomy:
    """Read the names. Raises NotWasm."""
    head = file.read(8)
    if head[:4] != b"\0asm":
        raise NotWasm("it does not begin like WebAssembly")
    if head[4:] == MODULE:
        return Anatomy(component=False)
    if head[4:] != COMPONENT:
        raise NotWasm("it is WebAssembly of an unknown version")
    imports: list[str] = []
    exports: list[str] = []
    try:
        while kind := file.read(1):
            size = _number(file)
            if kind[0] not in (_IMPORTS, _EXPORTS):
                file.seek(size, io.SEEK_CUR)
                continue
            if size > _MOST:
                raise NotWasm("it has an unreasonable number of imports or exports")
            section = io.BytesIO(file.read(size))
            for _ in range(_number(section)):
                if kind[0] == _IMPORTS:
                    imports.append(_name(section))
                    _skip_type(section)
                else:
                    exports.append(_name(section))
                    if _byte(section) == 0:  # a core sort has a second byte
                        _byte(section)
                    _number(section)
                    if _byte(section):  # the type it is exported with
                        _skip_type(section)
    except (IndexError, UnicodeDecodeError):
        raise NotWasm("it is cut short or damaged") from None
    return Anatomy(component=True, imports=tuple(imports), exports=tuple(exports))


def _byte(file: BinaryIO) -> int:
    return file.read(1)[0]


def _number(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = _byte(file)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
        if shift > 28:
            raise NotWasm("it has a number that is too large")


def _text(file: BinaryIO) -> str:
    size = _number(file)
    data = file.read(size)
    if len(data) != size:
        raise IndexError
    return data.decode()


def _name(file: BinaryIO) -> str:
    kind = _byte(file)
    name = _text(file)
    if kind == 1:  # an older writer's: a second string followed, or none
        return name
    if kind == 2:  # with options, such as a version suffix
        for _ in range(_number(file)):
            _byte(file)
            _text(file)
    elif kind != 0:
        raise NotWasm("it has a name of an unknown kind")
    return name


def _skip_type(file: BinaryIO) -> None:
    match _byte(file):
        case 0x00:  # core module
            _byte(file)
            _number(file)
        case 0x01 | 0x04 | 0x05:  # function, component, instance
            _number(file)
        case 0x02:  # value: eq index, or a type
            if _byte(file) == 0:
                _number(file)
            else:
                _number(file)
        case 0x03:  # type: eq index, or any resource
            if _byte(file) == 0:
                _number(file)
        case _:
            raise NotWasm("it has an import of an unknown kind")
