"""Entity tags and the conditions on them. Pure. RFC 9110, sections 8.8.3 and 13.1."""

from __future__ import annotations

from storage.digest import Digest


def entity_tag(digest: Digest) -> str:
    """A digest names its bytes, so it is a strong validator as it stands."""
    return f'"{digest}"'


def none_match(header: str | None, current: Digest) -> bool:
    """Whether If-None-Match lists `current`: the client has it. Weak comparison."""
    return header is not None and _lists(header.replace("W/", ""), current)


def fulfilled(if_match: str | None, if_none_match: str | None, current: Digest | None) -> bool:
    """Whether a write may go on, where `current` is what the target is now (None: nothing)."""
    if if_match is not None and (current is None or not _lists(if_match, current)):
        return False
    return current is None or not none_match(if_none_match, current)


def _lists(header: str, digest: Digest) -> bool:
    wanted = entity_tag(digest)
    # A digest has no comma, so a list can be split at them.
    return any(tag == "*" or tag == wanted for tag in map(str.strip, header.split(",")))
