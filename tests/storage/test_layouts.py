"""Image layouts: what is written can be read again, and nobody's layout can do harm."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.blobs import PIECE, BlobStore
from storage.digest import SHA256, SHA512, Digest
from storage.errors import LayoutRefused, ManifestUnknown, RepositoryUnknown, Unknown
from storage.export import Exported, export
from storage.filesystem import tar
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.imagelayout import make_target, open_source
from storage.filesystem.layout import Layout
from storage.importing import INDEX_LIMIT, BroughtIn, bring_in
from storage.manifest import Manifest
from storage.names import RepositoryName, Tag
from storage.repository import Repository
from storage.store import Store
from tests import layouts
from tests.storage.content import descriptor, image, index, patient, pull, push, tags

DATA = b"some bytes"
DIGEST = SHA256.digest(DATA)
OTHER = b"other bytes"
CONFIG = b"{}"
WITH_DATA = image("with data", layers=[descriptor(DIGEST, len(DATA))])
WITH_OTHER = image("with other", layers=[descriptor(SHA512.digest(OTHER), len(OTHER))])


@pytest.fixture
async def blobs(layout: Layout) -> AsyncIterator[BlobStore]:
    found = FilesystemBlobs(layout)
    yield found
    await found.close()


@pytest.fixture(params=["layout", "layout.tar"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def other(store: Store) -> Repository:
    return store.repository(RepositoryName.parse("acme/other"))


def entry(manifest: Manifest) -> dict[str, Any]:
    return descriptor(manifest.digest, len(manifest.body), manifest.media_type)


async def write(
    store: Store, repository: Repository, path: Path, reference: Tag | Digest | None = None
) -> Exported:
    return await export(store, repository.name, reference, make_target(path))


async def read(repository: Repository, path: Path, **options: Any) -> BroughtIn:
    source = open_source(path)
    try:
        return await bring_in(repository, source, **options)
    finally:
        source.close()


async def all_tags(repository: Repository) -> dict[str, Digest]:
    try:
        found = await repository.tags(after=None, limit=100)
    except Unknown:
        return {}
    return {tag.text: (await repository.stat_manifest(tag)).digest for tag in found}


@pytest.fixture
async def filled(repository: Repository) -> list[Manifest]:
    """Two images, an index of them with two tags, a referrer, and a referrer's referrer."""
    for data in (DATA, CONFIG):
        await push(repository, data)
    await push(repository, OTHER, SHA512.digest(OTHER))
    both = index(entry(WITH_DATA), entry(WITH_OTHER))
    signature = image("signature", subject=entry(both), artifactType="a/signature")
    again = image("again", subject=entry(signature), artifactType="a/signature")
    for manifest in (WITH_DATA, WITH_OTHER):
        await repository.put_manifest(manifest)
    await repository.put_manifest(both, tags("latest", "v1"))
    await repository.put_manifest(signature)
    await repository.put_manifest(again)
    await repository.put_manifest(image("alone"))
    return [WITH_DATA, WITH_OTHER, both, signature, again]


async def test_what_is_exported_can_be_imported(
    store: Store, repository: Repository, other: Repository, filled: list[Manifest], path: Path
) -> None:
    done = await write(store, repository, path)
    assert (done.tags, done.manifests, done.blobs, done.lost, done.absent) == (2, 6, 3, [], [])
    brought = await read(other, path)
    assert (brought.refused, brought.absent, brought.manifests) == ([], [], 6)
    assert await all_tags(other) == await all_tags(repository)
    for manifest in (*filled, image("alone")):
        stored = await other.manifest(manifest.digest)
        assert (stored.body, stored.media_type) == (manifest.body, manifest.media_type)
    assert await pull(await other.blob(DIGEST)) == DATA
    assert await pull(await other.blob(SHA512.digest(OTHER))) == OTHER
    [referrer] = await other.referrers(filled[2].digest, artifact_type=None, after=None, limit=9)
    assert referrer.digest == filled[3].digest


async def test_a_large_blob_is_whole(
    store: Store, repository: Repository, other: Repository, path: Path
) -> None:
    data = os.urandom(2 * PIECE + 12345)
    digest = await push(repository, data)
    await push(repository, CONFIG)
    large = image("large", layers=[descriptor(digest, len(data))])
    await repository.put_manifest(large, tags("v1"))
    assert (await write(store, repository, path)).bytes == len(data) + len(CONFIG)
    # The store has the bytes already, which another one would not.
    await repository.delete_manifest(large.digest)
    await repository.delete_blob(digest)
    await store.blobs.remove(digest)
    assert (await read(other, path)).refused == []
    assert await pull(await other.blob(digest)) == data


async def test_a_manifest_of_a_type_of_its_own_stays_one(
    store: Store, repository: Repository, other: Repository, path: Path
) -> None:
    """With a tag, and as the child of an index, where it looks like a blob."""
    body = json.dumps({"mediaType": "application/vnd.acme.thing+json"}).encode()
    thing = Manifest.parse(body)
    around = index(entry(thing))
    await repository.put_manifest(thing)
    await repository.put_manifest(around, tags("around"))
    await write(store, repository, path)
    assert (await read(other, path)).refused == []
    stored = await other.manifest(thing.digest)
    assert (stored.body, stored.media_type) == (body, "application/vnd.acme.thing+json")
    assert await all_tags(other) == {"around": around.digest}


async def test_an_entry_that_is_no_manifest_is_refused(
    repository: Repository, made: layouts.Layout
) -> None:
    made.tag(made.blob(DATA, "application/octet-stream"), "v1")
    refused = (await read(repository, made.directory)).refused
    assert ["is not JSON" in sentence or "type" in sentence for sentence in refused] == [True]


async def test_one_tag_comes_with_all_that_belongs_to_it(
    store: Store, repository: Repository, other: Repository, filled: list[Manifest], path: Path
) -> None:
    done = await write(store, repository, path, Tag("v1"))
    assert (done.tags, done.manifests) == (1, 5)
    await read(other, path)
    assert await all_tags(other) == {"v1": filled[2].digest}
    await other.manifest(filled[4].digest)
    with pytest.raises(ManifestUnknown):
        await other.manifest(image("alone").digest)


@pytest.mark.usefixtures("filled")
async def test_a_digest_comes_without_a_tag(
    store: Store, repository: Repository, other: Repository, path: Path
) -> None:
    done = await write(store, repository, path, WITH_DATA.digest)
    assert (done.tags, done.manifests, done.blobs) == (0, 1, 2)
    await read(other, path)
    assert await all_tags(other) == {}
    await other.manifest(WITH_DATA.digest)


@pytest.mark.usefixtures("filled")
async def test_an_export_twice_is_the_same(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    await write(store, repository, tmp_path / "one.tar")
    await write(store, repository, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.usefixtures("filled")
async def test_tar_itself_reads_the_archive(
    store: Store, repository: Repository, tmp_path: Path
) -> None:
    """Names too long for the plain format among them."""
    await write(store, repository, tmp_path / "a.tar")
    await write(store, repository, tmp_path / "a")
    with tarfile.open(tmp_path / "a.tar") as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        for path in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
            file = found.pop(str(path.relative_to(tmp_path / "a")))
            assert file is not None
            assert file.read() == path.read_bytes()
    assert found == {}


async def test_what_is_not_there_is_told(
    store: Store, repository: Repository, filled: list[Manifest], tmp_path: Path
) -> None:
    with pytest.raises(ManifestUnknown):
        await write(store, repository, tmp_path / "a", Tag("none"))
    with pytest.raises(RepositoryUnknown):
        await export(store, RepositoryName("none"), None, make_target(tmp_path / "b.tar"))
    assert os.listdir(tmp_path) == []


async def test_nothing_is_written_over(
    store: Store, repository: Repository, filled: list[Manifest], path: Path
) -> None:
    await write(store, repository, path)
    with pytest.raises(LayoutRefused, match="there already"):
        await write(store, repository, path)


async def test_damage_is_told_and_the_rest_is_written(
    store: Store,
    repository: Repository,
    other: Repository,
    filled: list[Manifest],
    path: Path,
    layout: Layout,
) -> None:
    file = Path(layout.blob(DIGEST))
    file.chmod(0o600)
    file.write_bytes(DATA[::-1])
    Path(layout.blob(SHA256.digest(CONFIG))).unlink()
    done = await write(store, repository, path)
    assert {loss.digest for loss in done.lost} == {DIGEST, SHA256.digest(CONFIG)}
    source = open_source(path)
    with source.blob(DIGEST) as piece:
        assert piece is None
    with source.blob(SHA512.digest(OTHER)) as piece:
        assert piece is not None
        assert piece.read(0, 100) == OTHER
    source.close()


async def test_what_was_never_pushed_is_told(
    store: Store, repository: Repository, path: Path
) -> None:
    await repository.put_manifest(WITH_DATA, tags("sparse"))
    done = await write(store, repository, path)
    assert len(done.absent) == 2  # the config, too
    assert done.lost == []


async def test_an_import_moves_tags_as_a_push_does(
    store: Store, repository: Repository, other: Repository, filled: list[Manifest], path: Path
) -> None:
    """So that a deployer, which reads the moves, sees it."""
    await write(store, repository, path)
    before = await store.newest_move()
    await read(other, path)
    moves = await store.moves(after=before, limit=9)
    assert {(str(move.repository), str(move.tag), move.digest) for move in moves} == {
        ("acme/other", "latest", filled[2].digest),
        ("acme/other", "v1", filled[2].digest),
    }


async def test_importing_again_changes_nothing(
    store: Store, repository: Repository, other: Repository, filled: list[Manifest], path: Path
) -> None:
    await write(store, repository, path)
    await read(other, path)
    done = await read(other, path)
    assert (done.blobs, done.refused) == (0, [])
    assert await all_tags(other) == await all_tags(repository)


# Layouts of others


@pytest.fixture
def made(tmp_path: Path) -> layouts.Layout:
    return layouts.Layout(tmp_path / "made")


def annotate(made: layouts.Layout, name: str) -> None:
    """Give the only entry another reference name."""
    path = made.directory / "index.json"
    content = json.loads(path.read_text())
    content["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("v1", "v1"),
        ("docker.io/library/alpine:3.20", "3.20"),
        ("localhost:5000/a/b:c", "c"),
    ],
)
async def test_a_reference_name_is_a_tag(
    repository: Repository, made: layouts.Layout, name: str, tag: str
) -> None:
    made.tag(made.image(seed=1), "v1")
    annotate(made, name)
    assert (await read(repository, made.directory)).refused == []
    assert list(await all_tags(repository)) == [tag]


@pytest.mark.parametrize("name", ["a b", "../x", "a/b", "x" * 200, "localhost:5000/x"])
async def test_a_reference_name_that_is_no_tag_is_refused(
    repository: Repository, made: layouts.Layout, name: str
) -> None:
    made.tag(made.image(seed=1), "v1")
    annotate(made, name)
    [sentence] = (await read(repository, made.directory)).refused
    assert "ref.name" in sentence
    assert await all_tags(repository) == {}


async def test_a_list_of_referrers_is_no_tag(repository: Repository, made: layouts.Layout) -> None:
    """The registry answers from its own rows; what is listed is kept."""
    subject = made.image(seed=1)
    made.tag(subject, "v1")
    referrer = image("signature", subject=subject, layers=[])
    made.blob(CONFIG, "application/json")
    listed = made.blob(referrer.body, referrer.media_type)
    content = index(listed)
    made.tag(made.blob(content.body, content.media_type), subject["digest"].replace(":", "-"))
    assert (await read(repository, made.directory)).refused == []
    assert list(await all_tags(repository)) == ["v1"]
    found = await repository.referrers(
        Digest.parse(subject["digest"]), artifact_type=None, after=None, limit=9
    )
    assert [each.digest for each in found] == [referrer.digest]


async def test_platforms_that_a_layout_lacks_are_told(
    repository: Repository, made: layouts.Layout
) -> None:
    many = made.index(seed=1, images=3)
    made.tag(many, "v1")
    listed = json.loads(made.path(many["digest"]).read_bytes())["manifests"]
    made.path(listed[1]["digest"]).unlink()
    done = await read(repository, made.directory)
    assert done.refused == []
    assert [listed[1]["digest"] in sentence for sentence in done.absent] == [True]
    assert list(await all_tags(repository)) == ["v1"]


async def test_an_entry_is_taken_wholly_or_not_at_all(
    repository: Repository, made: layouts.Layout
) -> None:
    whole, broken = made.index(seed=1), made.index(seed=2)
    made.tag(broken, "broken")
    made.tag(whole, "whole")
    child = json.loads(made.path(broken["digest"]).read_bytes())["manifests"][1]
    layer = json.loads(made.path(child["digest"]).read_bytes())["layers"][1]["digest"]
    made.path(layer).unlink()
    refused = (await read(repository, made.directory)).refused
    assert ["broken" in sentence and layer in sentence for sentence in refused] == [True]
    assert list(await all_tags(repository)) == ["whole"]
    for digest in (broken["digest"], child["digest"]):
        with pytest.raises(ManifestUnknown):
            await repository.manifest(Digest.parse(digest))


def other_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("which", ["manifest", "layer"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_bytes, "digest"),
        (longer, "bytes, and not"),
        (link, "links"),
        (fifo, "not a regular file"),
        (directory, "not a regular file"),
    ],
)
async def test_a_blob_that_is_not_what_it_is_called_is_refused(
    repository: Repository,
    made: layouts.Layout,
    which: str,
    change: Callable[[Path], None],
    says: str,
) -> None:
    manifest = made.image(seed=1)
    made.tag(manifest, "v1")
    layer = json.loads(made.path(manifest["digest"]).read_bytes())["layers"][0]
    change(made.path((manifest if which == "manifest" else layer)["digest"]))
    try:
        [sentence] = (await read(repository, made.directory)).refused
    except LayoutRefused as error:
        sentence = str(error)
    assert says in sentence
    assert await all_tags(repository) == {}
    assert list(Path(repository._blobs._layout.uploads).iterdir()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["blobs", "blobs/sha256", "index.json", "oci-layout"])
async def test_no_link_in_a_layout_is_followed(
    repository: Repository, made: layouts.Layout, tmp_path: Path, place: str
) -> None:
    made.tag(made.image(seed=1), "v1")
    (made.directory / place).rename(tmp_path / "elsewhere")
    (made.directory / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutRefused, match="not a regular file"):
        await read(repository, made.directory)


@pytest.mark.parametrize(
    ("digest", "says"),
    [
        ("sha256:../../../../etc/passwd", "digest"),
        ("sha256:" + "A" * 64, "digest"),
        ("../..:" + "a" * 64, "digest"),
        ("sha256:" + "a" * 64 + "\n", "digest"),
    ],
)
async def test_a_digest_that_is_none_is_refused(
    repository: Repository, made: layouts.Layout, digest: str, says: str
) -> None:
    made.tag({**made.image(seed=1), "digest": digest}, "v1")
    with pytest.raises(LayoutRefused, match=says):
        await read(repository, made.directory)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("oci-layout", None, "there is no oci-layout"),
        ("index.json", None, "there is no index"),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', "version '2.0.0'"),
        ("oci-layout", b" " * 2000, "at most"),
        ("oci-layout", b"[]", "not a JSON object"),
        ("index.json", b'{"schemaVersion":2,"manifests":[],"manifests":[]}', "same key twice"),
        ("index.json", b'{"schemaVersion":2,"layers":[]}', "list of manifests"),
        ("index.json", b"[" * 100_000, "nested too deep"),
    ],
)
async def test_what_is_no_layout_is_refused(
    repository: Repository, made: layouts.Layout, file: str, content: bytes | None, says: str
) -> None:
    made.tag(made.image(seed=1), "v1")
    (made.directory / file).unlink()
    if content is not None:
        (made.directory / file).write_bytes(content)
    with pytest.raises(LayoutRefused, match=says):
        await read(repository, made.directory)


async def test_a_huge_index_is_not_read(repository: Repository, made: layouts.Layout) -> None:
    with (made.directory / "index.json").open("wb") as file:
        file.truncate(INDEX_LIMIT + 1)
    with pytest.raises(LayoutRefused, match="at most"):
        await read(repository, made.directory)


async def test_a_huge_manifest_is_not_read(repository: Repository, made: layouts.Layout) -> None:
    made.tag(made.image(seed=1), "v1")
    [sentence] = (await read(repository, made.directory, manifest_limit=100)).refused
    assert "at most 100" in sentence


async def test_a_layout_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LayoutRefused, match="cannot be read"):
        open_source(tmp_path / "none")
    with pytest.raises(LayoutRefused, match="neither a directory nor an archive"):
        open_source(Path("/dev/null"))


async def test_what_is_shared_by_many_is_looked_at_once(
    repository: Repository, made: layouts.Layout
) -> None:
    """A diamond of 40 levels has 2^40 paths."""
    below = made.image(seed=1, size=10)
    for level in range(40):
        content = index(below, {**below, "annotations": {"level": str(level)}})
        below = made.blob(content.body, content.media_type)
    made.tag(below, "v1")
    assert (await read(repository, made.directory)).manifests == 41


# Archives of others


def archive(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], **options: Any) -> None:
    with tarfile.open(path, "w", **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("before", ["", "./"])
async def test_archives_of_every_format_are_read(
    repository: Repository, made: layouts.Layout, tmp_path: Path, format: int, before: str
) -> None:
    made.tag(made.image(seed=1), "v1")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=format) as tar:
        tar.add(made.directory, before or "./", filter=lambda info: info)
    assert (await read(repository, path)).refused == []
    assert list(await all_tags(repository)) == ["v1"]


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (special("index.json", tarfile.SYMTYPE, "/etc/passwd"), "neither a file"),
        (special("blobs", tarfile.SYMTYPE, "/etc"), "neither a file"),
        (special("index.json", tarfile.LNKTYPE, "oci-layout"), "neither a file"),
        (special("null", tarfile.CHRTYPE), "neither a file"),
        (special("pipe", tarfile.FIFOTYPE), "neither a file"),
        (("../index.json", b"{}"), "leads out"),
        (("blobs/../../x", b"{}"), "leads out"),
        (("/etc/passwd", b"{}"), "leads out"),
        (("oci-layout", b"{}"), "twice"),
    ],
)
def test_a_member_that_has_no_place_in_an_archive_is_refused(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], says: str
) -> None:
    archive(tmp_path / "a.tar", ("oci-layout", b""), member)
    with pytest.raises(LayoutRefused, match=says):
        open_source(tmp_path / "a.tar")


def patched(data: bytes, at: int, field: bytes) -> bytes:
    """A header with another field and its right sum."""
    block = bytearray(data[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


def extended(record: bytes) -> bytes:
    return tar._header("x", len(record), b"x") + record.ljust(512, b"\0") + FILE


NEGATIVE = (-512).to_bytes(12, signed=True)
FILE = tar.header("index.json", 2) + b"{}" + tar.padding(2) + tar.END


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no tar at all".ljust(1024, b"."), "not a tar"),
        (b"\x1f\x8b" + bytes(510), "not a tar"),
        (FILE[:300], "not a tar"),
        (patched(FILE, 124, NEGATIVE), "below zero"),
        (patched(FILE, 124, b"77777777777\0"), "ends within"),
        (patched(FILE, 124, b"-0000000012\0"), "not a tar"),
        (patched(FILE, 156, b"S"), "neither a file"),
        (patched(FILE, 156, b"x"), "cannot be read"),
        (patched(FILE, 0, b"\xff\xfe\xfd"), "UTF-8"),
        (tar._header("x", 1 << 20, b"L") + bytes(1 << 20), "a header of"),
        (
            tar._header("x", 22, b"x") + b"22 GNU.sparse.major=1\n".ljust(512, b"\0") + FILE,
            "sparse",
        ),
        (tar._header("x", 11, b"x") + b"11 size=-5\n".ljust(512, b"\0") + FILE, "size"),
    ],
)
def test_an_archive_that_lies_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(LayoutRefused, match=says):
        open_source(tmp_path / "a.tar")


def test_sizes_beyond_eight_gigabytes_are_written_and_read(tmp_path: Path) -> None:
    size = (1 << 33) + 5
    header = tar.header("large", size)
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size + len(tar.padding(size)))
        file.seek(0, os.SEEK_END)
        file.write(tar.END)
    with (tmp_path / "a.tar").open("rb") as opened:
        assert tar.members(opened.fileno()) == {"large": (len(header), size)}
    with tarfile.open(tmp_path / "a.tar") as other:
        assert [(member.name, member.size) for member in other] == [("large", size)]


def _archive() -> bytes:
    """One with every kind of header that is read."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("oci-layout", "index.json", f"blobs/sha512/{'a' * 128}"):
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"bytes"))
    return kept.getvalue()[: -tarfile.RECORDSIZE + 4096] + extended(b"11 path=abc\n")


ARCHIVE = _archive()


@patient
@given(
    st.lists(
        st.tuples(st.integers(0, len(ARCHIVE) - 1), st.binary(min_size=1, max_size=12)),
        max_size=4,
    ),
    st.integers(0, len(ARCHIVE)),
    st.booleans(),
)
def test_whatever_an_archive_holds_it_is_read_or_refused(
    changes: list[tuple[int, bytes]], length: int, sums: bool
) -> None:
    data = bytearray(ARCHIVE[:length] if length % 3 == 0 else ARCHIVE)
    for at, new in changes:
        data[at : at + len(new)] = new
        block = at - at % 512
        if sums and len(data) >= block + 512:  # or hardly any change would get past the sum
            data[block : block + 512] = patched(bytes(data[block : block + 512]), 0, b"")
    file = os.memfd_create("archive")
    try:
        os.write(file, data)
        for start, size in tar.members(file).values():
            assert 0 <= start <= start + size <= len(data)
    except LayoutRefused:
        pass
    finally:
        os.close(file)
