"""Dies at the n-th step of a backup, of pruning, a restore, an export and an import, for every n.

As `tests.storage.crash` does. Run as a program: prints one line a death, and their number last.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from storage.backup import backup, prune, verify
from storage.digest import SHA256
from storage.errors import LayoutRefused, Unknown
from storage.export import export
from storage.filesystem.backups import Backups
from storage.filesystem.imagelayout import make_target, open_source
from storage.filesystem.layout import Layout
from storage.importing import bring_in
from storage.names import Tag
from storage.records.sqlite import SQLite
from storage.restore import restore
from tests.storage.content import descriptor, empty, image, pull, push, tags
from tests.storage.crash import Steps, forked, opened

OLD, NEW = b"an old blob", b"a new blob"
OF_NEW = image("new", layers=[descriptor(SHA256.digest(NEW), len(NEW))])
Tell = Callable[[str], None]


class Scene:
    """A store, its backups, and where they are restored."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.backups = root / "backups"
        self.restored = root / "restored"
        self.saved = root / "saved"
        self.layout = root / "layout"
        self.archive = root / "layout.tar"

    async def set(self) -> None:
        """One snapshot of an old blob; then it goes, and a new one comes."""
        store, repository = await opened(self.data)
        await push(repository, OLD)
        await backup(store, Backups.make(self.backups))
        shutil.copytree(self.backups, self.saved)
        await repository.delete_blob(SHA256.digest(OLD))
        await push(repository, NEW)
        await push(repository, b"{}")
        await repository.put_manifest(OF_NEW, tags("new"))
        await store.close()

    def reset(self) -> None:
        """Back to the first snapshot; the directories of blobs are left, for there are many."""
        for path in self.backups.glob("blobs/*/??/*"):
            path.unlink()
        for path in (*self.backups.glob("snapshots/*"), *self.backups.glob("drafts/*")):
            shutil.rmtree(path)
        for path in self.saved.glob("blobs/*/??/*"):
            shutil.copy(path, self.backups / path.relative_to(self.saved))
        for path in self.saved.glob("snapshots/*"):
            shutil.copytree(path, self.backups / path.relative_to(self.saved))


async def first(scene: Scene, tell: Tell) -> None:
    Backups.make(scene.backups)
    tell("made")


async def further(scene: Scene, tell: Tell) -> None:
    store, _ = await opened(scene.data)
    backups = Backups.make(scene.backups)
    await backup(store, backups, link=True)
    tell("linked")
    await prune(backups, 1)
    tell("pruned")
    await store.close()


async def restores(scene: Scene, tell: Tell) -> None:
    await restore(Backups.open(scene.backups), scene.restored, open_records=SQLite.open)
    tell("restored")


async def exports(scene: Scene, tell: Tell) -> None:
    store, repository = await opened(scene.data)
    for path in (scene.layout, scene.archive):
        await export(store, repository.name, None, make_target(path))
        tell(path.name)
    await store.close()


async def imports(scene: Scene, tell: Tell) -> None:
    store, repository = await opened(scene.restored)
    source = open_source(scene.layout)
    done = await bring_in(repository, source)
    assert [str(tag) for tag, _ in done.tags] == ["new"]
    tell("imported")
    await store.close()


async def check_exported(scene: Scene, told: list[str]) -> list[str]:
    """What is there is whole; what is half has another name."""
    wrong = []
    for path in (scene.layout, scene.archive):
        if path.exists():
            source = open_source(path)
            for digest in (SHA256.digest(NEW), OF_NEW.digest):
                with source.blob(digest) as piece:
                    data = b"" if piece is None else piece.read(0, piece.size)
                    if SHA256.digest(data) != digest:
                        wrong.append(f"{path.name} is not whole")
            with source.file("index.json") as piece:
                if piece is None or b'"new"' not in piece.read(0, piece.size):
                    wrong.append(f"{path.name} has no index")
            source.close()
        elif path.name in told:
            wrong.append(f"{path.name} is lost")
        else:
            store, repository = await opened(scene.data)
            await export(store, repository.name, None, make_target(path))
            await store.close()
    return wrong


async def check_imported(scene: Scene, told: list[str]) -> list[str]:
    """The tag is there with everything, or not; and it can be done again."""
    store, repository = await opened(scene.restored)
    wrong = []
    try:
        await repository.manifest(Tag("new"))
    except Unknown:
        if told:
            wrong.append("the tag is lost")
        await store.close()
        await imports(scene, lambda _: None)
        store, repository = await opened(scene.restored)
    if (await repository.manifest(Tag("new"))).body != OF_NEW.body:
        wrong.append("the manifest is another one")
    if await pull(await repository.blob(SHA256.digest(NEW))) != NEW:
        wrong.append("the blob has other bytes")
    await store.close()
    return wrong


async def check_backups(scene: Scene, told: list[str]) -> list[str]:
    """What is shown is whole, what was told is shown, and all can be done again."""
    backups = Backups.make(scene.backups)
    wrong = (await verify(backups)).wrong
    newest = [backups.snapshot(id).blobs for id in backups.ids()][-1:]
    if "linked" in told and newest != [2]:
        wrong.append(f"the newest snapshot has {newest} blobs")
    if "pruned" in told and len(backups.ids()) != 1:
        wrong.append("older snapshots are there again")
    store, _ = await opened(scene.data)
    snapshot, _ = await backup(store, backups)
    await prune(backups, 1)
    await store.close()
    wrong += (await verify(backups)).wrong
    if backups.ids() != [snapshot.id] or os.listdir(scene.backups / "drafts"):
        wrong.append("something is left behind")
    left = {path.name for path in scene.backups.glob("blobs/*/??/*")}
    if left != {SHA256.digest(data).encoded for data in (NEW, b"{}")} or snapshot.lost:
        wrong.append(f"the blobs are {left}, and {snapshot.lost} are lost")
    return wrong


async def check_restored(scene: Scene, told: list[str]) -> list[str]:
    """It can be opened only when it is whole, and can be done again otherwise."""
    root, wrong = scene.restored, []
    if (root / "restore.json").exists():
        try:
            Layout.open(root)
            wrong.append("what is not whole can be opened")
        except LayoutRefused:
            pass
    if not (root / "layout.json").exists():
        if told:
            wrong.append("it was told to be there, and is not")
        await restores(scene, lambda _: None)
    store, repository = await opened(root)
    if await pull(await repository.blob(SHA256.digest(NEW))) != NEW:
        wrong.append("the blob has other bytes")
    if (await repository.manifest(Tag("new"))).body != OF_NEW.body:
        wrong.append("the manifest is another one")
    await store.close()
    return wrong


def main(name: str, root: Path) -> None:
    scene = Scene(root)
    scenario, check = {
        "first": (first, check_backups),
        "further": (further, check_backups),
        "restores": (restores, check_restored),
        "exports": (exports, check_exported),
        "imports": (imports, check_imported),
    }[name]

    async def set_scene(_: int) -> None:
        await scene.set()
        match name:
            case "restores":
                await further(scene, lambda _: None)
            case "imports":
                await exports(scene, lambda _: None)
                Layout.open(scene.restored)

    assert forked(set_scene)[0] == 0
    for step in itertools.count(1):
        match name:
            case "first":
                shutil.rmtree(scene.backups, ignore_errors=True)
            case "further":
                scene.reset()
            case "exports":
                shutil.rmtree(scene.layout, ignore_errors=True)
                scene.archive.unlink(missing_ok=True)
            case "imports":
                empty(scene.restored)
            case _:
                if scene.restored.exists():
                    empty(scene.restored)
                    for path in scene.restored.glob("*.json*"):
                        path.unlink()

        async def die(pipe: int, step: int = step) -> None:
            Steps(step).watch()
            await scenario(scene, lambda word: os.write(pipe, f"{word}\n".encode()))  # type: ignore[arg-type,func-returns-value]

        status, told = forked(die)
        if status == 0:
            print(step - 1)
            return
        assert status == -signal.SIGKILL, status

        async def look(pipe: int, told: list[str] = told) -> None:
            for sentence in await check(scene, told):
                os.write(pipe, f"{sentence}\n".encode())

        status, wrong = forked(look)
        outcome = wrong or ["fine"] if status == 0 else [f"exit {status}"]
        print(f"{name} before step {step}", *outcome, sep=": ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
