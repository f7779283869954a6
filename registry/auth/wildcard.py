"""Texts with stars, as conditions on what an issuer says of a workload. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A text in which * stands for any characters, also none; all else for itself."""

    text: str

    def fits(self, value: str) -> bool:
        begin, *parts = self.text.split("*")
        if not parts:
            return value == begin
        *middle, end = parts
        if not (value.startswith(begin) and value.endswith(end)):
            return False
        at, stop = len(begin), len(value) - len(end)
        for part in middle:  # the first place will do: what follows a * can only gain by it
            if (found := value.find(part, at, stop)) < 0:
                return False
            at = found + len(part)
        return at <= stop
