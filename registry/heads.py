"""What the head of a request may look like. Pure.

The parser refuses much by itself, but takes two Hosts or none, `Transfer-Encoding: gzip, chunked`,
HTTP/0.9 and headers of any size. Whatever two programs in a row could read in two ways is refused
here, before an application sees it, and its connection is closed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Field: TypeAlias = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Limits:
    size: int
    """Bytes of the first line and all fields together."""
    count: int
    """Fields."""
    line: int
    """Bytes of the first line."""
    literal: bool
    """Whether a target may have an encoded NUL or a fragment, which mean something to nobody but
    an application."""


class Refused(Exception):
    """A request that is answered before any application sees it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# RFC 3986's characters of a host, and a port. Names with an underscore are common in networks of
# containers; an at sign would be a user, and a slash or a backslash another place.
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(?:[/?].*)?", re.IGNORECASE)
_UNSEEN: Final = re.compile(rb"%00|#|[\x00-\x20\x7f-\xff]")
FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_WATCHED: Final = FRAMING | {b"host"}


def check(
    method: bytes, target: bytes, version: str, fields: Sequence[Field], limits: Limits
) -> bool:
    """Whether a body follows. Raises Refused.

    Names of `fields` are in lower case, values as the parser gave them: without a line break.
    """
    line = len(method) + len(target) + 11
    if line > limits.line:
        raise too_long(limits)
    if len(fields) > limits.count:
        raise Refused(431, f"a request has at most {limits.count} header fields here")
    size = line + 2
    watched: list[Field] = []
    for field in fields:
        size += len(field[0]) + len(field[1]) + 4
        if field[0] in _WATCHED:
            watched.append(field)
    if size > limits.size:
        raise too_large(limits)
    if version != "1.1" and version != "1.0":
        raise Refused(505, f"HTTP/{version} is not spoken here, but HTTP/1.1 is")
    if len(watched) == 1 and watched[0][0] == b"host" and target[:1] == b"/":  # nearly all
        _check_host(watched[0][1])
        _check_path(target, limits)
        return False
    return _check_watched(target, version, watched, limits)


def too_long(limits: Limits) -> Refused:
    return Refused(414, f"the first line of a request has at most {limits.line:d} bytes here")


def too_large(limits: Limits) -> Refused:
    return Refused(431, f"the header of a request has at most {limits.size:d} bytes here")


def _check_watched(target: bytes, version: str, watched: Sequence[Field], limits: Limits) -> bool:
    hosts = [value for name, value in watched if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):  # RFC 9112, section 3.2
        raise Refused(400, "send exactly one Host header")
    if hosts:
        _check_host(hosts[0])
    if target[:1] != b"/":
        _check_absolute(target, hosts)
    _check_path(target, limits)
    return _has_body(version, watched)


def _check_host(host: bytes) -> None:
    if not HOST.fullmatch(host):
        raise Refused(400, "the Host header is not a host with or without a port")


def _check_path(target: bytes, limits: Limits) -> None:
    if not limits.literal and _UNSEEN.search(target):
        raise Refused(400, "the target of a request has neither a NUL nor a fragment")


def _check_absolute(target: bytes, hosts: Sequence[bytes]) -> None:
    """RFC 9112, 3.2.2: the absolute form must be taken, and its host is the one that counts.

    Whoever looks at Host only would see another place, so the two have to agree.
    """
    found = _ABSOLUTE.fullmatch(target)
    if not found:
        raise Refused(400, "the target of a request is a path that begins with a slash")
    _check_host(found[1])
    if hosts and hosts[0].lower() != found[1].lower():
        raise Refused(400, "the target and the Host header name different hosts")


def _has_body(version: str, watched: Sequence[Field]) -> bool:
    lengths = [value for name, value in watched if name == b"content-length"]
    codings = [value for name, value in watched if name == b"transfer-encoding"]
    if codings:
        # RFC 9112, 6.1: in HTTP/1.0, and beside a Content-Length, it is "faulty"
        if lengths or version == "1.0":
            raise Refused(400, "Transfer-Encoding is for HTTP/1.1 without a Content-Length")
        if len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked":
            raise Refused(400, "the one Transfer-Encoding that is taken is chunked")
        return True
    if not lengths:
        return False
    length = lengths[0].strip(b" \t")
    if len(lengths) > 1 or not length.isdigit() or len(length) > 19:
        raise Refused(400, "Content-Length is one number")
    return int(length) > 0
