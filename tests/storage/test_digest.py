"""Image-spec, descriptor.md, "Digests"."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import ALGORITHMS, SHA256, SHA512, Algorithm, Digest
from storage.errors import DigestInvalid, DigestUnsupported
from tests.storage.content import patient

HEX = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"


@pytest.mark.parametrize(
    "text",
    [f"sha256:{HEX}", "sha512:" + HEX * 2],
    ids=["sha256", "sha512"],
)
def test_a_digest_is_written_as_it_was_read(text: str) -> None:
    assert str(Digest.parse(text)) == text


INVALID = [
    ("", "empty"),
    ("sha256", "no colon"),
    (HEX, "no algorithm"),
    (f":{HEX}", "an empty algorithm"),
    ("sha256:", "nothing encoded"),
    (f"sha256:{HEX[:-1]}", "one digit short"),
    (f"sha256:{HEX}0", "one digit long"),
    (f"sha256:{HEX.upper()}", "upper-case digits"),
    (f"SHA256:{HEX}", "an upper-case algorithm"),
    (f"sha256:{HEX[:-1]}g", "not a hexadecimal digit"),
    (f"sha256:{HEX[:-1]}=", "in the grammar of encoded, but not hexadecimal"),
    (f"sha512:{HEX}", "sha512 with the length of sha256"),
    (f"sha256:{HEX * 2}", "sha256 with the length of sha512"),
    (f"sha256:{HEX}\n", "a newline, which $ would let through"),
    (f" sha256:{HEX}", "a blank before"),
    (f"sha256:{HEX}\0", "NUL"),
    (f"sha256%3A{HEX}", "not decoded"),
    (f"sha256::{HEX}", "two colons"),
    (f"sha256:{HEX}:{HEX}", "two digests"),
    (f"sha256:../../../../etc/passwd/{HEX[25:]}", "a path"),
    ("sha256:" + "٣" * 64, "digits of another script"),
    ("sha256:" + "a" * 5_000_000, "five million digits"),
    (f"sha256+:{HEX}", "an algorithm that ends in a separator"),
    (f"+sha256:{HEX}", "an algorithm that begins with a separator"),
    (f"sha..256:{HEX}", "two separators"),
]


@pytest.mark.parametrize(("text", "reason"), INVALID, ids=[reason for _, reason in INVALID])
def test_what_is_not_a_digest_is_refused(text: str, reason: str) -> None:
    with pytest.raises(DigestInvalid) as refused:
        Digest.parse(text)
    assert not isinstance(refused.value, DigestUnsupported)


@pytest.mark.parametrize("text", [f"sha1:{HEX[:40]}", f"blake3:{HEX}", "sha256+b64u:LCa0a2j_xo_5m"])
def test_a_digest_of_an_algorithm_not_kept_here_is_well_formed_but_unsupported(text: str) -> None:
    with pytest.raises(DigestUnsupported):
        Digest.parse(text)


def test_an_unknown_algorithm_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(DigestUnsupported, match="sha256, sha512"):
        Algorithm.parse("md5")


@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=str)
def test_an_algorithm_makes_digests_that_can_be_parsed(algorithm: Algorithm) -> None:
    made = algorithm.digest(b"bytes")
    assert made.encoded == hashlib.new(algorithm.name, b"bytes").hexdigest()
    assert Digest.parse(made.text) == made


def test_equal_digests_are_one_key() -> None:
    assert {SHA256.digest(b"x"), Digest.parse(str(SHA256.digest(b"x")))} == {SHA256.digest(b"x")}
    assert SHA256.digest(b"x") != SHA512.digest(b"x")


@patient
@given(st.text(alphabet="sha256:+._-/%=0123456789abcdefABC\n\0é", max_size=90))
def test_whatever_is_parsed_has_only_hexadecimal_digits(text: str) -> None:
    """S7: a path is built from the two parts, so neither may hold anything else."""
    try:
        parsed = Digest.parse(text)
    except DigestInvalid:
        return
    assert parsed.algorithm.name in ALGORITHMS
    assert set(parsed.encoded) <= set("0123456789abcdef")
    assert parsed.text == text
