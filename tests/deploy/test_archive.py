"""Archives are unpacked by content, and no archive can do more than be refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from registry.deploy import archive
from registry.deploy.archive import unpack
from registry.deploy.refusal import NotRunnable
from tests.deploy.artifacts import tar, tar_gz

LONG = "deep/" * 40 + "name"


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run(tmp_path: Path, packed: bytes, *wanted: bytes) -> dict[str, bytes]:
    """What was unpacked, by content."""
    (tmp_path / "packed").write_bytes(packed)
    into = tmp_path / "into"
    into.mkdir()
    found = unpack(tmp_path / "packed", {name(data) for data in wanted}, into)
    unpacked = {path.name: path.read_bytes() for path in into.iterdir()}
    assert found == {name: len(data) for name, data in unpacked.items()}
    return unpacked


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 300_000])
def test_wanted_files_are_found_by_their_content(tmp_path: Path, format: int, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    packed = tar_gz({"a/other": b"other", "a/b": data, "z": b"last"}, format)
    assert run(tmp_path, packed, data) == {name(data): data}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_no_matter(tmp_path: Path, format: int) -> None:
    packed = tar_gz({LONG: b"one", "z": b"two"}, format)
    assert run(tmp_path, packed, b"one", b"two") == {name(b"one"): b"one", name(b"two"): b"two"}


@pytest.mark.parametrize("path", ["../escape", "/absolute", "a/../../b", "a\\b", ".."])
def test_names_lead_nowhere(tmp_path: Path, path: str) -> None:
    """They are not used."""
    run(tmp_path, tar_gz({path: b"x"}), b"x")
    assert {p.name for p in tmp_path.iterdir()} == {"packed", "into"}


def test_a_file_twice_is_one(tmp_path: Path) -> None:
    assert len(run(tmp_path, tar_gz({"a": b"x", "b": b"x"}), b"x")) == 1


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert run(tmp_path, tar_gz({"a": b"x"}), b"y") == {}


def test_gzip_may_have_several_members(tmp_path: Path) -> None:
    whole = tar({"a": b"x" * 5000})
    packed = gzip.compress(whole[:3000]) + gzip.compress(whole[3000:])
    assert run(tmp_path, packed, b"x" * 5000)


def test_what_follows_the_end_is_not_read(tmp_path: Path) -> None:
    assert run(tmp_path, tar_gz({"a": b"x"}) + b"more", b"x")


def test_zeros_behind_the_end_are_fine(tmp_path: Path) -> None:
    assert run(tmp_path, tar_gz({"a": b"x"}) + bytes(10_000), b"x")


def entry(kind: bytes, *, size: int = 0, linkname: str = "", path: str = "a") -> bytes:
    info = tarfile.TarInfo(path)
    info.type = kind
    info.size = size
    info.linkname = linkname
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(entry(tarfile.SYMTYPE, linkname="/etc"), id="symbolic link"),
        pytest.param(entry(tarfile.LNKTYPE, linkname="b"), id="hard link"),
        pytest.param(entry(tarfile.CHRTYPE), id="character device"),
        pytest.param(entry(tarfile.BLKTYPE), id="block device"),
        pytest.param(entry(tarfile.FIFOTYPE), id="pipe"),
        pytest.param(entry(tarfile.GNUTYPE_SPARSE), id="sparse file"),
        pytest.param(entry(tarfile.GNUTYPE_LONGLINK, size=5), id="long link name"),
        pytest.param(entry(b"V"), id="volume label"),
        pytest.param(entry(tarfile.DIRTYPE, size=10), id="directory with content"),
    ],
)
def test_only_files_and_directories_are_unpacked(tmp_path: Path, header: bytes) -> None:
    packed = gzip.compress(header + tar({"z": b"x"}))
    with pytest.raises(NotRunnable, match="only regular files and directories"):
        run(tmp_path, packed, b"x")


def pax(records: bytes) -> bytes:
    padded = records + bytes(-len(records) % 512)
    return entry(tarfile.XHDTYPE, size=len(records)) + padded


def checked(header: bytearray) -> bytes:
    """With a checksum that fits."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def with_size(field: bytes) -> bytes:
    header = bytearray(entry(tarfile.REGTYPE, size=3))
    header[124:136] = field
    return checked(header)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "it is cut short"),
        (b"no gzip", "it is not gzip"),
        (gzip.compress(b"x" * 512), "a header that is not a number"),
        (gzip.compress(b"x" * 100), "it is cut short"),
        (gzip.compress(tar({"a": b"x" * 2000})[:1500]), "it is cut short"),
        (tar_gz({"a": bytes(range(256)) * 100})[:150], "it is cut short"),
        (gzip.compress(tar({"a": b"x" * 2000})[:1500]) + b"more", "it is not gzip"),
        (gzip.compress(with_size(b"-0000000003\0")), "a header that is not a number"),
        (gzip.compress(with_size(b"\x80" + bytes(10) + b"\x03")), "not a number"),
        (gzip.compress(with_size(b"\xff" * 12)), "not a number"),
        (gzip.compress(pax(b"10 size=9\n")), "sizes outside of their headers"),
        (gzip.compress(pax(b"22 GNU.sparse.major=1\n")), "it has sparse files"),
        (gzip.compress(pax(b"nonsense")), "it has sparse files"),
        (gzip.compress(pax(b"0 a=b\n")), "it has sparse files"),
        (gzip.compress(entry(tarfile.XHDTYPE, size=1 << 20)), "a header that is too long"),
    ],
    ids=[
        *("empty", "no gzip", "no tar", "short block", "cut tar", "cut gzip", "garbage between"),
        *("negative size", "binary size", "negative binary size", "size in pax", "sparse in pax"),
        *("nonsense in pax", "pax that goes nowhere", "huge pax"),
    ],
)
def test_a_broken_archive_is_refused(tmp_path: Path, packed: bytes, reason: str) -> None:
    with pytest.raises(NotRunnable) as caught:
        run(tmp_path, packed, b"x")
    assert reason in caught.value.reason


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    data = bytearray(tar({"a": b"x"}))
    data[515] ^= 1
    with pytest.raises(NotRunnable, match="it is not a tar, or is damaged"):
        run(tmp_path, gzip.compress(data), b"x")


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    header = entry(tarfile.REGTYPE, size=64 << 20)
    with pytest.raises(NotRunnable, match="100 times its size"):
        run(tmp_path, gzip.compress(header + bytes(64 << 20)), b"x")


def test_a_short_text_of_zeros_is_no_bomb(tmp_path: Path) -> None:
    zeros = bytes(3 << 20)
    assert run(tmp_path, tar_gz({"zeros": zeros}), zeros)


def test_more_than_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "UNPACKED_LIMIT", 1 << 20)
    with pytest.raises(NotRunnable, match="more than 1 MiB unpacked"):
        run(tmp_path, tar_gz({"a": bytes(2 << 20)}), b"x")


def test_a_bomb_in_small_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "UNPACKED_LIMIT", 1 << 20)
    whole = tar({"a": bytes(2 << 20)})
    packed = io.BytesIO()
    for start in range(0, len(whole), 10_000):
        packed.write(gzip.compress(whole[start : start + 10_000]))
    with pytest.raises(NotRunnable, match="more than 1 MiB unpacked"):
        run(tmp_path, packed.getvalue(), b"x")


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    directories = entry(tarfile.DIRTYPE) * (archive.ENTRIES_LIMIT + 1)
    with pytest.raises(NotRunnable, match="more than 10000 entries"):
        run(tmp_path, gzip.compress(directories, 1), b"x")
