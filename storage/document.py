"""JSON objects as every reader must see them alike.

Python's json takes the last of two equal keys, NaN and lone surrogates; Go's, in most clients,
also takes `Layers` for `layers`. Bytes on which two readers could disagree are refused here, so
that what was checked is what everybody else sees (CVE-2021-41190 was such a disagreement).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn, TypeAlias

from storage.errors import ManifestInvalid

Object: TypeAlias = dict[str, Any]


def parse_object(data: bytes, *, what: str) -> Object:
    """One JSON object in UTF-8 and nothing else. `what` names it in the errors.

    Raises ManifestInvalid with the rule that was broken.
    """

    def refuse(rule: str) -> NoReturn:
        raise ManifestInvalid(f"{what} {rule}")

    def unique(pairs: list[tuple[str, Any]]) -> Object:
        result = dict(pairs)
        if len(result) != len(pairs):
            refuse("has the same key twice in one object; readers would disagree on which counts")
        return result

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(f"is not UTF-8 (byte {error.start})")
    if text.startswith("\ufeff"):
        refuse("begins with a byte order mark; leave it out")
    try:
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=lambda name: refuse(f"contains {name}, which is not JSON"),
        )
        halved = "\\u" in text and _has_lone_surrogate(value)  # may run out one level earlier
    except RecursionError:  # the C scanner counts; a thousand levels, before the stack is in danger
        refuse("is nested too deep")
    except ValueError as error:  # also an integer of more than 4300 digits
        refuse(f"is not JSON: {error}")
    if not isinstance(value, dict):
        refuse("is not a JSON object")
    if halved:
        refuse("contains half of a surrogate pair, which is not text")
    return value


def refuse_twins(value: Object, keys: Iterable[str], where: str) -> None:
    """No key of `value` may equal one of `keys` in everything but case. Raises ManifestInvalid."""
    folded = {key.casefold(): key for key in keys}
    for key in value:
        meant = folded.get(key.casefold(), key)
        if meant != key:
            raise ManifestInvalid(
                f"{where} has a key {key!r}, which some readers take for {meant!r}"
            )


def _has_lone_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
