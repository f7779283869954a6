"""The rows of deployment, on a real database."""

from __future__ import annotations

import pytest

from registry.deploy import ledger
from registry.deploy.apps import Settings
from registry.deploy.journal import Journal, Outdated
from registry.deploy.rollout import (
    Accepted,
    Died,
    Drained,
    Faulty,
    Impossible,
    Phase,
    Proven,
)
from storage.digest import SHA256
from storage.names import RepositoryName
from tests.deploy.rows import (
    DOMAIN,
    HELLO,
    A,
    B,
    C,
    admit,
    bring_live,
    checked,
    details,
    holds,
    move,
    phases,
)


async def test_every_step_tells_an_event(journal: Journal) -> None:
    revision = await checked(journal, await admit(journal, 1, A))
    await journal.advance(revision, Proven(), "healthy")
    events = await journal.events(revision.app)
    assert [event.phase.value for event in events if event.phase] == [
        *("live", "checking", "starting", "staged", "validated", "received")
    ]
    assert events[0].detail == "healthy"
    assert all(event.revision == 1 for event in events)


async def test_becoming_live_is_one_step_for_the_app_and_both_revisions(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    await bring_live(journal, 2, B)
    app = await journal.app(HELLO)
    assert app is not None
    assert (app.live, app.previous) == (2, 1)
    assert await phases(journal) == [(2, "live"), (1, "draining")]


async def test_what_is_live_and_what_was_before_are_held(journal: Journal) -> None:
    for generation, digest in enumerate((A, B, C), 1):
        await bring_live(journal, generation, digest)
    assert {row[1]: (row[0], row[2], row[3]) for row in await holds(journal)} == {
        str(C): ("demo/hello", "app demo/hello", "revision 3 is live"),
        str(B): (
            "demo/hello",
            "app demo/hello",
            "revision 2 was live before, to go back to",
        ),
    }


async def test_one_digest_is_held_once(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    await journal.configure(HELLO, Settings.parse({"a": "1"}), DOMAIN)
    app = await journal.app(HELLO)
    assert app is not None
    again = await journal.redeploy(app.id)
    assert again is not None
    await journal.advance(await checked(journal, again), Proven())
    assert [(row[1], row[3]) for row in await holds(journal)] == [(str(A), "revision 2 is live")]


async def test_a_failure_keeps_its_reason(journal: Journal) -> None:
    revision = await journal.advance(await admit(journal, 1, A), Faulty("no good; try again"))
    assert (revision.phase, revision.reason) == (Phase.FAILED, "no good; try again")
    assert (await details(journal))[0] == "no good; try again"


async def test_a_step_on_an_outdated_copy_does_nothing(journal: Journal) -> None:
    first = await admit(journal, 1, A)
    await admit(journal, 2, B)
    with pytest.raises(Outdated):
        await journal.advance(first, Accepted("hello"))
    assert await phases(journal) == [(2, "received"), (1, "superseded")]


async def test_an_impossible_step_is_an_error(journal: Journal) -> None:
    with pytest.raises(Impossible):
        await journal.advance(await admit(journal, 1, A), Proven())


async def test_the_first_name_that_was_validated_is_kept(journal: Journal) -> None:
    await checked(journal, await admit(journal, 1, A), "first")
    await checked(journal, await admit(journal, 2, B), "second")
    app = await journal.app(HELLO)
    assert app is not None
    assert app.name == "first"


async def test_a_live_revision_that_died_stays_live_and_tells(journal: Journal) -> None:
    live = await bring_live(journal, 1, A)
    assert (await journal.advance(live, Died("gone"), "gone; again")).phase is Phase.LIVE
    assert (await details(journal))[0] == "gone; again"


async def test_a_drained_revision_is_retired(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    new = await bring_live(journal, 2, B)
    draining = await journal.revision(new.app, 1)
    assert draining is not None
    await journal.advance(draining, Drained())
    assert await phases(journal) == [(2, "live"), (1, "retired")]
    assert [each.number for each in await journal.unfinished(new.app)] == [2]


async def test_settings_can_come_before_the_first_push(journal: Journal) -> None:
    app = await journal.configure(HELLO, Settings.parse({"a": "1"}), DOMAIN)
    assert dict(app.settings.variables) == {"a": "1"}
    assert (await admit(journal, 1, A)).settings_version == app.settings_version


async def test_a_change_of_settings_makes_the_app_stale_until_it_is_redeployed(
    journal: Journal,
) -> None:
    revision = await admit(journal, 1, A)
    await journal.configure(HELLO, Settings.parse({"a": "1"}), DOMAIN)
    assert [each.stale for each in await journal.standings()] == [True]
    again = await journal.redeploy(revision.app)
    assert again is not None
    assert (again.number, again.digest) == (2, A)
    assert (await journal.events(revision.app))[0].detail == "settings changed"
    assert [each.stale for each in await journal.standings()] == [False]


async def test_the_same_settings_again_change_nothing(journal: Journal) -> None:
    await admit(journal, 1, A)
    for _ in range(2):
        await journal.configure(HELLO, Settings.parse({"a": "1"}), DOMAIN)
    app = await journal.app(HELLO)
    assert app is not None
    assert app.settings_version == 1


async def test_nothing_is_redeployed_without_a_change(journal: Journal) -> None:
    revision = await admit(journal, 1, A)
    assert await journal.redeploy(revision.app) is None


async def test_a_change_of_settings_is_told_without_the_values(journal: Journal) -> None:
    await journal.configure(HELLO, Settings.parse({"password": "hunter2"}, "/up"), DOMAIN)
    assert (await details(journal)) == ["changed: password, the health path"]


async def test_what_is_live_keeps_the_settings_it_was_proven_with(journal: Journal) -> None:
    await journal.configure(HELLO, Settings.parse({"a": "1"}), DOMAIN)
    live = await bring_live(journal, 1, A)
    for value in ("2", "3"):
        await journal.configure(HELLO, Settings.parse({"a": value}), DOMAIN)
    settings = await journal.settings(live.app, live.settings_version)
    assert dict(settings.variables) == {"a": "1"}


async def test_settings_that_nothing_can_start_with_are_forgotten(journal: Journal) -> None:
    """They may be secrets."""
    for value in ("1", "2", "3"):
        app = await journal.configure(HELLO, Settings.parse({"a": value}), DOMAIN)
    rows = await journal.database.read(
        lambda connection: connection.all("SELECT version FROM app_settings")
    )
    assert rows == [(app.settings_version,)]


async def test_forgetting_an_app_leaves_nothing_of_it(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    assert await journal.forget(HELLO)
    assert await journal.app(HELLO) is None
    assert await holds(journal) == []
    for table in ("apps", "app_settings", "revisions", "events"):
        rows = await journal.database.read(
            lambda connection, table=table: connection.all(f"SELECT 1 FROM {table}")  # type: ignore[misc]  # lambda defaults have no types
        )
        assert rows == []


async def test_forgetting_what_is_not_there_says_so(journal: Journal) -> None:
    assert not await journal.forget(HELLO)


async def test_a_forgotten_app_comes_back_as_another_one(journal: Journal) -> None:
    first = await admit(journal, 1, A)
    await journal.forget(HELLO)
    second = await admit(journal, 2, A)
    assert first.app != second.app
    assert second.number == 1


async def test_a_step_of_a_forgotten_app_is_outdated(journal: Journal) -> None:
    revision = await admit(journal, 1, A)
    await journal.forget(HELLO)
    with pytest.raises(Outdated):
        await journal.advance(revision, Accepted("hello"))


async def test_another_domain_gives_every_app_its_new_host(journal: Journal) -> None:
    await admit(journal, 1, A)
    await journal.rehost("other.example")
    app = await journal.app(HELLO)
    assert app is not None
    assert app.host == "hello.demo.other.example"


async def test_old_events_are_dropped(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "EVENTS_KEPT", 3)
    await checked(journal, await admit(journal, 1, A))
    assert len(await details(journal)) == 3


async def test_of_a_long_reason_the_beginning_and_the_end_are_kept(journal: Journal) -> None:
    """Applications and their output have a hand in it, and there are many events."""
    reason = "first" + 100_000 * "x" + "\0last"
    failed = await journal.advance(await admit(journal, 1, A), Faulty(reason))
    for kept in (failed.reason, (await details(journal))[0]):
        assert kept.startswith("firstxxx")
        assert kept.endswith("xxx\N{REPLACEMENT CHARACTER}last")
        assert len(kept) < ledger.DETAIL_LENGTH + 10


async def test_old_revisions_are_dropped_but_not_what_runs_or_ran_before(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "REVISIONS_KEPT", 2)
    await bring_live(journal, 1, A)
    second = await bring_live(journal, 2, B)
    draining = await journal.revision(second.app, 1)
    assert draining is not None
    await journal.advance(draining, Drained())
    for generation in range(3, 8):
        digest = SHA256.digest(str(generation).encode())
        await journal.advance(await admit(journal, generation, digest), Faulty("no"))
    assert [number for number, _ in await phases(journal)] == [7, 6, 2, 1]


async def test_apps_are_listed_by_repository(journal: Journal) -> None:
    for generation, name in enumerate(("b/b", "a/z", "a/b"), 1):
        await journal.admit(move(generation, A, repository=RepositoryName.parse(name)), DOMAIN)
    assert [str(app.repository) for app in await journal.apps()] == ["a/b", "a/z", "b/b"]


async def test_pages_of_revisions_and_events_are_newest_first(journal: Journal) -> None:
    for generation, digest in enumerate((A, B, C), 1):
        revision = await admit(journal, generation, digest)
    assert [each.number for each in await journal.revisions(revision.app, limit=2)] == [3, 2]
    events = await journal.events(revision.app, limit=2)
    assert [(event.revision, event.phase) for event in events] == [
        (3, Phase.RECEIVED),
        (2, Phase.SUPERSEDED),
    ]
