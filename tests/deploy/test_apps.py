"""Hosts, settings, and which tags feed an app."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.deploy.apps import Settings, SettingsInvalid, feeds, host_for, new_id
from storage.names import RepositoryName, Tag

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def host(name: str, domain: str = "example.org") -> str:
    return host_for(RepositoryName.parse(name), domain)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acme/hello", "hello.acme.example.org"),
        ("acme/hello-world", "hello-world.acme.example.org"),
        ("0/1", "1.0.example.org"),
    ],
)
def test_names_that_dns_can_say_are_used_as_they_are(name: str, expected: str) -> None:
    assert host(name) == expected


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("hello", r"hello--[a-z2-7]{20}\.hello"),
        ("acme/a.b", r"a-b--[a-z2-7]{20}\.acme"),
        ("acme/a_b", r"a-b--[a-z2-7]{20}\.acme"),
        ("acme/a--b", r"a-b--[a-z2-7]{20}\.acme"),
        ("acme/xn--bcher-kva", r"xn-bcher-kva--[a-z2-7]{20}\.acme"),
        ("acme/team/app", r"team-app--[a-z2-7]{20}\.acme"),
        ("ac.me/app", r"app\.ac-me--[a-z2-7]{20}"),
        ("acme/" + "a" * 64, r"a{41}--[a-z2-7]{20}\.acme"),
    ],
)
def test_other_names_become_what_can_be_said_and_a_hash(name: str, shape: str) -> None:
    assert re.fullmatch(shape + r"\.example\.org", host(name))


def test_a_host_never_changes() -> None:
    """Bookmarks and certificates depend on it."""
    assert host("acme/a.b") == "a-b--eodowwolhynrmwrgtwfi.acme.example.org"


_component = st.from_regex(r"[a-z0-9]{1,3}((\.|_|__|-{1,3})[a-z0-9]{1,2}){0,2}", fullmatch=True)
_names = st.lists(_component, min_size=1, max_size=3).map("/".join)


@given(_names, _names)
def test_two_repositories_never_share_a_host(one: str, other: str) -> None:
    assert (host(one) == host(other)) == (one == other)


@given(_names, st.integers(1, 250))
def test_a_host_is_one_that_dns_can_say(name: str, length: int) -> None:
    domain = ".".join(["d" * 50] * 5)[:length].strip(".")
    try:
        made = host(name, domain)
    except ValueError:
        assert length > 253 - 64
        return
    assert len(made) <= 253
    assert all(_LABEL.fullmatch(label) and len(label) <= 63 for label in made.split("."))
    assert made.endswith(f".{domain}")


def test_a_long_domain_leaves_one_label_for_the_app() -> None:
    domain = ".".join(["d" * 60] * 3)
    long = host("a" * 63 + "/" + "b" * 63, domain)
    assert re.fullmatch(r"b{41}--[a-z2-7]{20}\." + re.escape(domain), long)


def test_a_domain_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        host("a" * 63 + "/" + "b" * 63, ".".join(["d" * 60] * 4))


@pytest.mark.parametrize(
    "tag", ["latest", "v1", "0.1.0", "sha256", "sha256-abc", "sha1-" + "0" * 64]
)
def test_tags_of_people_feed_an_app(tag: str) -> None:
    assert feeds(Tag.parse(tag))


@pytest.mark.parametrize(
    "tag",
    [
        "sha256-" + "0" * 64,
        "sha256-" + "a" * 64 + ".sig",
        "sha256-" + "a" * 64 + ".att",
        "sha512-" + "a" * 64,
        "sha512-" + "a" * 112 + ".sig",
    ],
    ids=["referrers", "signature", "attestation", "referrers of a long digest", "long signature"],
)
def test_tags_about_a_digest_do_not(tag: str) -> None:
    assert not feeds(Tag.parse(tag))


def test_ids_are_random_and_fit_for_files() -> None:
    made = {new_id() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", id) for id in made)


def test_settings_hold_what_was_given() -> None:
    settings = Settings.parse({"a": "1", "b_2": ""}, "/ready?full=1")
    assert dict(settings.variables) == {"a": "1", "b_2": ""}
    assert settings.health_path == "/ready?full=1"


def test_values_do_not_show_in_a_log() -> None:
    assert "hunter2" not in repr(Settings.parse({"password": "hunter2"}))


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"A": "1"}, None),
        ({"1a": "1"}, None),
        ({"a-b": "1"}, None),
        ({"": "1"}, None),
        ({"a\n": "1"}, None),
        ({"a" * 129: "1"}, None),
        ({"a": "x\0y"}, None),
        ({"a": "x" * (256 << 10), "b": "y"}, None),
        ({}, "ready"),
        ({}, ""),
        ({}, "/a b"),
        ({}, "/\r\nX: y"),
        ({}, "/" + "a" * 1024),
        ({}, "/\u00e4"),
    ],
)
def test_settings_that_no_app_can_have_are_refused(
    variables: dict[str, str], path: str | None
) -> None:
    with pytest.raises(SettingsInvalid):
        Settings.parse(variables, path)
