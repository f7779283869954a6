"""What clients call us, so that an answer can tell them where to come back. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\[\]:]+)(?::([0-9]{1,5}))?", re.ASCII)


def called(scope: Mapping[str, Any]) -> str:
    """What the client calls us, with scheme: what an answer may tell it to come back to.

    A Host that is none was made up: then it is where we listen.
    """
    host = b", ".join(value for name, value in scope["headers"] if name == b"host")
    text = host.decode("latin-1")
    scheme = "https" if scope.get("scheme") == "https" else "http"
    return f"{scheme}://{text if is_authority(text) else _listener(scope.get('server'))}"


def is_authority(text: str) -> bool:
    """RFC 9112, section 3.2: `uri-host [":" port]`, and nothing that only some read so."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        return False
    if not match[1].startswith("["):
        return _HOST.fullmatch(match[1]) is not None and ".." not in match[1]
    try:
        ipaddress.IPv6Address(match[1][1:-1])
    except ValueError:
        return False
    return True


def _listener(server: Any) -> str:
    host, port = server or ("localhost", None)
    if port is None:  # a Unix socket
        return "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
