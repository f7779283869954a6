"""Inputs that nobody would send, a million of them: `scripts/fuzz`.

Each is a mutation of something right. Whatever it is, it must be taken or refused in the words of
this registry: no other exception, no 5xx, no more than LIMIT of CPU time, and no file anywhere but
in the data directory. One seed gives the same inputs again, but for the ids of upload sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from registry import pagination, ranges, v2
from registry.errors import (
    ContentRangeInvalid,
    PathUnknown,
    QueryInvalid,
    RangesTooMany,
    RangeUnsatisfiable,
    render,
)
from registry.exchange import Exchange, Registry
from storage.digest import Digest
from storage.errors import DigestInvalid, DigestMismatch, ManifestInvalid, NameInvalid, TagInvalid
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag, parse_reference
from tests.fuzzing.corpus import (
    CONTENT_RANGES,
    CONTENT_TYPES,
    DIGESTS,
    NAMES,
    PATHS,
    QUERIES,
    RANGES,
    TAGS,
    Mutator,
    manifest,
)
from tests.fuzzing.requests import Requests

LIMIT: Final = 0.1  # seconds of CPU for one input
FAILURES: Final = 10  # as many are told; more would be the same again
KEYS: Final = {"schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "subject"}


@dataclass
class Outcome:
    """What became of the inputs of one kind."""

    name: str
    taken: int = 0
    refused: int = 0
    seconds: float = 0
    slowest: float = 0
    """Seconds of CPU of the input that took most, which `culprit` shows."""
    culprit: str = ""
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = self.taken + self.refused
        return (
            f"{self.name:10} {count:9,} inputs  {self.taken:8,} taken  {self.refused:8,} refused"
            f"  {count / max(self.seconds, 1e-9):9,.0f}/s"
            f"  slowest {self.slowest * 1000:6.1f} ms of CPU: {self.culprit}"
        )


@dataclass(frozen=True)
class Kind:
    """One kind of input. `check` says whether it was taken, and raises when it found a defect."""

    name: str
    share: int
    """Of a hundred inputs."""
    make: Callable[[Mutator], Any]
    check: Callable[[Any], bool]


def refused(error: Exception) -> bool:
    """False, for `check` to return, if the error has an answer that blames the client."""
    status, _, body = render(error, "/v2/")
    assert 400 <= status < 500, f"{error!r} would be answered with {status}"
    assert json.loads(body)["errors"]
    return False


def check_path(raw: bytes) -> bool:
    try:
        path = v2.decode(raw)
        methods, name, last = v2.resolve(path)
    except PathUnknown as error:
        return refused(error)
    assert methods
    assert name in path
    assert "/" not in last
    return True


def check_name(text: str) -> bool:
    """As every word of the grammar: at most one of tag and digest, and never changed by it."""
    found = 0
    parsers: list[tuple[Callable[[str], object], type[Exception]]] = [
        (RepositoryName.parse, NameInvalid),
        (Tag.parse, TagInvalid),
        (Digest.parse, DigestInvalid),
    ]
    for parse, declared in parsers:
        try:
            assert str(parse(text)) == text
            found += 1
        except declared as error:
            refused(error)
    try:
        parse_reference(text)
    except (TagInvalid, DigestInvalid) as error:
        refused(error)
    return found > 0


def check_range(asked: tuple[str, int]) -> bool:
    header, size = asked
    taken = False
    try:
        spans = ranges.parse(header, size)
        for span in spans or ():
            assert 0 <= span.start < span.end <= size
        assert sum(span.length for span in spans or ()) <= size
        taken = spans is not ranges.WHOLE
    except (RangesTooMany, RangeUnsatisfiable) as error:
        refused(error)
    try:
        chunk = ranges.parse_chunk(header)
        assert 0 <= chunk.start < chunk.end
        taken = True
    except ContentRangeInvalid as error:
        refused(error)
    return taken


def check_manifest(asked: tuple[bytes, str | None]) -> bool:
    body, content_type = asked
    try:
        found = Manifest.parse(body, content_type=content_type)
    except (ManifestInvalid, DigestMismatch) as error:
        return refused(error)
    assert found.body == body
    content = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    json.dumps(content, ensure_ascii=False).encode("utf-8")
    lower = {key.lower(): key for key in KEYS}
    assert all(lower.get(key.lower(), key) == key for key in content)
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def check_query(raw: bytes) -> bool:
    async def never(*_: object) -> Any:
        raise AssertionError("a query is read without the client")

    nothing: Any = None
    scope = {"method": "GET", "headers": [], "query_string": raw}
    exchange = Exchange(scope, never, never, Registry(nothing, lambda: None, 0, None, 100))
    try:
        last = exchange.query("last")
        page = pagination.parse(exchange.query("n"), last, most=100)
        exchange.queries("tag")
    except QueryInvalid as error:
        return refused(error)
    assert 0 <= page.limit <= 100
    target = pagination.link("/v2/_catalog", {"n": page.limit, "last": last or ""}).decode()
    query = target.removeprefix("</v2/_catalog?").removesuffix('>; rel="next"')
    assert ("last", last or "") in parse_qsl(query, keep_blank_values=True)
    return True


KINDS: Final = (
    Kind("paths", 25, lambda m: m.octets(PATHS), check_path),
    Kind("names", 25, lambda m: m.text(NAMES + TAGS + DIGESTS), check_name),
    Kind(
        "ranges",
        20,
        lambda m: (m.text(RANGES + CONTENT_RANGES), m.random.choice((0, 1, 100, 1 << 40))),
        check_range,
    ),
    Kind("manifests", 15, lambda m: (manifest(m), m.text(CONTENT_TYPES) or None), check_manifest),
    Kind("queries", 10, lambda m: m.octets(QUERIES), check_query),
)
REQUESTS: Final = 5  # of a hundred inputs


def fuzz(kind: Kind, count: int, seed: int) -> Outcome:
    """Try `count` inputs of a kind."""
    mutator = Mutator(random.Random(f"{seed} {kind.name}"))
    outcome = Outcome(kind.name)
    began = time.perf_counter()
    for _ in range(count):
        asked = kind.make(mutator)
        spent = _try(kind, asked, outcome)
        if spent > LIMIT:  # a collection of garbage is nobody's fault: once more
            again = _try(kind, asked, Outcome(kind.name))
            if again > LIMIT:
                outcome.failures.append(f"{kind.name}: {spent:.3f} s and {again:.3f} s: {asked!r}")
            spent = min(spent, again)
        if spent > outcome.slowest:
            outcome.slowest, outcome.culprit = spent, _short(asked)
        if len(outcome.failures) >= FAILURES:
            break
    outcome.seconds = time.perf_counter() - began
    return outcome


def _try(kind: Kind, asked: Any, outcome: Outcome) -> float:
    """Seconds of CPU that it took, in all threads."""
    before = time.process_time()
    try:
        taken = kind.check(asked)
    except Exception as error:  # one that is not declared is what is looked for
        outcome.failures.append(f"{kind.name}: {type(error).__name__}: {error}\n    {asked!r}")
        taken = False
    spent = time.process_time() - before
    if taken:
        outcome.taken += 1
    else:
        outcome.refused += 1
    return spent


def _short(asked: Any) -> str:
    text = repr(asked)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text):,} characters)"


def run(count: int, seed: int, scratch: Path) -> Iterator[Outcome]:
    """Try about `count` inputs of all kinds; `scratch` is an empty directory."""
    here, data = scratch / "here", scratch / "a" / "b" / "data"
    for directory in (here, data.parent):
        directory.mkdir(parents=True)
    with ExitStack() as open_until_the_end:
        open_until_the_end.enter_context(chdir(here))
        for kind in KINDS:
            yield fuzz(kind, count * kind.share // 100, seed)
        requests = open_until_the_end.enter_context(_registry(data))
        kind = Kind("requests", REQUESTS, requests.make, requests.check)
        outcome = fuzz(kind, count * kind.share // 100, seed)
        outcome.failures += [f"a file outside of the data: {path}" for path in strays(scratch)]
        yield outcome


@contextmanager
def _registry(data: Path) -> Iterator[Requests]:
    with asyncio.Runner() as runner:
        requests = Requests(runner)
        runner.run(requests.open(data))
        try:
            yield requests
        finally:
            runner.run(requests.close())


def strays(scratch: Path) -> Sequence[Path]:
    """Files below `scratch` that are not where the data directory keeps its own."""
    data = scratch / "a" / "b" / "data"
    return [
        path
        for path in scratch.rglob("*")
        if not path.is_dir()
        and not _expected(path.relative_to(data).parts if path.is_relative_to(data) else ())
    ]


def _expected(parts: tuple[str, ...]) -> bool:
    match parts:
        case ("layout.json",) | ("records.db" | "records.db-wal" | "records.db-shm",):
            return True
        case ("blobs", "sha256" | "sha512" as algorithm, fan, encoded):
            length = {"sha256": 64, "sha512": 128}[algorithm]
            return fan == encoded[:2] and len(encoded) == length and _is_hex(encoded)
        case ("uploads", key):
            return len(key) == 64 and _is_hex(key)
    return False


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdef")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    arguments.add_argument("--count", type=int, default=1_000_000, help="inputs in all")
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args()
    failures: list[str] = []
    inputs, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for outcome in run(asked.count, asked.seed, Path(scratch)):
            print(outcome, flush=True)
            failures += outcome.failures
            inputs += outcome.taken + outcome.refused
    seconds = time.perf_counter() - began
    print(f"{inputs:,} inputs in {seconds:.0f} s: {inputs / seconds:,.0f}/s, seed {asked.seed}")
    for failure in failures:
        print(f"FAILED {failure[:4000]}")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
