"""A second process on the same data directory: does what it is told on its standard input.

One command a line, as JSON; one answer a line. `Other` is its hand in the test.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storage.digest import Digest
from storage.errors import UploadOffset
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName
from storage.records.sqlite import SQLite
from storage.repository import Repository
from storage.store import Store
from storage.uploads import UploadSession
from tests.storage.content import image, pull, stream, tags


class Other:
    """Used in a `with`; killed at its end."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.other", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.answer() == "ready"

    def tell(self, *command: str | int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def do(self, *command: str | int) -> Any:
        self.tell(*command)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


def say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def main(root: Path) -> None:
    layout = Layout.open(root)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    repository = store.repository(RepositoryName.parse("acme/shop"))
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            say(await obey(repository, *json.loads(line)))
        except UploadOffset as busy:
            say(["busy", busy.size])
        except Exception as error:
            say(type(error).__name__)


async def obey(repository: Repository, verb: str, *words: Any) -> Any:
    match verb:
        case "append":
            id, text = words
            return await (await repository.upload(id)).append(stream(text.encode()))
        case "stall":
            id, text = words
            return await stall(await repository.upload(id), text.encode())
        case "commit":
            id, digest = words
            return await (await repository.upload(id)).commit(Digest.parse(digest))
        case "pull":
            (digest,) = words
            return (await pull(await repository.blob(Digest.parse(digest)))).decode()
        case "tag":
            note, *names = words
            return await repository.put_manifest(image(note), tags(*names))
        case "tag often":
            note, times, name = words
            for number in range(times):
                await repository.put_manifest(image(f"{note} {number}"), tags(name))
            return times
        case _:
            raise LookupError(verb)


async def stall(session: UploadSession, data: bytes) -> int:
    """Append, and hold the upload until the next line comes; tell when that has begun."""

    async def pieces() -> AsyncIterator[bytes]:
        yield data
        say("holding")
        await asyncio.to_thread(sys.stdin.readline)

    return await session.append(pieces())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
