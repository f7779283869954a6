"""Which tags stay and which go, by rules; and which may not move. Pure.

A rule looks at the tags of the repositories it names (of all of them, unless it has `tags`). A tag
goes when a rule looks at it that says what to keep, and no rule keeps it:

- Every rule that fits a repository counts, in whatever order. A tag stays if any of them keeps it,
  so one more rule never takes away what another one keeps, and a repository that no rule fits
  keeps everything. A narrow rule that is to keep less than a wide one needs the wide one's
  `except_repositories`. (So do Harbor and Google's registry. zot takes the first rule that fits,
  which makes the order of a file decide what is deleted.)
- `keep_last` counts by the last move, which a push of the same content is too. What is kept by its
  name anyway (`keep_tags`, `protect`, an immutable tag) does not take one of the places.
- A rule of nothing but `protect` or `untagged` makes nothing go.
- A tag stays while something holds what it points to, such as a revision that runs; and an
  immutable tag always does.
- A tag about a digest, such as `sha256-<hex>` of the referrers tag schema or cosign's
  `sha256-<hex>.sig`, follows its subject: it stays while that is in the repository, and takes none
  of the places of `keep_last`. It never is immutable, since to add a signature is to move it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storage.digest import Digest
from storage.names import RepositoryName, Tag
from storage.patterns import Pattern

DAY: Final = 24 * 3600.0  # seconds

# 64 digits also for sha512: the schema cuts the digest there.
_ABOUT = re.compile(r"(sha(?:256|512))-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which tags of which repositories something is said about."""

    repositories: tuple[Pattern, ...]
    except_repositories: tuple[Pattern, ...] = ()
    tags: tuple[Pattern, ...] = (Pattern.tag("*"),)
    except_tags: tuple[Pattern, ...] = ()

    def has(self, name: RepositoryName) -> bool:
        return _any(self.repositories, name.text) and not _any(self.except_repositories, name.text)

    def covers(self, tag: Tag) -> bool:
        """Whether it is about a tag, in the repositories that it has."""
        return _any(self.tags, tag.text) and not _any(self.except_tags, tag.text)


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[retention]]`."""

    scope: Scope
    keep_last: int | None = None
    """How many tags, the last moved ones."""
    keep_younger: float | None = None
    """Seconds since the last move."""
    keep_tags: tuple[Pattern, ...] = ()
    protect: tuple[Pattern, ...] = ()
    """Kept in all repositories that the scope has, whatever its tags; and by itself no reason for
    another tag to go."""
    untagged: float | None = None
    """Seconds until a manifest goes that nothing keeps; inf: never, None: as it is elsewhere."""

    @property
    def removes(self) -> bool:
        """Whether a tag that it looks at and does not keep goes."""
        return (self.keep_last, self.keep_younger, self.keep_tags) != (None, None, ())


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag as it is now."""

    tag: Tag
    digest: Digest
    generation: int
    """Of its last move; a later move has a higher one."""
    moved: float
    """When that was, in seconds since 1970."""
    follows: bool | None = None
    """Whether the subject of a tag about a digest is here; None for other tags."""


@dataclass(frozen=True, slots=True)
class Decision:
    tagged: Tagged
    stays: bool
    reason: str
    """To be read after "stays: " or "goes: "."""


def immutable(scopes: Sequence[Scope], name: RepositoryName, tag: Tag) -> bool:
    """Whether a tag may not move once it is there, nor be deleted."""
    return about(tag) is None and any(scope.has(name) and scope.covers(tag) for scope in scopes)


def about(tag: Tag) -> tuple[str, str] | None:
    """What the digest of a tag's subject begins with: algorithm and 64 digits. None: no subject."""
    found = _ABOUT.fullmatch(tag.text)
    return (found[1], found[2]) if found else None


def fitting(rules: Iterable[Rule], name: RepositoryName) -> list[Rule]:
    return [rule for rule in rules if rule.scope.has(name)]


def untagged(rules: Iterable[Rule], name: RepositoryName, otherwise: float) -> float:
    """Seconds until a manifest goes that nothing keeps, the longest that is said; inf: never."""
    said = [rule.untagged for rule in fitting(rules, name) if rule.untagged is not None]
    return max(said, default=otherwise)


def decide(
    rules: Iterable[Rule],
    name: RepositoryName,
    tags: Iterable[Tagged],
    now: float,
    *,
    held: Mapping[Digest, str],
    scopes: Sequence[Scope] = (),
    grace: float = 0.0,
) -> list[Decision]:
    """What becomes of every tag of a repository, the last moved one first.

    `held` tells who needs what; `scopes` are those of the immutable tags. A tag about a digest that
    is not here may have come before it, and stays for `grace` seconds.
    """
    rules = fitting(rules, name)
    scopes = [scope for scope in scopes if scope.has(name)]
    newest = sorted(tags, key=lambda tagged: tagged.generation, reverse=True)
    named = {
        tagged.tag: reason
        for tagged in newest
        if (reason := _by_name(rules, scopes, name, tagged.tag))
    }
    kept: dict[Tag, str] = {}
    lost: dict[Tag, list[Rule]] = {}
    for rule in rules:
        seen = [tagged for tagged in newest if rule.removes and rule.scope.covers(tagged.tag)]
        counted = [one for one in seen if one.follows is None and one.tag not in named]
        for tagged in counted[: rule.keep_last or 0]:
            kept[tagged.tag] = f"one of the {rule.keep_last} moved last"
        for tagged in seen:
            age = now - tagged.moved
            if rule.keep_younger is not None and age < rule.keep_younger:
                kept[tagged.tag] = f"moved {span(age)} ago, less than {span(rule.keep_younger)}"
            elif tagged.follows is not None and age < grace:
                kept[tagged.tag] = "what it is about may still come"
            lost.setdefault(tagged.tag, []).append(rule)

    def decided(tagged: Tagged) -> Decision:
        tag = tagged.tag
        reason = named.get(tag) or held.get(tagged.digest)
        if reason is None and tagged.follows:
            reason = "what it is about is here"
        reason = reason or kept.get(tag)
        if reason is None and tag in lost:
            age = now - tagged.moved
            return Decision(
                tagged, False, "; ".join(_nothing_kept(rule, tagged, age) for rule in lost[tag])
            )
        return Decision(tagged, True, reason or "no rule looks at it")

    return [decided(tagged) for tagged in newest]


def span(seconds: float) -> str:
    """Whole units, rounded down."""
    for size, unit in ((DAY, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} s"


def _by_name(
    rules: Iterable[Rule], scopes: Sequence[Scope], name: RepositoryName, tag: Tag
) -> str | None:
    if immutable(scopes, name, tag):
        return "immutable"
    for rule in rules:
        if found := _first(rule.protect, tag.text):
            return f"protected by {found}"
        if rule.scope.covers(tag) and (found := _first(rule.keep_tags, tag.text)):
            return f"kept by {found}"
    return None


def _nothing_kept(rule: Rule, tagged: Tagged, age: float) -> str:
    """Why a rule does not keep a tag, where it does not."""
    reasons = [f"moved {span(age)} ago"]
    if tagged.follows is not None:
        reasons.append("what it is about is not here")
    elif rule.keep_last is not None:
        reasons.append(f"not one of the {rule.keep_last} moved last")
    if rule.keep_younger is not None:
        reasons.append(f"not within {span(rule.keep_younger)}")
    if rule.keep_tags:
        reasons.append(f"not named {' or '.join(map(str, rule.keep_tags))}")
    return ", ".join(reasons)


def _first(patterns: Iterable[Pattern], name: str) -> Pattern | None:
    return next((pattern for pattern in patterns if pattern.fits(name)), None)


def _any(patterns: Iterable[Pattern], name: str) -> bool:
    return _first(patterns, name) is not None
