"""Values across the component boundary: WIT types compiled once into converters.

The mapping is regular, whatever the payloads are:

    bool, integers, floats, char, string   bool, int, float, str
    list<u8>; list<T>; tuple<…>            bytes; list; tuple
    record; flags; enum                    dict; frozenset of names; name
    option<T>                              None or the value (options of options do not occur)
    variant                                the name of a case without payload, else (name, payload)
    result<T, E>                           T, or an `Err` (raised or returned)
    own<T>, borrow<T>                      the host's object itself
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

from wasmtime.component import _types as wit

from registry.deploy.runtimes.wasmtime import native

__all__ = ["Converter", "Err", "Frame", "Just", "Resources", "compile_type", "parameters"]


class Err(Exception):
    """The error side of a WIT result; host functions raise it or, inside a value, return it."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value


class Just:
    """The value of `some` or `ok`, where plain Python would be read one level too far out.

    `Just(None)` is some(…none…), `Just(Err(x))` is ok(err(x)).
    """

    def __init__(self, value: Any) -> None:
        self.value = value


class Frame(Protocol):
    """What a conversion needs of the call under way."""

    context: Any

    def put(self, thing: object) -> int: ...
    def get(self, rep: int) -> object: ...
    def take(self, rep: int) -> object: ...


class Converter(Protocol):
    def lift(self, frame: Frame, raw: Any) -> Any:
        """The Python value of `raw`, which stays the library's to free."""

    def lower(self, frame: Frame, value: Any, raw: Any) -> None:
        """Write `value` into the uninitialised `raw`, which the library then owns."""


def _kind(name: str) -> int:
    number: int = getattr(native.ffi, f"WASMTIME_COMPONENT_{name}").value
    return number


BOOL, CHAR, STRING, U8 = _kind("BOOL"), _kind("CHAR"), _kind("STRING"), _kind("U8")
LIST, RECORD, TUPLE, FLAGS = _kind("LIST"), _kind("RECORD"), _kind("TUPLE"), _kind("FLAGS")
VARIANT, ENUM, OPTION, RESULT = _kind("VARIANT"), _kind("ENUM"), _kind("OPTION"), _kind("RESULT")
RESOURCE = _kind("RESOURCE")


def _text(vec: Any) -> str:
    return ctypes.string_at(vec.data, vec.size).decode() if vec.size else ""


def _set_text(vec: Any, text: str) -> None:
    data = text.encode()
    native.bytes_new(ctypes.byref(vec), len(data), data)


def _settle(raw: Any) -> None:
    # A slot that could not be filled must still be something the library can free.
    raw.kind = BOOL
    raw.of.boolean = False


class _Scalar:
    def __init__(self, kind: int, field: str) -> None:
        self.kind, self.field = kind, field

    def lift(self, frame: Frame, raw: Any) -> Any:
        return getattr(raw.of, self.field)

    def lower(self, frame: Frame, value: Any, raw: Any) -> None:
        setattr(raw.of, self.field, value)
        raw.kind = self.kind


class _Char:
    def lift(self, frame: Frame, raw: Any) -> str:
        return chr(raw.of.character)

    def lower(self, frame: Frame, value: str, raw: Any) -> None:
        raw.of.character = ord(value)
        raw.kind = CHAR


class _String:
    def lift(self, frame: Frame, raw: Any) -> str:
        return _text(raw.of.string)

    def lower(self, frame: Frame, value: str, raw: Any) -> None:
        _set_text(raw.of.string, value)
        raw.kind = STRING


class _Bytes:
    """`list<u8>` in whole strides: every byte is the first of a 32-byte value."""

    _windows: tuple[Any, ...] = tuple(ctypes.c_char * (1 << power) for power in range(12, 34))
    _template = bytes([U8]) + bytes(native.VALUE_SIZE - 1)

    def lift(self, frame: Frame, raw: Any) -> bytes:
        vec = raw.of.list
        size = vec.size * native.VALUE_SIZE
        if not size:
            return b""
        # A window larger than the list, of which only the list is touched: ctypes remembers every
        # array type it is asked for, so there must not be one per length.
        window = self._windows[max(0, size.bit_length() - 12)]
        bytes_at = window.from_address(ctypes.addressof(vec.data.contents))
        picked: bytes = bytes_at[native.PAYLOAD : size : native.VALUE_SIZE]
        return picked

    def lower(self, frame: Frame, value: bytes, raw: Any) -> None:
        count = len(value)
        vec = raw.of.list
        native.list_new(ctypes.byref(vec), count)
        if count:
            image = bytearray(self._template * count)
            image[native.PAYLOAD :: native.VALUE_SIZE] = value
            ctypes.memmove(vec.data, bytes(image), len(image))
        raw.kind = LIST


class _List:
    def __init__(self, element: Converter) -> None:
        self.element = element

    def lift(self, frame: Frame, raw: Any) -> list[Any]:
        vec, lift = raw.of.list, self.element.lift
        data = vec.data
        return [lift(frame, data[i]) for i in range(vec.size)]

    def lower(self, frame: Frame, value: Sequence[Any], raw: Any) -> None:
        vec = raw.of.list
        native.list_new(ctypes.byref(vec), len(value))
        data = vec.data
        for i in range(len(value)):
            _settle(data[i])
        raw.kind = LIST
        for i, item in enumerate(value):
            self.element.lower(frame, item, data[i])


class _Tuple:
    def __init__(self, elements: Sequence[Converter]) -> None:
        self.elements = elements

    def lift(self, frame: Frame, raw: Any) -> tuple[Any, ...]:
        data = raw.of.tuple.data
        return tuple([e.lift(frame, data[i]) for i, e in enumerate(self.elements)])

    def lower(self, frame: Frame, value: Sequence[Any], raw: Any) -> None:
        vec = raw.of.tuple
        native.tuple_new(ctypes.byref(vec), len(self.elements))
        data = vec.data
        for i in range(len(self.elements)):
            _settle(data[i])
        raw.kind = TUPLE
        for i, (element, item) in enumerate(zip(self.elements, value, strict=True)):
            element.lower(frame, item, data[i])


class _Record:
    def __init__(self, fields: Sequence[tuple[str, Converter]]) -> None:
        self.fields = fields

    def lift(self, frame: Frame, raw: Any) -> dict[str, Any]:
        data = raw.of.record.data
        return {name: c.lift(frame, data[i].val) for i, (name, c) in enumerate(self.fields)}

    def lower(self, frame: Frame, value: dict[str, Any], raw: Any) -> None:
        vec = raw.of.record
        native.record_new(ctypes.byref(vec), len(self.fields))
        data = vec.data
        for i, (name, _) in enumerate(self.fields):
            _set_text(data[i].name, name)
            _settle(data[i].val)
        raw.kind = RECORD
        for i, (name, converter) in enumerate(self.fields):
            converter.lower(frame, value[name], data[i].val)


def _boxed(converter: Converter, frame: Frame, value: Any) -> Any:
    scratch = native.Value()
    _settle(scratch)
    try:
        converter.lower(frame, value, scratch)
    except BaseException:
        native.value_delete(ctypes.byref(scratch))
        raise
    return native.value_new(ctypes.byref(scratch))


class _Option:
    def __init__(self, payload: Converter) -> None:
        self.payload = payload

    def lift(self, frame: Frame, raw: Any) -> Any:
        box = raw.of.option
        return self.payload.lift(frame, box.contents) if box else None

    def lower(self, frame: Frame, value: Any, raw: Any) -> None:
        if value is None:
            raw.of.option = None
        else:
            content = value.value if isinstance(value, Just) else value
            raw.of.option = _boxed(self.payload, frame, content)
        raw.kind = OPTION


class _Variant:
    def __init__(self, cases: Sequence[tuple[str, Converter | None]]) -> None:
        self.cases = dict(cases)

    def lift(self, frame: Frame, raw: Any) -> Any:
        tag = _text(raw.of.variant.discriminant)
        payload = self.cases[tag]
        return tag if payload is None else (tag, payload.lift(frame, raw.of.variant.val.contents))

    def lower(self, frame: Frame, value: Any, raw: Any) -> None:
        tag, content = (value, None) if isinstance(value, str) else value
        payload = self.cases[tag]
        box = None if payload is None else _boxed(payload, frame, content)
        _set_text(raw.of.variant.discriminant, tag)
        raw.of.variant.val = box
        raw.kind = VARIANT


class _Result:
    def __init__(self, ok: Converter | None, err: Converter | None) -> None:
        self.ok, self.err = ok, err

    def lift(self, frame: Frame, raw: Any) -> Any:
        result = raw.of.result
        side = self.ok if result.is_ok else self.err
        value = side.lift(frame, result.val.contents) if side is not None else None
        return value if result.is_ok else Err(value)

    def lower(self, frame: Frame, value: Any, raw: Any) -> None:
        is_ok = not isinstance(value, Err)
        side = self.ok if is_ok else self.err
        content = value.value if isinstance(value, Err | Just) else value
        box = _boxed(side, frame, content) if side is not None else None
        raw.of.result.is_ok = is_ok
        raw.of.result.val = box
        raw.kind = RESULT


class _Enum:
    def lift(self, frame: Frame, raw: Any) -> str:
        return _text(raw.of.enumeration)

    def lower(self, frame: Frame, value: str, raw: Any) -> None:
        _set_text(raw.of.enumeration, value)
        raw.kind = ENUM


class _Flags:
    def lift(self, frame: Frame, raw: Any) -> frozenset[str]:
        vec = raw.of.flags
        return frozenset(_text(vec.data[i]) for i in range(vec.size))

    def lower(self, frame: Frame, value: frozenset[str], raw: Any) -> None:
        vec = raw.of.flags
        native.flags_new(ctypes.byref(vec), len(value))
        for i, name in enumerate(value):
            _set_text(vec.data[i], name)
        raw.kind = FLAGS


class _Resource:
    """Handles to the host's objects; an owned handle given to the host leaves the table."""

    def __init__(self, kind: int, *, owned: bool) -> None:
        self.kind, self.owned = kind, owned

    def lift(self, frame: Frame, raw: Any) -> object:
        host = native.HostPointer()
        # Also ends the borrow: a handle that is merely freed makes the guest's call trap.
        native.check(native.any_to_host(frame.context, raw.of.resource, ctypes.byref(host)))
        rep = native.host_rep(host)
        native.host_delete(host)
        return frame.take(rep) if self.owned else frame.get(rep)

    def lower(self, frame: Frame, value: object, raw: Any) -> None:
        host = native.host_new(True, frame.put(value), self.kind)
        handle = native.AnyPointer()
        native.check(native.host_to_any(frame.context, host, ctypes.byref(handle)))
        native.host_delete(host)
        raw.of.resource = handle
        raw.kind = RESOURCE


class Resources:
    """Numbers the resource types of one component: equal types, equal number."""

    def __init__(self) -> None:
        self._types: list[Any] = []

    def number(self, kind: Any) -> int:
        for i, known in enumerate(self._types):
            if known == kind:
                return i + 1
        self._types.append(kind)
        return len(self._types)


_SCALARS: dict[type, str] = {
    wit.Bool: "boolean",
    wit.S8: "s8",
    wit.S16: "s16",
    wit.S32: "s32",
    wit.S64: "s64",
    wit.U8: "u8",
    wit.U16: "u16",
    wit.U32: "u32",
    wit.U64: "u64",
    wit.F32: "f32",
    wit.F64: "f64",
}


def compile_type(kind: Any, resources: Resources) -> Converter:
    """The converter of a WIT type. Raises NotImplementedError for what WASI 0.2 does not have."""

    def inner(part: Any) -> Converter:
        return compile_type(part, resources)

    def maybe(part: Any) -> Converter | None:
        return None if part is None else inner(part)

    if (field := _SCALARS.get(type(kind))) is not None:
        return _Scalar(_kind(type(kind).__name__.upper()), field)
    match kind:
        case wit.Char():
            return _Char()
        case wit.String():
            return _String()
        case wit.ListType():
            element = kind.element
            return _Bytes() if isinstance(element, wit.U8) else _List(inner(element))
        case wit.TupleType():
            return _Tuple([inner(part) for part in kind.elements])
        case wit.RecordType():
            return _Record([(name, inner(part)) for name, part in kind.fields])
        case wit.OptionType():
            return _Option(inner(kind.payload))
        case wit.VariantType():
            return _Variant([(name, maybe(part)) for name, part in kind.cases])
        case wit.ResultType():
            return _Result(maybe(kind.ok), maybe(kind.err))
        case wit.EnumType():
            return _Enum()
        case wit.FlagsType():
            return _Flags()
        case wit.OwnType():
            return _Resource(resources.number(kind.ty), owned=True)
        case wit.BorrowType():
            return _Resource(resources.number(kind.ty), owned=False)
    raise NotImplementedError(f"values of {type(kind).__name__} cannot be passed")


def parameters(kind: Any, resources: Resources) -> tuple[list[Converter], Converter | None]:
    """The converters of a function type: of its parameters, and of its result."""
    result = kind.result
    return (
        [compile_type(part, resources) for _, part in kind.params],
        None if result is None else compile_type(result, resources),
    )
