"""The directory of a revision: everything that a runtime needs, verified, and whole or not there.

    <apps>/<app id>/log                 what the guest said
    <apps>/<app id>/<revision>/
        spin.lock                       the locked app, with file URLs for sources
        wasm/<hex>.wasm
        assets/<component index>/<path>

It is written under another name and renamed, so the name itself says that it is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from registry.deploy import archive
from registry.deploy.apps import Revision
from registry.deploy.locked import Component, Content, LockedApp
from registry.deploy.refusal import REBUILD, NotRunnable
from registry.deploy.spin import ARCHIVE
from storage.digest import SHA256, Digest
from storage.errors import Damaged
from storage.filesystem import durable
from storage.manifest import Manifest
from storage.repository import Repository
from storage.threads import Threads

STAGED_LIMIT: Final = 1 << 30  # bytes of one revision; one layer may be the content of many files
WASM: Final = "application/wasm"
_SYNC_EACH: Final = 64  # files; with more, one sync of everything costs less than one for each


@dataclass(slots=True)
class Plan:
    """Where every content goes, as paths below the revision's directory."""

    layers: dict[Digest, list[str]] = field(default_factory=dict)
    archived: dict[str, list[str]] = field(default_factory=dict)
    """By SHA-256 in hex: files that are only in an archive."""
    inline: dict[str, bytes] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    """All of them; components may share a source."""
    total: int = 0
    """Bytes of all that is not in archives."""

    @staticmethod
    def of(app: LockedApp, manifest: Manifest) -> Plan:
        """Raises NotRunnable."""
        plan = Plan()
        sizes = {layer.digest: layer.size for layer in manifest.layers}
        for index, component in enumerate(app.components):
            for content in (component.source, *component.dependencies.values()):
                plan._put(content, wasm_path(content), sizes)
            for file in component.files:
                plan._put(file.content, f"assets/{index}/{file.path}", sizes)
        plan.total = sum(map(len, plan.inline.values()))
        plan.total += sum(sizes[digest] * len(paths) for digest, paths in plan.layers.items())
        check_total(plan.total)
        return plan

    def _put(self, content: Content, path: str, sizes: Mapping[Digest | None, int]) -> None:
        if path in self.paths:
            return
        self.paths.add(path)
        digest = content.digest
        if content.inline is not None:
            self.inline[path] = content.inline
        elif digest is not None and digest in sizes:
            self.layers.setdefault(digest, []).append(path)
        elif digest is not None and digest.algorithm == SHA256:
            self.archived.setdefault(digest.encoded, []).append(path)
        else:
            raise NotRunnable(f"{path} is {digest}, which nothing contains; {REBUILD}")


def check_total(total: int) -> None:
    """Raises NotRunnable."""
    if total > STAGED_LIMIT:
        raise NotRunnable(
            f"the application has {total} bytes unpacked, and the limit is {STAGED_LIMIT}; push"
            " fewer or smaller files"
        )


def wasm_path(content: Content) -> str:
    digest = content.digest or SHA256.digest(content.inline or b"")
    return f"wasm/{digest.encoded}.wasm"


class Staging:
    """The directories of all apps."""

    def __init__(self, directory: Path, threads: Threads) -> None:
        self._directory = Path(os.path.abspath(directory))
        self._threads = threads

    def directory(self, app: str, number: int) -> Path:
        return self._directory / app / str(number)

    def lock(self, app: str, number: int) -> Path:
        return self.directory(app, number) / "spin.lock"

    def log(self, app: str) -> Path:
        return self._directory / app / "log"

    async def ready(self, app: str, number: int) -> bool:
        return await self._threads.run(self.directory(app, number).is_dir)

    async def stage(
        self, revision: Revision, app: LockedApp, manifest: Manifest, repository: Repository
    ) -> None:
        """Write the directory, unless it is there.

        Raises NotRunnable, storage errors when content is missing or damaged, and OSError.
        """
        final = self.directory(revision.app, revision.number)
        if await self.ready(revision.app, revision.number):
            return
        draft = _draft(final)
        plan = Plan.of(app, manifest)
        await self._threads.run(lambda: _begin(draft, plan))
        sizes = {layer.digest: layer.size for layer in manifest.layers}
        for digest, paths in plan.layers.items():
            first = draft / paths[0]
            await self._fetch(repository, digest, sizes[digest], first)
            copies = [draft / path for path in paths[1:]]
            if copies:
                await self._threads.run(partial(_copy, first, copies))
        await self._unpack(plan, manifest, repository, draft)
        await self._threads.run(
            lambda: _finish(draft, final, plan, _rewrite(app, final, revision.digest))
        )

    def wasm(self, app: str, number: int, locked: Mapping[str, Any]) -> dict[str, Path]:
        """The staged Wasm of every component, by the component's id."""
        directory = self.directory(app, number) / "wasm"
        return {
            component["id"]: directory / component["source"]["source"].rpartition("/")[2]
            for component in locked["components"]
        }

    async def locked(self, app: str, number: int) -> Mapping[str, Any]:
        """The staged locked app."""
        path = self.lock(app, number)

        def read() -> Mapping[str, Any]:
            found: Mapping[str, Any] = json.loads(path.read_bytes())
            return found

        return await self._threads.run(read)

    async def sweep(self, app: str, keep: Set[int]) -> None:
        """Remove the directories of all revisions but these, and drafts but theirs."""
        await self._threads.run(lambda: _sweep(self._directory / app, keep))

    async def remove(self, app: str) -> None:
        """Remove everything of an app."""
        await self._threads.run(lambda: remove_tree(self._directory / app))

    async def strangers(self, known: Set[str]) -> list[str]:
        """Apps that have a directory and are not known."""

        def look() -> list[str]:
            if not self._directory.is_dir():
                return []
            with os.scandir(self._directory) as entries:
                return [entry.name for entry in entries if entry.name not in known]

        return await self._threads.run(look)

    async def _fetch(self, repository: Repository, digest: Digest, size: int, path: Path) -> None:
        """Copy a blob, whose bytes are held against its digest once more."""
        blob = await repository.blob(digest)
        try:
            if blob.size != size:
                raise NotRunnable(
                    f"the layer {digest} has {blob.size} bytes, and the manifest says {size};"
                    f" {REBUILD}"
                )
            hasher = digest.algorithm.new()
            with path.open("xb", buffering=0) as file:

                def keep(piece: bytes) -> None:
                    hasher.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) :]

                async for piece in blob.chunks():
                    await self._threads.run(partial(keep, piece))
        finally:
            await blob.close()
        if hasher.hexdigest() != digest.encoded:
            raise Damaged(f"the bytes of {digest} on the disk are damaged; push it again")

    async def _unpack(
        self, plan: Plan, manifest: Manifest, repository: Repository, draft: Path
    ) -> None:
        """Find the files that are in archives only."""
        missing = set(plan.archived)
        total = plan.total
        for layer in manifest.layers:
            if layer.media_type != ARCHIVE or layer.digest is None or not missing:
                continue
            packed = draft / "archive"
            await self._fetch(repository, layer.digest, layer.size, packed)
            into = draft / "unpacked"
            found = await self._threads.run(
                partial(archive.unpack, packed, frozenset(missing), into)
            )
            packed.unlink()
            # After each one: many small archives unpack to as much as one large one.
            total += sum(size * len(plan.archived[name]) for name, size in found.items())
            check_total(total)
            missing -= found.keys()
        if missing:
            path = plan.archived[min(missing)][0].split("/", 2)[2]
            raise NotRunnable(
                f"the file {path!r} is sha256:{min(missing)}, which is neither a layer of the"
                f" manifest nor in one of its archives; {REBUILD}"
            )
        await self._threads.run(lambda: _place(plan, draft))


def _draft(final: Path) -> Path:
    return final.with_name(f".{final.name}.draft")


def _begin(draft: Path, plan: Plan) -> None:
    remove_tree(draft)
    (draft / "wasm").mkdir(parents=True)
    (draft / "unpacked").mkdir()
    for parent in {path.rpartition("/")[0] for path in plan.paths}:
        (draft / parent).mkdir(parents=True, exist_ok=True)


def _copy(source: Path, targets: Iterable[Path]) -> None:
    for target in targets:
        shutil.copyfile(source, target)


def _place(plan: Plan, draft: Path) -> None:
    for name, paths in plan.archived.items():
        source = draft / "unpacked" / name
        _copy(source, [draft / path for path in paths[1:]])
        source.rename(draft / paths[0])
    (draft / "unpacked").rmdir()


def _rewrite(app: LockedApp, final: Path, digest: Digest) -> bytes:
    """The locked app as a runtime takes it: file URLs for sources, and the digest in `info`."""
    document = app.document

    def source(content: Content) -> dict[str, str]:
        return {"content_type": WASM, "source": (final / wasm_path(content)).as_uri()}

    def rewritten(index: int, value: dict[str, Any], component: Component) -> dict[str, Any]:
        value = {**value, "source": source(component.source)}
        value.pop("files", None)
        if component.files:
            assets = (final / "assets" / str(index)).as_uri()
            value["files"] = [{"source": assets, "path": "/"}]
        if component.dependencies:
            value["dependencies"] = {
                name: {**value["dependencies"][name], "source": source(content)}
                for name, content in component.dependencies.items()
            }
        return value

    metadata = {**document["metadata"], "oci_image_digest": digest.text}
    metadata.pop("origin", None)
    components = [
        rewritten(index, value, component)
        for index, (value, component) in enumerate(
            zip(document["components"], app.components, strict=True)
        )
    ]
    return json.dumps({**document, "metadata": metadata, "components": components}).encode()


def _finish(draft: Path, final: Path, plan: Plan, lock: bytes) -> None:
    """Write what is small, make it lasting and give it its name."""
    for path, data in plan.inline.items():
        (draft / path).write_bytes(data)
    (draft / "spin.lock").write_bytes(lock)
    files: list[str] = []
    directories: list[str] = []
    for parent, _, names in os.walk(draft, topdown=False):
        directories.append(parent)
        files += [os.path.join(parent, name) for name in names]
    for path in files:
        os.chmod(path, 0o444)
    if len(files) > _SYNC_EACH:
        os.sync()
    else:
        for path in files:
            _sync_file(path)
        for path in directories:
            durable.sync_directory(path)
    for path in directories[:-1]:  # the last one is the draft itself, which is still to be removed
        os.chmod(path, 0o555)  # noqa: S103 - nobody is to write there, whoever runs the guest
    with durable.opened(str(final.parent)) as directory:
        durable.publish(str(draft), str(final), directory)


def _sync_file(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        durable.sync_file(file)
    finally:
        os.close(file)


def _sweep(directory: Path, keep: Set[int]) -> None:
    if not directory.is_dir():
        return
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        number = name.removeprefix(".").removesuffix(".draft")
        if number.isdecimal() and int(number) not in keep:
            draft = _draft(directory / number)
            if name == number:  # so that half a directory never has the name of a whole one
                remove_tree(draft)
                (directory / name).rename(draft)
            remove_tree(draft)


def remove_tree(path: Path) -> None:
    """Remove a staged directory, whose own directories are read-only; nothing if it is gone.

    What cannot be removed stays: somebody else's directory must not keep the apps from running.
    """
    for parent, names, _ in os.walk(path):
        for name in names:
            below = os.path.join(parent, name)
            if not os.path.islink(below):  # it would lead to somebody else's
                with contextlib.suppress(OSError):
                    os.chmod(below, 0o700)
    shutil.rmtree(path, ignore_errors=True)
