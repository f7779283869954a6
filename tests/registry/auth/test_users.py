"""The users' file: what it may say, how it is rewritten, and when a change is seen."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from registry.auth import htpasswd
from registry.auth.htpasswd import Htpasswd
from registry.auth.users import LARGEST, NameRefused, Users, UsersInvalid

REST = "." * 22 + "a" * 31
HASH = f"$2b$12${REST}"
OTHER = f"$2y$10${REST}"


def test_comments_and_blank_lines_stay_where_they_are() -> None:
    content = f"# our people\n\nada:{HASH}\n  # and one more\nbob:{OTHER}\n".encode()
    users = Users.parse(content)
    assert users.write() == content
    changed = users.with_hash("ada", OTHER).without("bob").with_new("eve", HASH)
    assert changed.write().decode() == (
        f"# our people\n\nada:{OTHER}\n  # and one more\neve:{HASH}\n"
    )


def test_a_file_without_a_last_line_end_and_one_of_windows_are_read() -> None:
    assert Users.parse(f"ada:{HASH}".encode()).find("ada")
    assert Users.parse(f"ada:{HASH}\r\nbob:{HASH}\r\n".encode()).by_name.keys() == {"ada", "bob"}


def test_a_name_that_another_begins_with_is_another() -> None:
    users = Users.parse(f"ada:{HASH}\nada.b:{HASH}\n".encode())
    assert users.without("ada").by_name.keys() == {"ada.b"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ada", "line 1 does not begin with a name"),
        (b":" + HASH.encode(), "line 1 does not begin with a name"),
        (f"a da:{HASH}".encode(), "line 1 does not begin with a name"),
        (f"{'a' * 65}:{HASH}".encode(), "line 1 does not begin with a name"),
        (f"adá:{HASH}".encode(), "line 1 does not begin with a name"),
        (b"# \nada:\xff", "line 2 is not UTF-8"),
        (b"ada:$apr1$abc$def", "line 1: what is there for 'ada' is no bcrypt hash"),
        (b"ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "no bcrypt hash"),
        (b"ada:s3cret", "no bcrypt hash"),
        (f"ada:$2x$12${REST}".encode(), "no bcrypt hash"),
        (f"ada:$2b$12${'z' * 53}".encode(), "no bcrypt hash"),  # bcrypt would raise
        (f"ada:{HASH}:more".encode(), "no bcrypt hash"),
        (f"\nada:$2b$09${REST}".encode(), "line 2: the hash of 'ada' has cost 9"),
        (f"ada:$2b$15${REST}".encode(), "line 1: the hash of 'ada' has cost 15"),
        (f"ada:{HASH}\n#\nada:{OTHER}".encode(), "line 3: 'ada' is in line 1 already"),
        (b"#" * (LARGEST + 1), "larger than"),
    ],
)
def test_what_is_no_users_file_is_refused_by_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(UsersInvalid) as refused:
        Users.parse(content)
    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert REST not in str(refused.value)


@pytest.mark.parametrize("cost", range(10, 15))
@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_each_sort_of_bcrypt_and_each_cost_is_taken(kind: str, cost: int) -> None:
    user = Users.parse(f"ada:${kind}${cost}${REST}".encode()).find("ada")
    assert user
    assert user.cost == cost


def test_a_name_that_is_taken_or_nobodys_is_refused() -> None:
    users = Users.parse(f"ada:{HASH}".encode())
    with pytest.raises(NameRefused, match="already"):
        users.with_new("ada", OTHER)
    for name in ("", "a:b", "a b", "-\n", "a" * 65):
        with pytest.raises(NameRefused, match="no name of a user"):
            users.with_new(name, OTHER)
    with pytest.raises(NameRefused, match="no user"):
        users.without("bob")
    with pytest.raises(NameRefused, match="no user"):
        users.with_hash("bob", OTHER)


def test_a_rewritten_file_is_our_own_to_read_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text("")
    path.chmod(0o644)
    stale = tmp_path / "htpasswd.new"
    stale.write_text("x" * 1000)
    stale.chmod(0o666)
    htpasswd.change(path, lambda users: users.with_new("ada", HASH))
    assert path.read_text() == f"ada:{HASH}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["htpasswd"]


def test_a_change_that_is_refused_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(f"ada:{HASH}\n")
    with pytest.raises(NameRefused):
        htpasswd.change(path, lambda users: users.with_new("ada", OTHER))
    assert path.read_text() == f"ada:{HASH}\n"


def test_a_link_stays_one(tmp_path: Path) -> None:
    target = tmp_path / "secrets" / "users"
    target.parent.mkdir()
    target.write_text("")
    link = tmp_path / "htpasswd"
    link.symlink_to(target)
    htpasswd.change(link, lambda users: users.with_new("ada", HASH))
    assert link.is_symlink()
    assert target.read_text() == f"ada:{HASH}\n"


def test_two_who_add_at_once_lose_nobody(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"

    def add(number: int) -> None:
        for one in range(10):
            name = f"user-{number}-{one}"
            htpasswd.change(path, lambda users, name=name: users.with_new(name, HASH))  # type: ignore[misc]

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(htpasswd.read(path).by_name) == 40


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_change_is_seen_within_a_second_and_a_bad_file_leaves_the_last(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "htpasswd"
    watched = Htpasswd(path, clock=clock)
    assert not watched.current().by_name
    htpasswd.change(path, lambda users: users.with_new("ada", HASH))
    assert not watched.current().by_name  # it was looked at just now
    clock.now += 0.99
    assert watched.current().find("ada")
    path.write_text("nonsense")
    clock.now += 0.99
    assert watched.current().find("ada")
    path.write_text(f"bob:{HASH}\n")
    clock.now += 0.99
    assert watched.current().by_name.keys() == {"bob"}


def test_a_directory_of_links_that_is_swapped_is_seen(tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted secret: `users` -> `..data/users`, `..data` -> another."""
    clock = Clock()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "users").write_text(f"{name}:{HASH}\n")
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "users").symlink_to("..data/users")
    watched = Htpasswd(tmp_path / "users", clock=clock)
    (tmp_path / "..new").symlink_to("second")
    os.rename(tmp_path / "..new", tmp_path / "..data")
    clock.now += 0.99
    assert watched.current().by_name.keys() == {"second"}


def test_a_file_that_cannot_be_read_at_the_start_is_said(tmp_path: Path) -> None:
    path = tmp_path / "htpasswd"
    path.write_text("ada:plain")
    with pytest.raises(UsersInvalid, match=r"htpasswd: line 1"):
        Htpasswd(path)
