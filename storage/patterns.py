"""Patterns of repositories and tags, such as `acme/*`: what rules are about. Pure.

    *     any characters, also none, but no slash
    ?     one character, but no slash
    **    as a whole component: any number of components, also none, so `acme/**` is `acme` too

All else stands for itself, and a pattern fits a whole name or not at all. There are no brackets
and no braces: a list of patterns says the same.

A name comes from whoever pushes, so matching takes time in proportion to its length, whatever the
pattern: all places in the pattern that a beginning of the name may lead to are followed at once, as
the bits of one number. A regular expression, or the usual walk back to the last star, would not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from storage.names import NAME_LENGTH

TAG_LENGTH: Final = 128

# Of a component of a name, as storage.names quotes its grammar: where a character leads from what
# stood last. Begun is "", a letter or digit "a", and only after one of those may it end.
_GRAMMAR: Final = {
    **{(last, "a"): "a" for last in ("", "a", ".", "_", "__", "-")},
    **{("a", separator): separator for separator in (".", "_", "-")},
    ("_", "_"): "__",
    ("-", "-"): "-",
}

_REPOSITORY = re.compile(r"[a-z0-9._/*?-]+", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9._*?-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Only made by `repository` and `tag`."""

    text: str
    _advance: dict[str, int] = field(compare=False, repr=False)
    """By character: the places from which it leads to the next one; a bit for each."""
    _remain: tuple[int, int] = field(compare=False, repr=False)
    """The places where any character, and where any but a slash, leads nowhere else."""
    _skip: tuple[tuple[int, int], ...] = field(compare=False, repr=False)
    """Places that need no character to get from the first to the second, in their order."""
    _length: int = field(compare=False, repr=False)
    _begins: str = field(compare=False, repr=False)
    """What stands before the first * or ?, without a slash that a ** may do without."""
    _ends: str = field(compare=False, repr=False)
    """The same of what stands behind the last."""

    @staticmethod
    def repository(text: str) -> Pattern:
        """Raises ValueError for what no repository could fit."""
        if not _REPOSITORY.fullmatch(text) or len(text) > NAME_LENGTH:
            raise ValueError(
                f"{text[:140]!r} is no pattern of repositories; use the lower-case characters of a"
                " name with * (within a component), ? and ** (any components), such as acme/*"
            )
        components = text.split("/")
        if "" in components:
            raise ValueError(f"{text!r} fits nothing: no name has an empty component")
        if any("**" in component and component != "**" for component in components):
            raise ValueError(f"{text!r}: ** stands for whole components, such as acme/**")
        if not all(map(_possible, components)):
            raise ValueError(
                f"{text!r} fits nothing: in a name, '.', '_', '__' and dashes stand between letters"
                " or digits"
            )
        return _compiled(text)

    @staticmethod
    def tag(text: str) -> Pattern:
        """Raises ValueError for what no tag could fit."""
        if not _TAG.fullmatch(text) or len(text) > TAG_LENGTH or text[0] in ".-":
            raise ValueError(
                f"{text[:140]!r} is no pattern of tags; use the characters of a tag with * and ?,"
                " such as v*"
            )
        if "**" in text:
            raise ValueError(f"{text!r}: a tag has no slashes, so one * says what ** would")
        return _compiled(text)

    def fits(self, name: str) -> bool:
        if not (name.startswith(self._begins) and name.endswith(self._ends)):
            return False
        rest = self.text[len(self._begins) :]
        if rest in ("", "*"):  # as most are
            return "/" not in name[len(self._begins) :] if rest else name == self.text
        if rest in ("**", "/**"):
            return rest == "**" or name[len(self._begins) :][:1] in ("", "/")
        places = self._skipped(1)
        anything, no_slash = self._remain
        for character in name:
            stay = anything if character == "/" else anything | no_slash
            advance = self._advance.get(character, self._advance["/" if character == "/" else ""])
            places = self._skipped((places & stay) | ((places & advance) << 1))
            if not places:
                return False
        return bool(places >> self._length & 1)

    def _skipped(self, places: int) -> int:
        for start, end in self._skip:
            if places >> start & 1:
                places |= 1 << end
        return places

    def __str__(self) -> str:
        return self.text


def _possible(component: str) -> bool:
    """Whether a component of a name could fit."""
    reached = {""}
    for symbol in component:
        may = "a._-" if symbol in "*?" else symbol if symbol in "._-" else "a"
        for _ in range(3 if symbol == "*" else 1):  # three lead everywhere: such as a, _, __
            after = {
                _GRAMMAR[last, one] for last in reached for one in may if (last, one) in _GRAMMAR
            }
            reached = reached | after if symbol == "*" else after
    return "a" in reached


def _compiled(text: str) -> Pattern:
    spelt = text
    while "**/**" in spelt:
        spelt = spelt.replace("**/**", "**")
    symbols = re.findall(r"\(|\*\*|.", spelt.replace("**", "(**"))
    # Under "": what a character that the pattern does not spell can do; a slash is always spelt.
    advance = dict.fromkeys({"", "/", *text}, 0)
    anything = no_slash = 0
    skip = []
    for place, symbol in enumerate(symbols):
        match symbol:
            case "(":  # before a **, which may stand for nothing: then without the slash beside it
                skip.append((place, place + 1))
                if place + 2 < len(symbols):
                    skip.append((place, place + 3))
                elif place:
                    skip.append((place - 1, place + 2))
            case "**":
                anything |= 1 << place
                skip.append((place, place + 1))
            case "*":
                no_slash |= 1 << place
                skip.append((place, place + 1))
            case "?":
                for character in advance.keys() - {"/"}:
                    advance[character] |= 1 << place
            case _:
                advance[symbol] |= 1 << place
    begins = re.split(r"/?\*\*|[*?]", text, maxsplit=1)[0]
    ends = re.split(r"\*\*/?|[*?]", text)[-1]
    return Pattern(
        *(text, advance, (anything, no_slash), tuple(sorted(skip)), len(symbols), begins, ends)
    )
