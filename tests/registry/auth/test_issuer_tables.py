"""`[[issuer]]` in the settings file: what can be said, and what is refused in words."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.trust import Issuer
from registry.auth.wildcard import Wildcard
from registry.config import ConfigInvalid, as_toml, load
from registry.settings import Config

EXAMPLE = r"""
[[issuer]]
name = "github"
url = "https://token.actions.githubusercontent.com"
audience = "https://registry.example.org"
max_age = "10min"
[issuer.claims]
repository = "acme/*"
ref = ["refs/heads/main", "refs/tags/v*"]
"odd \"name\"" = "a\\b"

[[issuer]]
name = "cluster"
url = "https://kubernetes.default.svc"
jwks_url = "https://10.96.0.1/openid/v1/jwks"
authorities = "cluster.pem"
networks = ["10.96.0.0/12", "fd00::/8"]
algorithms = ["RS256"]

[[issuer]]
name = "offline"
url = "https://offline.example.org/"
jwks = "keys.json"

[[issuer]]
name = "lab"
url = "http://lab.test:8080"
insecure = true
"""

MINIMAL = '[[issuer]]\nname = "a"\nurl = "https://a.test"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spindle.toml"


def loaded(file: Path, text: str) -> Config:
    file.write_text(text)
    return load(file)


def test_what_the_tables_say(file: Path) -> None:
    assert loaded(file, EXAMPLE).issuer == (
        Issuer(
            "github",
            "https://token.actions.githubusercontent.com",
            audience="https://registry.example.org",
            claims={
                "repository": (Wildcard("acme/*"),),
                "ref": (Wildcard("refs/heads/main"), Wildcard("refs/tags/v*")),
                'odd "name"': (Wildcard("a\\b"),),
            },
            max_age=600,
        ),
        Issuer(
            "cluster",
            "https://kubernetes.default.svc",
            jwks_url="https://10.96.0.1/openid/v1/jwks",
            authorities=Path("cluster.pem"),
            networks=(ipaddress.ip_network("10.96.0.0/12"), ipaddress.ip_network("fd00::/8")),
            algorithms=("RS256",),
        ),
        Issuer("offline", "https://offline.example.org/", jwks=Path("keys.json")),
        Issuer("lab", "http://lab.test:8080", insecure=True),
    )


def test_by_default_nothing_is_trusted_and_little_of_whom_is(file: Path) -> None:
    assert load().issuer == ()
    [issuer] = loaded(file, MINIMAL).issuer
    assert (issuer.algorithms, issuer.max_age) == (("RS256", "ES256"), 3600)
    assert (issuer.networks, issuer.insecure) == ((), False)


def test_they_are_printed_as_they_can_be_read(file: Path, tmp_path: Path) -> None:
    config = loaded(file, EXAMPLE)
    printed = as_toml(config)
    assert loaded(tmp_path / "printed.toml", printed) == config
    assert 'max_age = "10min"' in printed
    assert "insecure = true" in printed


def test_the_examples_in_the_documentation_are_read(file: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "federation.md").read_text()
    examples = [one for one in re.findall(r"```toml\n(.*?)```", text, re.S) if "[[issuer]]" in one]
    assert len(examples) >= 3
    for example in examples:
        assert loaded(file, example).issuer


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ('[[issuer]]\nurl = "https://a.test"', "issuer[0]", "has no name"),
        ('[[issuer]]\nname = "a"', "issuer[0]", "has no url"),
        ('[[issuer]]\nname = "a:b"', "issuer[0].name", "up to 32"),
        ('[[issuer]]\nname = "Git"', "issuer[0].name", "up to 32"),
        ('[[issuer]]\nname = "a\\n"', "issuer[0].name", "up to 32"),
        ("[[issuer]]\nname = 1", "issuer[0].name", "takes a text"),
        ('[[issuer]]\nurl = "a.test"', "issuer[0].url", "https://"),
        ('[[issuer]]\nurl = "https://a.test?b"', "issuer[0].url", "query"),
        ('[[issuer]]\nurl = "https://a.test/#b"', "issuer[0].url", "fragment"),
        ('[[issuer]]\nurl = "https://u:p@a.test"', "issuer[0].url", "user name"),
        ('[[issuer]]\nurl = "http://a.test"\nname = "a"', "issuer[0]", "asked over http"),
        (MINIMAL + "insecure = true", "issuer[0]", "leave insecure out"),
        (MINIMAL + 'insecure = "yes"', "issuer[0].insecure", "true or false"),
        (MINIMAL + 'jwks = "a"\njwks_url = "https://a.test"', "issuer[0]", "one place"),
        (MINIMAL + 'jwks = "a"\nnetworks = ["10.0.0.0/8"]', "issuer[0]", "do nothing"),
        (MINIMAL + 'jwks_url = "file:///a"', "issuer[0].jwks_url", "https://"),
        (MINIMAL + 'audience = ""', "issuer[0].audience", "takes a text"),
        (MINIMAL + 'networks = "10.0.0.0/8"', "issuer[0].networks", "list of networks"),
        (MINIMAL + "networks = []", "issuer[0].networks", "list of networks"),
        (MINIMAL + 'networks = ["ten"]', "issuer[0].networks", "such as 10"),
        (MINIMAL + 'networks = ["10.0.0.1/8"]', "issuer[0].networks", "host bits"),
        (MINIMAL + 'networks = ["0.0.0.0/0"]', "issuer[0].networks", "not within one private"),
        (MINIMAL + 'networks = ["8.8.8.8"]', "issuer[0].networks", "not within one private"),
        (MINIMAL + 'algorithms = ["HS256"]', "issuer[0].algorithms", "RS256, ES256, EdDSA"),
        (MINIMAL + 'algorithms = ["none"]', "issuer[0].algorithms", "RS256, ES256, EdDSA"),
        (MINIMAL + "algorithms = []", "issuer[0].algorithms", "RS256, ES256, EdDSA"),
        (MINIMAL + "claims = {}", "issuer[0].claims", "takes a table"),
        (MINIMAL + "claims = { run = 42 }", "issuer[0].claims", "written as a text"),
        (MINIMAL + "claims = { ref = [] }", "issuer[0].claims", "a list of them"),
        (MINIMAL + 'max_age = "2d"', "issuer[0].max_age", "more than a day"),
        (MINIMAL + 'max_age = "never"', "issuer[0].max_age", "more than a day"),
        (MINIMAL + 'claim = "a"', "issuer[0].claim", "did you mean claims"),
        (MINIMAL + MINIMAL.replace("a.test", "b.test"), "issuer[1].name", "there already"),
        (MINIMAL + MINIMAL.replace('"a"', '"b"'), "issuer[1].url", "there already"),
        ('[issuer]\nname = "a"', "issuer", r"write \[\[issuer\]\]"),
    ],
)
def test_what_cannot_be_is_told_by_table_and_key(
    file: Path, text: str, name: str, reason: str
) -> None:
    with pytest.raises(ConfigInvalid, match=reason) as caught:
        loaded(file, text)
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("acme/shop", ["acme/shop"], ["acme/shop2", "acme/sho", ""]),
        ("acme/*", ["acme/", "acme/a/b"], ["acme", "acme2/a"]),
        ("*", ["", "a"], []),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("*ab*ab*", ["abab", "xabyabz"], ["ab", "aba"]),
        ("a.c", ["a.c"], ["abc"]),
        ("[a]?", ["[a]?"], ["a", "ab"]),
        ("", [""], ["a"]),
    ],
)
def test_a_star_stands_for_any_characters(
    pattern: str, fitting: list[str], other: list[str]
) -> None:
    assert all(Wildcard(pattern).fits(one) for one in fitting)
    assert not any(Wildcard(pattern).fits(one) for one in other)


@given(st.text("ab*/.", max_size=8), st.text("ab/.\n", max_size=12))
def test_a_pattern_is_what_a_regular_expression_would_be(pattern: str, value: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert Wildcard(pattern).fits(value) is bool(re.fullmatch(expression, value, re.S))
