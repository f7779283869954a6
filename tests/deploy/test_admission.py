"""Which moves of tags make a revision, and which revisions make room for it."""

from __future__ import annotations

from registry.deploy.journal import Journal
from registry.deploy.rollout import (
    Faulty,
    Phase,
)
from tests.deploy.rows import (
    DOMAIN,
    HELLO,
    A,
    B,
    admit,
    bring_live,
    checked,
    details,
    move,
    phases,
)


async def test_the_first_move_makes_an_app_and_its_first_revision(journal: Journal) -> None:
    revision = await admit(journal, 1, A)
    app = await journal.app(HELLO)
    assert app is not None
    assert (app.repository, app.host, app.name, app.live) == (
        HELLO,
        "hello.demo.apps.example",
        None,
        None,
    )
    assert (revision.app, revision.number, revision.digest, revision.phase) == (
        app.id,
        1,
        A,
        Phase.RECEIVED,
    )
    assert (await details(journal)) == [f"tag latest was moved to {A}"]


async def test_admitting_advances_the_cursor(journal: Journal) -> None:
    await admit(journal, 7, A)
    assert await journal.cursor() == 7


async def test_a_move_is_admitted_once(journal: Journal) -> None:
    await admit(journal, 1, A)
    await admit(journal, 2, B)
    assert await journal.admit(move(1, A), DOMAIN) is None
    assert await journal.admit(move(2, B), DOMAIN) is None
    assert [number for number, _ in await phases(journal)] == [2, 1]


async def test_a_move_that_was_admitted_brings_no_forgotten_app_back(journal: Journal) -> None:
    await admit(journal, 1, A)
    await journal.forget(HELLO)
    assert await journal.admit(move(1, A), DOMAIN) is None
    assert await journal.app(HELLO) is None


async def test_a_move_older_than_one_admitted_for_the_app_never_starts(journal: Journal) -> None:
    await admit(journal, 5, A)
    await journal.database.write(
        lambda connection: connection.execute("UPDATE deploy_cursor SET generation = 0")
    )
    assert await journal.admit(move(4, B), DOMAIN) is None
    assert "a later move was admitted before" in (await details(journal))[0]


async def test_skipping_advances_the_cursor_and_makes_no_app(journal: Journal) -> None:
    await journal.skip(move(3, A), "no application")
    assert await journal.cursor() == 3
    assert await journal.apps() == []


async def test_skipping_tells_the_app_that_is_there(journal: Journal) -> None:
    await admit(journal, 1, A)
    await journal.skip(move(2, None), "tag latest was deleted")
    assert (await details(journal))[0] == "tag latest was deleted"


async def test_skipping_never_moves_the_cursor_back(journal: Journal) -> None:
    await journal.skip(move(3, A))
    await journal.skip(move(2, A))
    assert await journal.cursor() == 3


async def test_a_newer_revision_supersedes_what_is_not_yet_live(journal: Journal) -> None:
    await checked(journal, await admit(journal, 1, A))
    await admit(journal, 2, B)
    assert await phases(journal) == [(2, "received"), (1, "superseded")]


async def test_a_superseded_revision_says_by_which(journal: Journal) -> None:
    first = await admit(journal, 1, A)
    await admit(journal, 2, B)
    found = await journal.revision(first.app, 1)
    assert found is not None
    assert found.reason == "revision 2 was admitted before this one was live"


async def test_a_newer_revision_leaves_what_is_live(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    await admit(journal, 2, B)
    assert await phases(journal) == [(2, "received"), (1, "live")]


async def test_the_same_digest_again_is_told_and_nothing_else(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    assert await journal.admit(move(2, A, tag="v1"), DOMAIN) is None
    assert await phases(journal) == [(1, "live")]
    assert (await details(journal))[0] == (
        "tag v1 was pushed with the same digest again: nothing to do"
    )


async def test_the_same_digest_again_while_it_is_on_its_way_is_nothing_new(
    journal: Journal,
) -> None:
    await admit(journal, 1, A)
    assert await journal.admit(move(2, A), DOMAIN) is None


async def test_pushing_a_digest_that_failed_tries_again(journal: Journal) -> None:
    await journal.advance(await admit(journal, 1, A), Faulty("no"))
    await admit(journal, 2, A)
    assert await phases(journal) == [(2, "received"), (1, "failed")]


async def test_tagging_an_older_digest_makes_a_revision_of_it(journal: Journal) -> None:
    await bring_live(journal, 1, A)
    await bring_live(journal, 2, B)
    assert (await admit(journal, 3, A)).number == 3
