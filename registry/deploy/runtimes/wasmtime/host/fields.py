"""The resource `fields` of wasi:http/types 0.2: header fields and their rules."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.deploy.runtimes.wasmtime.abi import Err
from registry.deploy.runtimes.wasmtime.call import Call, Stopped
from registry.deploy.runtimes.wasmtime.host import Interface

types = Interface("wasi:http/types")
"""Filled by the other modules of wasi:http too."""

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

# "Hop-by-hop" fields belong to the connection, which the guest does not see; `host` is the
# authority. The rest is what other hosts of this interface refuse too.
FORBIDDEN = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "http2-settings"),
    )
)

MOST_FIELDS = 128 << 10  # bytes of one collection; no client takes more


class TooMuch(Stopped):
    pass


def _cost(item: tuple[str, bytes]) -> int:
    return len(item[0]) + len(item[1]) + 4  # as a line


class Fields:
    def __init__(self, items: Sequence[tuple[str, bytes]] = (), *, mutable: bool = True) -> None:
        self.items = list(items)
        self.mutable = mutable
        self._size = sum(map(_cost, self.items))

    def values(self, name: str) -> list[bytes]:
        return [value for key, value in self.items if key.lower() == name.lower()]

    def change(self) -> None:
        if not self.mutable:
            raise Err("immutable")

    def add(self, name: str, value: bytes) -> None:
        check_field(name, value)
        item = (name, value.strip(b" \t"))
        self.items.append(item)
        self._size += _cost(item)
        if self._size > MOST_FIELDS:
            raise TooMuch(f"it made header fields of more than {MOST_FIELDS} bytes")

    def remove(self, name: str) -> None:
        self.items = [item for item in self.items if item[0].lower() != name.lower()]
        self._size = sum(map(_cost, self.items))

    def frozen(self) -> Fields:
        self.mutable = False
        return self


def check_field(name: str, value: bytes = b"") -> None:
    if not TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise Err("invalid-syntax")
    if name.lower() in FORBIDDEN:
        raise Err("forbidden")


def content_length(fields: Fields) -> int | None:
    """The declared length. Raises Err: http-protocol-error for one that is not a number."""
    values = set(fields.values("content-length"))
    if not values:
        return None
    text = values.pop()
    if values or not re.fullmatch(rb"[0-9]{1,18}", text):
        raise Err("HTTP-protocol-error")
    return int(text)


@types("[constructor]fields")
def new_fields(call: Call) -> Fields:
    return Fields()


@types("[static]fields.from-list")
def fields_from_list(call: Call, items: list[tuple[str, bytes]]) -> Fields:
    fields = Fields()
    for name, value in items:
        fields.add(name, value)
    return fields


@types("[method]fields.get")
def fields_get(call: Call, self: Fields, name: str) -> list[bytes]:
    return self.values(name)


@types("[method]fields.has")
def fields_has(call: Call, self: Fields, name: str) -> bool:
    return bool(self.values(name))


@types("[method]fields.set")
def fields_set(call: Call, self: Fields, name: str, values: list[bytes]) -> None:
    self.change()
    for value in values or [b""]:
        check_field(name, value)
    self.remove(name)
    for value in values:
        self.add(name, value)


@types("[method]fields.delete")
def fields_delete(call: Call, self: Fields, name: str) -> None:
    self.change()
    check_field(name)
    self.remove(name)


@types("[method]fields.append")
def fields_append(call: Call, self: Fields, name: str, value: bytes) -> None:
    self.change()
    self.add(name, value)


@types("[method]fields.entries")
def fields_entries(call: Call, self: Fields) -> list[tuple[str, bytes]]:
    return self.items


@types("[method]fields.clone")
def fields_clone(call: Call, self: Fields) -> Fields:
    return Fields(self.items)
