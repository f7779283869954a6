"""Lists in pages: `n`, `last` and the Link to what follows. Pure.

Distribution spec, "Listing Tags"; the catalogue and the referrers page alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlencode

from registry.errors import QueryInvalid

T = TypeVar("T")

_COUNT = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` entries, strictly after `after`."""

    limit: int
    after: str | None

    @property
    def lookahead(self) -> int:
        """How many to look for: one more tells whether a page follows."""
        return self.limit + 1

    def cut(self, found: Sequence[T]) -> tuple[Sequence[T], bool]:
        """This page of what was found, and whether another follows.

        "When n is zero, this endpoint MUST return an empty list, and MUST NOT include a Link".
        """
        return found[: self.limit], 0 < self.limit < len(found)


def parse(n: str | None, last: str | None, *, most: int) -> Page:
    """The page that was asked for, of at most `most` entries. Raises QueryInvalid."""
    if n is None:
        return Page(most, last)
    if not _COUNT.fullmatch(n):
        raise QueryInvalid(f"n={n[:40]!r} is not a number of entries; use 0 or more")
    # Nine digits are beyond every page; more would only cost time to convert.
    digits = n.lstrip("0") or "0"
    return Page(most if len(digits) > 9 else min(int(digits), most), last)


def link(path: str, parameters: Mapping[str, str | int]) -> bytes:
    """The value of a Link header to the next page.

    Relative, since behind a proxy we know neither scheme nor host; clients resolve it.
    """
    return f'<{path}?{urlencode(parameters, quote_via=quote, safe="")}>; rel="next"'.encode()
