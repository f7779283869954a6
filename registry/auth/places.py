"""On which line of a TOML text a key stands: what tomllib does not tell. Pure.

Only for a text that tomllib has read, so that nothing here has to know what is right.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

Keys: TypeAlias = tuple[str | int, ...]
"""Keys from the outermost; behind an array of tables, which of them, from 0 (no array in another
is counted anew)."""

# A string or a comment is one token, whatever brackets, equals signs and line breaks are in it.
_TOKEN: Final = re.compile(
    r'''
    (?P<string> """ (?: \\. | [^\\] )*? "{3,5}      # the last two of five belong to the content
              | \'\'\' .*? '{3,5}
              | " (?: \\. | [^"\\\n] )* "
              | ' [^'\n]* ' )
  | (?P<comment> \#[^\n]* )
  | (?P<other> [^"'\#\n\[\]{}=]+ | . )
    ''',
    re.DOTALL | re.VERBOSE,
)


def lines(text: str) -> Mapping[Keys, int]:
    """The line, from 1, of every key and table header; not of what stands within a value."""
    found: dict[Keys, int] = {}
    tables: Counter[Keys] = Counter()
    header: Keys = ()
    for number, kind, keys in _statements(text):
        if kind == "=":
            found.setdefault(header + _parsed(keys), number)
            continue
        if kind == "[[":
            tables[_parsed(keys)] += 1
        header = _numbered(keys, tables)
        found.setdefault(header, number)
    return found


def _numbered(keys: str, tables: Mapping[Keys, int]) -> Keys:
    """The path of a header: under an array of tables, in the last that was begun."""
    plain: Keys = ()
    path: Keys = ()
    for key in _parsed(keys):
        plain, path = (*plain, key), (*path, key)
        if plain in tables:
            path = (*path, tables[plain] - 1)
    return path


@lru_cache(maxsize=1024)
def _parsed(keys: str) -> Keys:
    """Of `a."b c"` a and b c: what is quoted how is tomllib's to know."""
    tree: object = tomllib.loads(f"{keys} = 0")
    path: Keys = ()
    while isinstance(tree, dict):
        ((key, tree),) = tree.items()
        path = (*path, key)
    return path


def _statements(text: str) -> Iterator[tuple[int, str, str]]:
    """Of each: its line, `=`, `[` or `[[`, and its keys as they are written."""
    text = text.replace("\r\n", "\n")
    number, begun, depth = 1, 1, 0
    keys, kind = "", ""
    for token in _TOKEN.finditer(text + "\n"):
        shown = token[0]
        if shown == "\n" and not depth:
            if kind or keys.strip():
                yield begun, kind, keys.strip()
            keys, kind = "", ""
        elif token["comment"] is None:
            if not keys.strip() and not kind:
                begun = number
            if kind == "=":  # in the value: only its end matters
                depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(shown, 0)
            elif shown == "[" or (shown == "=" and not kind):
                kind += shown
            elif shown != "]":
                keys += shown
        number += shown.count("\n")
