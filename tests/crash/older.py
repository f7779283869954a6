"""A data directory as the first release left it: the tables of step 1, filled by hand."""

from __future__ import annotations

from pathlib import Path

from storage.digest import SHA256
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.manifest import Manifest
from storage.records.database import Connection
from storage.records.schema import STEPS
from storage.records.sqlite import SQLite
from tests.asgi import descriptor, index
from tests.crash.journal import Kind, Request, Writer
from tests.crash.world import layered

NAME = "acme/old"
CONFIG = b"{}"
LAYERS = (b"a layer of the first release", b"another one")
LOOSE = b"a blob that nothing named in the first release"
BLOBS = (CONFIG, *LAYERS, LOOSE)
IMAGES = tuple(layered(f"old {number}", layer) for number, layer in enumerate(LAYERS))
INDEX = index(manifests=[*map(descriptor, IMAGES)])
REFERRER = layered("old referrer", subject=descriptor(INDEX))
MANIFESTS = {IMAGES[0]: ("old",), IMAGES[1]: (), INDEX: ("latest", "v1"), REFERRER: ()}


async def stocked(root: Path, journal: Writer) -> None:
    layout = Layout.open(root)
    blobs = FilesystemBlobs(layout)
    for number, data in enumerate(BLOBS):
        upload = await blobs.start_upload(f"{number:064x}", SHA256)
        await upload.hold()
        await upload.write(data)
        await upload.commit(SHA256.digest(data))
        await upload.close()
    await blobs.close()
    database = await SQLite.open(layout)
    await database.migrate("storage", STEPS[:1])
    await database.write(_fill)
    await database.close()
    for data in BLOBS:
        digest = str(SHA256.digest(data))
        number = journal.begin(Request(Kind.BLOB, NAME, digest, data.decode()))
        journal.end(number, done=True)
    for body, tags in MANIFESTS.items():
        manifest = Manifest.parse(body)
        subject = str(manifest.subject.digest) if manifest.subject else ""
        number = journal.begin(
            Request(
                *(Kind.MANIFEST, NAME, str(manifest.digest), body.decode()),
                media_type=manifest.media_type,
                tags=tags,
                subject=subject,
            )
        )
        journal.end(number, done=True)


def _fill(c: Connection) -> None:
    c.execute("INSERT INTO repositories (id, name) VALUES (1, ?)", NAME)
    for data in BLOBS:
        c.execute(
            "INSERT INTO links (repository, digest, size, created) VALUES (1, ?, ?, 0)",
            *(SHA256.digest(data).text, len(data)),
        )
    generation = 0
    for body, tags in MANIFESTS.items():
        manifest = Manifest.parse(body)
        c.execute(
            "INSERT INTO manifests (repository, digest, media_type, subject, artifact_type,"
            " annotations, size, created, body) VALUES (1, ?, ?, ?, NULL, '{}', ?, 0, ?)",
            manifest.digest.text,
            manifest.media_type,
            str(manifest.subject.digest) if manifest.subject else None,
            len(body),
            body,
        )
        for tag in tags:
            generation += 1
            c.execute(
                "INSERT INTO tags (repository, name, digest, generation) VALUES (1, ?, ?, ?)",
                *(tag, manifest.digest.text, generation),
            )
            c.execute(
                "INSERT INTO tag_moves (generation, repository, tag, digest, at)"
                " VALUES (?, 1, ?, ?, 0)",
                *(generation, tag, manifest.digest.text),
            )
    c.execute("UPDATE tag_clock SET generation = ?", generation)
