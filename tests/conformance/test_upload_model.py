"""The upload protocol against a model of it: what is in no table of cases, hypothesis tries.

Any sequence of requests, right and wrong, leaves the registry and `upload_model` in agreement on
every status, on what is kept and on what can be pulled.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conformance.upload_model import ALGORITHMS, REPOSITORIES, Model, Session

repositories = st.sampled_from(REPOSITORIES)
algorithms = st.sampled_from(ALGORITHMS)
# Few and short, so that different sessions often come to the same blob.
contents = st.sampled_from([b"", b"a", b"b", b"ab", b"abab", b"b" * 70_000])
pieces = st.sampled_from([b"a", b"b", b"ab", b"b" * 70_000])
places = st.sampled_from(["right", "right", "before", "behind", "none", "none"])
lengths = st.sampled_from(["right", "right", "right", "shorter", "longer"])
wrongs = st.sampled_from(
    [
        "sha256:" + "0" * 64,
        "sha512:" + "0" * 128,
        "sha256:" + "A" * 64,
        "sha256:short",
        "md5:" + "0" * 32,
        "nonsense",
        "",
    ]
)


class Uploads(RuleBasedStateMachine):
    def __init__(self, data: Path) -> None:
        super().__init__()
        self.model = Model(data)

    def teardown(self) -> None:
        self.model.close()

    # Few rules, each of many kinds: hypothesis leaves out some of the rules of every example.

    @initialize()
    def begin(self) -> None:
        for name in REPOSITORIES:
            self.model.start(name, "")

    def picked(self, which: int) -> Session:
        """Mostly one that is open: of those that are not, there is little to say."""
        among = [session for session in self.model.every if session.open] if which % 8 else []
        return (among or self.model.every)[which // 8 % len(among or self.model.every)]

    @precondition(lambda self: sum(session.open for session in self.model.every) < 4)
    @rule(
        kind=st.sampled_from(["start", "start", "at once", "mount", "mount", "digest", "hint"]),
        repository=repositories,
        source=st.sampled_from([*REPOSITORIES, "acme/none", "NO NAME", None]),
        hint=st.sampled_from(["", *ALGORITHMS]),
        odd=st.sampled_from(["md5", "SHA256", "sha256 "]),
        wrong=wrongs,
        data=contents,
        algorithm=algorithms,
        chunked=st.booleans(),
    )
    def post(
        self,
        kind: str,
        repository: str,
        source: str | None,
        hint: str,
        odd: str,
        wrong: str,
        data: bytes,
        algorithm: str,
        chunked: bool,
    ) -> None:
        self.model.registry.chunked = chunked
        match kind:
            case "start":
                self.model.start(repository, hint)
            case "at once":
                self.model.push_at_once(repository, data, algorithm)
            case "mount":
                self.model.mount(repository, source, data, algorithm)
            case "digest":
                self.model.push_at_once_under_a_wrong_digest(repository, data or b"a", wrong)
            case _:
                self.model.start_with_an_algorithm_that_is_not_kept(repository, odd)

    @rule(
        kind=st.sampled_from(["append", "append", "append", "append", "vanish", "broken"]),
        which=st.integers(0, 63),
        data=pieces,
        place=places,
        length=lengths,
        broken=st.sampled_from(["", "1", "2-1", "bytes 0-0/1", "0-0/1", "a-b"]),
        at=st.integers(0, 2),
        chunked=st.booleans(),
    )
    def patch(
        self,
        kind: str,
        which: int,
        data: bytes,
        place: str,
        length: str,
        broken: str,
        at: int,
        chunked: bool,
    ) -> None:
        self.model.registry.chunked = chunked
        match kind:
            case "append":
                self.model.append(self.picked(which), data, place, length)
            case "vanish":
                self.model.vanish_while_appending(self.picked(which), data, at)
            case _:
                self.model.append_with_a_broken_content_range(self.picked(which), broken)

    @rule(
        kind=st.sampled_from(["finish", "finish", "finish", "wrong", "wrong", "vanish", "none"]),
        which=st.integers(0, 63),
        data=contents,
        place=places,
        length=lengths,
        at=st.integers(0, 2),
        algorithm=algorithms,
        wrong=wrongs,
        chunked=st.booleans(),
    )
    def put(
        self,
        kind: str,
        which: int,
        data: bytes,
        place: str,
        length: str,
        at: int,
        algorithm: str,
        wrong: str,
        chunked: bool,
    ) -> None:
        self.model.registry.chunked = chunked
        placed = place == "right"
        match kind:
            case "finish":
                self.model.finish(self.picked(which), data, place, length, algorithm)
            case "wrong":
                self.model.finish_under_a_wrong_digest(self.picked(which), data, wrong, placed)
            case "vanish":
                self.model.vanish_while_finishing(self.picked(which), data or b"ab", at, placed)
            case _:
                self.model.finish_without_a_digest(self.picked(which))

    @rule(
        kind=st.sampled_from(["status", "cancel", "reach"]),
        which=st.integers(0, 63),
        query=st.sampled_from(["", "?digest=sha256:" + "0" * 64, "?x=y"]),
        method=st.sampled_from(["GET", "PATCH", "PUT", "DELETE"]),
    )
    def look(self, kind: str, which: int, query: str, method: str) -> None:
        match kind:
            case "status":
                self.model.status(self.picked(which), query)
            case "cancel":
                self.model.cancel(self.picked(which))
            case _:
                self.model.reach_for_it_from_another_repository(self.picked(which), method)

    @rule(delete=st.booleans(), repository=repositories, data=contents, algorithm=algorithms)
    def blob(self, delete: bool, repository: str, data: bytes, algorithm: str) -> None:
        (self.model.delete_blob if delete else self.model.pull)(repository, data, algorithm)

    @invariant()
    def every_session_is_where_the_model_has_it(self) -> None:
        self.model.every_session_is_where_the_model_has_it()

    @invariant()
    def every_blob_can_be_pulled_and_no_other(self) -> None:
        self.model.every_blob_can_be_pulled_and_no_other()


def test_any_sequence_of_requests_leaves_model_and_registry_in_agreement(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = tmp_path_factory.mktemp("uploads") / "data"

    class Here(Uploads):
        def __init__(self) -> None:
            super().__init__(data)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
