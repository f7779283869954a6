"""The data directory: how it is made, and which ones are refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from storage.digest import SHA256, SHA512
from storage.errors import LayoutRefused, LayoutUnknown
from storage.filesystem.layout import Layout

DIGEST = SHA256.digest(b"")


def test_a_new_data_directory_is_ours_alone(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "a" / "data").root
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_every_directory_of_blobs_is_made_in_advance(tmp_path: Path, algorithm: str) -> None:
    root = Layout.open(tmp_path / "data").root
    found = sorted(path.name for path in (root / "blobs" / algorithm).iterdir())
    assert found == [f"{number:02x}" for number in range(256)]


def test_a_blob_lies_where_its_digest_says(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "data")
    hex = DIGEST.encoded
    assert layout.blob(DIGEST) == str(layout.root / "blobs" / "sha256" / hex[:2] / hex)
    assert Path(layout.blob(SHA512.digest(b""))).parent.is_dir()


def test_all_directories_are_durable_before_the_marker_says_so(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    root = Layout.open(tmp_path / "new" / "data").root
    marker = steps.index(("rename", str(root / "layout.json")))
    for directory in (tmp_path, root.parent, root, root / "blobs", root / "blobs" / "sha256"):
        assert ("fsync", str(directory)) in steps[:marker]
    assert steps[marker - 1] == ("fdatasync", str(root / "layout.json.new"))
    assert steps[marker + 1 :] == [("fsync", str(root))]


def test_a_creation_that_was_cut_short_is_finished_and_synced(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / "layout.json").unlink()
    steps.clear()
    Layout.open(root)
    assert ("fsync", str(root / "blobs" / "sha256")) in steps


def test_the_files_of_who_may_what_can_be_there_before_the_first_start(tmp_path: Path) -> None:
    named = Layout(tmp_path)
    named.policy.write_text("# the policy")
    named.users.write_text("ada:...")
    opened = Layout.open(tmp_path)
    assert opened.policy.read_text() == "# the policy"
    assert opened.users.read_text() == "ada:..."


def test_an_empty_directory_that_was_lost_is_made_again(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / "blobs" / "sha256" / "7f").rmdir()
    (root / "uploads").rmdir()
    Layout.open(root)
    assert (root / "blobs" / "sha256" / "7f").is_dir()
    assert (root / "uploads").is_dir()


def test_opening_twice_changes_nothing(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "data").root
    before = (root / "layout.json").stat()
    Layout.open(root)
    assert (root / "layout.json").stat() == before


def test_an_empty_directory_is_taken_and_made_private(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    root.chmod(0o755)
    Layout.open(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(LayoutRefused, match="chmod 700"):
        Layout.open(root)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_data_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    root = Layout.open(tmp_path / "data").root
    root.chmod(mode)
    with pytest.raises(LayoutRefused, match="written by others"):
        Layout.open(root)


def test_a_data_directory_that_a_group_may_read_is_taken(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "data").root
    root.chmod(0o750)
    Layout.open(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o750


def test_somebody_elses_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(LayoutRefused, match="belongs to user"):
        Layout.open(tmp_path / "data")


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    Layout.open(tmp_path / "data")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(LayoutRefused, match="itself"):
        Layout.open(tmp_path / "link")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(LayoutRefused, match="Not a directory"):
        Layout.open(tmp_path / "data")


@pytest.mark.parametrize("place", ["uploads", "blobs", "blobs/sha256", "blobs/sha256/7f"])
def test_a_link_inside_is_refused(tmp_path: Path, place: str) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / place).rename(tmp_path / "elsewhere")
    (root / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutRefused, match="is not a directory"):
        Layout.open(root)


@pytest.mark.parametrize("place", ["uploads", "quarantine", "blobs/sha256", "blobs/sha256/7f"])
@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_room_that_others_may_write_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / place).chmod(mode)
    with pytest.raises(LayoutRefused, match="written by others"):
        Layout.open(root)


def test_a_room_that_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "data").root
    if os.geteuid() != 0:
        pytest.skip("only root may give a directory away")
    os.chown(root / "blobs" / "sha256" / "7f", 4321, -1)
    with pytest.raises(LayoutRefused, match="belongs to user 4321"):
        Layout.open(root)


def test_what_is_put_aside_has_a_name_of_its_own(tmp_path: Path) -> None:
    layout = Layout.open(tmp_path / "data")
    expected = str(layout.root / "quarantine" / f"sha256-{DIGEST.encoded}.7")
    assert layout.set_aside(DIGEST, 7) == expected


def test_a_directory_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir(mode=0o755)
    (root / "letter.txt").write_text("dear")
    with pytest.raises(LayoutRefused, match=r"letter\.txt"):
        Layout.open(root)
    assert [path.name for path in root.iterdir()] == ["letter.txt"]
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_the_root_of_a_file_system_of_its_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "data" / "lost+found").mkdir(parents=True)
    Layout.open(tmp_path / "data")


def test_data_of_a_newer_release_are_left_alone(tmp_path: Path) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / "layout.json").write_text(json.dumps({"layout": 2}))
    with pytest.raises(LayoutUnknown, match="newer release"):
        Layout.open(root)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"layout": "1"}', '{"layout": true}'])
def test_a_damaged_marker_is_not_guessed_at(tmp_path: Path, text: str) -> None:
    root = Layout.open(tmp_path / "data").root
    (root / "layout.json").write_text(text)
    with pytest.raises(LayoutRefused, match="damaged"):
        Layout.open(root)


@pytest.mark.parametrize("id", ["", "..", "a/b", "a" * 65, "a\n", "."])
def test_what_is_no_id_of_an_application_names_no_directory(tmp_path: Path, id: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        Layout.open(tmp_path / "data").app(id)
