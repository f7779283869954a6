"""Where a URL leads, for URLs that we fetch ourselves: a grammar with one reading. Pure.

Parsers of URLs disagree on backslashes, userinfo, `127.1`, full-width digits and much else, and
what one of them checked another one then fetches. So only what all of them read alike is a
URL here, and what was read is what is connected to: nothing parses the text again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_LENGTH: Final = 2048
_PORTS: Final = {"https": 443, "http": 80}

# RFC 3986: unreserved, sub-delims, ":" and "@", the escapes; no fragment, which is never sent.
_URL: Final = re.compile(
    r"(?P<scheme>[a-z]+)://"
    r"(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?)?",
    re.ASCII,
)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)  # WHATWG URL, "ends in a number"


@dataclass(frozen=True, slots=True)
class Destination:
    """Only made by `parse`."""

    scheme: str
    host: str
    """A name in lower case, or an address as it is written shortest; without brackets."""
    port: int
    target: str
    """Path and query, from the slash on."""

    @property
    def literal(self) -> bool:
        """Whether the host is an address, of which no resolver has to be asked."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @staticmethod
    def parse(url: str) -> Destination:
        """Raises ValueError with a sentence that does not repeat the URL: it may hold a secret."""
        if len(url) > _LENGTH:
            raise ValueError(f"is longer than {_LENGTH} characters")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("has spaces, control or non-ASCII characters; write xn-- and %XX")
        if "\\" in url:
            raise ValueError("has a backslash, which some readers take for a slash")
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in _PORTS:
            raise ValueError("does not begin with https://")
        if "@" in re.split("[/?#]", rest, maxsplit=1)[0]:
            raise ValueError("has a user name or password, which is not the place for one")
        if "#" in url:
            raise ValueError("has a fragment, which is never sent")
        found = _URL.fullmatch(url)
        if found is None:
            raise ValueError(
                "is no URL of the form https://host/path, with the host in lower case and without"
                " a dot at its end, and a port only as decimal digits"
            )
        host = _address(found["host"]) or _name(found["host"])
        port = int(found["port"] or _PORTS[scheme])
        if port > 65535:
            raise ValueError("has a port above 65535")
        target = found["target"] or "/"
        if any(part in (".", "..") for part in re.sub("%2[eE]", ".", target).split("/")):
            raise ValueError("has . or .. in its path")
        return Destination(scheme, host, port, target)


def _address(text: str) -> str | None:
    """The address that a host is, if it is none by name."""
    try:
        if text.startswith("["):
            address = str(ipaddress.IPv6Address(text[1:-1]))
        elif _NUMBER.fullmatch(text.rpartition(".")[2]):
            address = str(ipaddress.IPv4Address(text))  # no octal, no hex, no fewer than four parts
        else:
            return None
    except ValueError:
        raise ValueError("has a host that ends in a number and is no address a.b.c.d") from None
    if address != text.strip("[]"):
        raise ValueError(f"has an address that is written otherwise: {address}")
    return address


def _name(text: str) -> str:
    if len(text) > 253 or not all(map(_LABEL.fullmatch, text.split("."))):
        raise ValueError("has a host that is no domain name in lower case")
    return text
