"""Retention at work: tags go by rules, while others push.

What goes is decided on one state of a repository's tags (storage.retention). Each removal is then a
part of a short transaction that asks again: a tag that was moved since, that something has come to
need, or whose subject has come, stays. So the outcome is one that the rules give for some order of
what happened at the same time. A removal is a move of the tag like any deletion, and what the tag
kept is left to the collector.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from storage.collect import PAGE
from storage.digest import Digest
from storage.freed import Freed, freed
from storage.names import RepositoryName, Tag
from storage.records import statements
from storage.records.database import Connection
from storage.records.statements import text, whole
from storage.retention import Decision, Rule, Scope, Tagged, about, decide, fitting
from storage.store import Store

EVERYTHING: Final = 3600.0  # seconds between two looks at what nobody touched, for what grew old
STEPS: Final = 1_000_000  # rows looked for in a preview: some seconds, for a person who waits


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of the tags of one repository."""

    name: RepositoryName
    decisions: Sequence[Decision]
    freed: Freed
    """What becomes garbage when the tags that go are gone, if manifests go that nothing keeps."""

    @property
    def going(self) -> list[Decision]:
        return [decision for decision in self.decisions if not decision.stays]


class Retainer:
    """Keeps to the rules for the tags of one store; several, in any process, do no harm.

    `scopes` are those of the immutable tags, which never go.
    """

    def __init__(self, store: Store, rules: Sequence[Rule], scopes: Sequence[Scope] = ()) -> None:
        self._store = store
        self._rules = tuple(rules)
        self._scopes = tuple(scopes)
        self._seen = 0  # generation: repositories without a later move were looked at
        self._looked = float("-inf")

    async def cycle(self) -> AsyncIterator[tuple[RepositoryName, Decision]]:
        """Remove the tags that are due, and tell of each when it is gone.

        Looks at the repositories where tags moved since the last cycle, and now and then at all.
        """
        if not any(rule.removes for rule in self._rules):
            return
        now = self._store.now()
        everything = not 0 <= now - self._looked < EVERYTHING
        seen = await self._store.newest_move()
        after = None if everything else self._seen
        for id, name in await self._store.database.scan(lambda c: list(self._moved(c, after))):
            async for decision in self._retain(id, name):
                yield name, decision
        self._seen = seen
        if everything:
            self._looked = now

    async def retain(self, name: RepositoryName) -> AsyncIterator[Decision]:
        """The same for one repository. Raises RepositoryUnknown."""
        id = await self._store.database.read(lambda c: statements.find(c, name))
        async for decision in self._retain(id, name):
            yield decision

    async def preview(self, name: RepositoryName | None = None) -> list[Judged]:
        """What becomes of every tag of the repositories that rules fit; nothing is changed.

        Of one repository: also if no rule fits it. Raises RepositoryUnknown.
        """
        if name is None:
            found = await self._store.database.scan(lambda c: list(self._moved(c, None)))
        else:
            found = [(await self._store.database.read(lambda c: statements.find(c, name)), name)]

        def judge(id: int, name: RepositoryName, c: Connection) -> Judged:
            decisions = self._decide(c, id, name)
            going = [decision.tagged for decision in decisions if not decision.stays]
            return Judged(
                name,
                decisions,
                freed(
                    c,
                    id,
                    dict.fromkeys(tagged.digest.text for tagged in going),
                    manifests=True,
                    leaving={tagged.tag.text for tagged in going},
                    steps=STEPS,
                ),
            )

        return [await self._store.database.scan(partial(judge, id, name)) for id, name in found]

    def _moved(self, c: Connection, after: int | None) -> Iterator[tuple[int, RepositoryName]]:
        """The repositories that rules fit, where a tag was moved after a generation, or is at all.

        The moves go back to the beginning of the store, so they are not read for all.
        """
        found = c.all(_TAGGED) if after is None else c.all(_MOVED, after)
        for id, name in found:
            parsed = RepositoryName.parse(text(name))
            if any(rule.removes for rule in fitting(self._rules, parsed)):
                yield whole(id), parsed

    def _decide(self, c: Connection, id: int, name: RepositoryName) -> list[Decision]:
        held = {
            Digest.parse(text(digest)): f"{text(holder)} needs it: {text(reason)}"
            for digest, holder, reason in c.all(
                "SELECT digest, holder, reason FROM holds WHERE repository_name = ?"
                " ORDER BY holder DESC",
                name.text,
            )
        }
        return decide(
            self._rules,
            name,
            _tags(c, id),
            self._store.now(),
            held=held,
            scopes=self._scopes,
            grace=self._store.grace,
        )

    async def _retain(self, id: int, name: RepositoryName) -> AsyncIterator[Decision]:
        decisions = await self._store.database.scan(lambda c: self._decide(c, id, name))
        due = [decision for decision in decisions if not decision.stays]
        for start in range(0, len(due), PAGE):
            page = due[start : start + PAGE]
            gone = await self._store.database.write(partial(self._remove, page, id, name))
            for decision in gone:
                yield decision

    def _remove(
        self, page: Sequence[Decision], id: int, name: RepositoryName, c: Connection
    ) -> list[Decision]:
        def removed(tagged: Tagged) -> bool:
            if _held(c, name, tagged.digest) or _follows(c, id, tagged.tag):
                return False
            now, generation = self._store.now(), tagged.generation
            return statements.delete_tag(c, id, tagged.tag, now, generation=generation) is not None

        return [decision for decision in page if removed(decision.tagged)]


def _tags(c: Connection, id: int) -> Iterator[Tagged]:
    for name, digest, generation, at in c.all(
        "SELECT name, tags.digest, tags.generation, at FROM tags"
        " JOIN tag_moves ON tag_moves.generation = tags.generation WHERE tags.repository = ?",
        id,
    ):
        tag = Tag.parse(text(name))
        yield Tagged(
            tag,
            Digest.parse(text(digest)),
            whole(generation),
            float(at or 0),
            _follows(c, id, tag),
        )


def _follows(c: Connection, id: int, tag: Tag) -> bool | None:
    """Whether the subject of a tag about a digest is here; None: it is no such tag."""
    subject = about(tag)
    if subject is None:
        return None
    begins = ":".join(subject)
    row = c.one(
        "SELECT 1 FROM manifests WHERE repository = ? AND digest >= ? AND digest < ? LIMIT 1",
        *(id, begins, f"{begins}g"),  # g comes after every digit; a sha512 goes on
    )
    return row is not None


def _held(c: Connection, name: RepositoryName, digest: Digest) -> bool:
    row = c.one(
        "SELECT 1 FROM holds WHERE repository_name = ? AND digest = ? LIMIT 1",
        *(name.text, digest.text),
    )
    return row is not None


_TAGGED: Final = (
    "SELECT id, name FROM repositories WHERE EXISTS (SELECT 1 FROM tags WHERE repository = id)"
    " ORDER BY repositories.name"
)
_MOVED: Final = (
    "SELECT id, name FROM repositories WHERE id IN"
    " (SELECT repository FROM tag_moves WHERE generation > ?) ORDER BY name"
)
