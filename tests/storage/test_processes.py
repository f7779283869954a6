"""Several processes on one data directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from storage.digest import SHA256
from storage.errors import UploadOffset, UploadUnknown
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from tests.storage.content import image, pull, push, stream
from tests.storage.other import Other


@pytest.fixture
async def blobs(layout: Layout) -> AsyncIterator[FilesystemBlobs]:
    store = FilesystemBlobs(layout)
    yield store
    await store.close()


@pytest.fixture
async def repository(database: SQLite, blobs: FilesystemBlobs) -> Repository:
    store = await Store.open(database, blobs)
    return store.repository(RepositoryName.parse("acme/shop"))


@pytest.fixture
def other(layout: Layout) -> Iterator[Other]:
    with Other(layout.root) as process:
        yield process


async def test_an_upload_goes_on_in_another_process_and_back(
    repository: Repository, other: Other
) -> None:
    session = await repository.start_upload()
    await session.append(stream(b"here "))
    assert other.do("append", session.id, "there ") == 11
    assert await session.append(stream(b"here"), at=11) == 15
    digest = SHA256.digest(b"here there here")
    assert other.do("commit", session.id, str(digest)) == 15
    assert await pull(await repository.blob(digest)) == b"here there here"
    with pytest.raises(UploadUnknown):
        await session.commit(digest)


async def test_one_process_at_a_time_writes_an_upload(repository: Repository, other: Other) -> None:
    session = await repository.start_upload()
    other.tell("stall", session.id, "theirs")
    assert other.answer() == "holding"
    with pytest.raises(UploadOffset):
        await session.append(stream(b"ours"))
    with pytest.raises(UploadOffset):
        await session.commit(SHA256.digest(b""))
    other.tell("go on")
    assert other.answer() == 6
    await session.append(stream(b" and ours"), at=6)
    await session.commit(SHA256.digest(b"theirs and ours"))


async def test_the_other_process_is_kept_out_too(repository: Repository, other: Other) -> None:
    session = await repository.start_upload()

    async def asking() -> AsyncIterator[bytes]:
        assert other.do("append", session.id, "x") == ["busy", 0]
        yield b"ours"

    await session.append(asking())
    assert other.do("append", session.id, "x") == 5


async def test_a_process_that_is_killed_lets_go_of_its_upload(
    repository: Repository, other: Other
) -> None:
    session = await repository.start_upload()
    await session.append(stream(b"kept"))
    other.tell("stall", session.id, "")
    assert other.answer() == "holding"
    other.kill()
    assert (await repository.upload(session.id)).size == 4
    await session.append(stream(b" whole"), at=4)
    await session.commit(SHA256.digest(b"kept whole"))


async def test_what_one_process_pushed_the_other_pulls(
    repository: Repository, other: Other
) -> None:
    digest = await push(repository, b"seen by both")
    assert other.do("pull", str(digest)) == "seen by both"
    await repository.delete_blob(digest)
    assert other.do("pull", str(digest)) == "BlobUnknown"


async def test_tags_moved_by_two_processes_at_once_end_where_the_last_move_says(
    repository: Repository, database: SQLite, blobs: FilesystemBlobs, other: Other
) -> None:
    other.tell("tag often", "theirs", 40, "latest")
    for number in range(40):
        await repository.put_manifest(image(f"ours {number}"), [Tag("latest")])
    assert other.answer() == 40
    store = Store(database, blobs)
    moves = await store.moves(after=0, limit=100)
    assert [move.generation for move in moves] == list(range(1, 81))
    assert (await repository.manifest(Tag("latest"))).digest == moves[-1].digest


def test_processes_that_start_together_make_one_data_directory(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from tests.storage import other;"
        "sys.stdin.close; asyncio.run(other.main(Path(sys.argv[1])))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "data")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(6)
    ]
    assert [process.communicate()[0] for process in processes] == [b'"ready"\n'] * 6
