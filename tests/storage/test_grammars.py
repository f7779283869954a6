"""Properties of everything that has a grammar, against the specifications' own words.

The expressions below are those of the texts, not of the code; the reference for ranges counts
bytes one by one.
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry import pagination, ranges
from registry.errors import (
    ContentRangeInvalid,
    QueryInvalid,
    RangesTooMany,
    RangeUnsatisfiable,
)
from registry.exchange import Exchange, Registry
from storage.digest import Digest
from storage.document import parse_object
from storage.errors import (
    DigestInvalid,
    DigestUnsupported,
    ManifestInvalid,
    NameInvalid,
    TagInvalid,
)
from storage.names import RepositoryName, Tag, parse_reference

# Distribution spec, "Pulling manifests".
NAME = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
# Image spec, descriptor.md, "Digests": the grammar, then the two registered algorithms.
COMPONENT = r"[a-z0-9]+"
DIGEST = rf"{COMPONENT}([+._-]{COMPONENT})*:[a-zA-Z0-9=_-]+"
REGISTERED = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"

# Arbitrary text nearly never is a name; words of the grammars, with at most one enemy, nearly are.
words = st.sampled_from(["a", "0", "z9", "blobs", "latest", "a" * 60, "x" * 127])
separators = st.sampled_from([".", "_", "__", "-", "--", "---", "/", "a", "..", "___", "//", "_-"])
enemies = st.sampled_from(["", "", "", *"AZ.-_/:%", "\n", " ", "\0", "\u00e9", "\u0663", "\u212a"])
near_names = st.builds(
    lambda parts, odd, last, tail: "".join(map("".join, parts)) + odd + last + tail,
    st.lists(st.tuples(words, separators), max_size=4),
    enemies,
    words,
    enemies,
)
near_tags = st.lists(
    st.sampled_from([*"aZ0_.-", "latest", "v1", "x" * 127, ":", "/", "\n", " ", "\u0661", "\0"]),
    max_size=5,
).map("".join)
right_digests = st.builds(
    lambda size, hex: f"sha{size}:" + hex * (size // 4),
    st.sampled_from([256, 512]),
    st.sampled_from("09af"),
)
# One thing is wrong with each of these.
near_digests = st.one_of(
    right_digests,
    st.builds(
        lambda right, at, odd: right[:at] + odd + right[at + len(odd) :],
        right_digests,
        st.integers(0, 70),
        st.sampled_from([*"AFgz=-_:/\n \0\u0661\uff21"]),
    ),
    st.builds("".join, st.tuples(right_digests, st.sampled_from([*"a0\n \0", "a" * 64]))),
    right_digests.map(lambda right: right[:-1]),
    right_digests.map(str.upper),
    st.builds(
        "{}:{}".format,
        st.sampled_from(
            ["sha1", "md5+x", "a..b", "", "sha256+b64u", "blake3", "sha 256", "a_b-c.d"]
        ),
        st.sampled_from(["", "a", "a" * 64, "=_-Z", "\u0661", "a" * 5000, "a/b"]),
    ),
)
anything = st.one_of(st.text(max_size=12), near_names, near_tags, near_digests)


@settings(max_examples=400)
@given(anything)
@example("a" * 255)
@example("a" * 256)
@example("a\n")
def test_a_repository_name_is_what_the_specification_says(text: str) -> None:
    """And no longer than 255, which "many clients impose"."""
    if re.fullmatch(NAME, text) and len(text) <= 255:
        assert str(RepositoryName.parse(text)) == text
        assert RepositoryName.parse(text).account == text.split("/")[0]
    else:
        with pytest.raises(NameInvalid):
            RepositoryName.parse(text)


@settings(max_examples=400)
@given(anything)
@example("a" * 128)
@example("a" * 129)
@example("latest\n")
def test_a_tag_is_what_the_specification_says(text: str) -> None:
    if re.fullmatch(TAG, text):
        assert str(Tag.parse(text)) == text
    else:
        with pytest.raises(TagInvalid):
            Tag.parse(text)


@settings(max_examples=400)
@given(anything)
@example("sha256:" + "a" * 64 + "\n")
@example("blake3:" + "a" * 64)
def test_a_digest_is_what_the_specification_says(text: str) -> None:
    if re.fullmatch(REGISTERED, text):
        assert str(Digest.parse(text)) == text
    else:
        known = text.startswith(("sha256:", "sha512:"))
        with pytest.raises(DigestInvalid) as refused:
            Digest.parse(text)
        if re.fullmatch(DIGEST, text) and len(text) < 500:
            assert isinstance(refused.value, DigestUnsupported) is not known
        else:
            assert not isinstance(refused.value, DigestUnsupported)


@given(anything)
def test_a_reference_is_a_tag_or_a_digest_and_nothing_else(text: str) -> None:
    if re.fullmatch(f"{TAG}|{REGISTERED}", text):
        found = parse_reference(text)
        assert str(found) == text
        assert isinstance(found, Digest) is (":" in text)
    else:
        with pytest.raises((TagInvalid, DigestInvalid)):
            parse_reference(text)


# Ranges

numbers = st.one_of(
    st.integers(0, 40).map(str), st.sampled_from(["", "007", "9" * 19, "9" * 25, "9" * 5000])
)
specs = st.builds("{}-{}".format, numbers, numbers)
noise = st.sampled_from(
    ["", " ", "-", "--1", "1", "a-b", "1-2-3", "+1-2", "1 -2", "\u0661-", "1.0-"]
)
range_headers = st.builds(
    lambda unit, equals, specs, comma: unit + equals + comma.join(specs),
    st.sampled_from(["bytes", "bytes", "bytes", "Bytes", " bytes ", "items", "byte", ""]),
    st.sampled_from(["=", "=", "=", " = ", "", ":"]),
    st.lists(st.one_of(specs, specs, noise), max_size=5),
    st.sampled_from([",", ", ", " ,"]),
)
REFUSED = "refused"


def slowly(header: str, size: int) -> object:
    """Which bytes are sent: None for all, as no range; or a list of ranges, byte by byte."""
    unit, equals, rest = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or size == 0:
        return None
    asked = [spec.strip() for spec in rest.split(",") if spec.strip()]
    found = []
    for spec in asked:
        first, dash, last = spec.partition("-")
        if not dash or not (first or last) or not re.fullmatch("[0-9]*", first + last):
            return None
        # More digits than nineteen are beyond every size, and Python would not read them.
        start = int(first[-19:]) if first[:-19].strip("0") == "" and first else None
        end = int(last[-19:]) if last[:-19].strip("0") == "" and last else None
        everything = range(size)
        if not first:
            sent = everything if end is None else [at for at in everything if at >= size - end]
        else:
            sent = [
                at
                for at in everything
                if start is not None and at >= start and (not last or end is None or at <= end)
            ]
        if len(sent) > 0:
            found.append(list(sent))
    if not asked:
        return None
    if not found:
        return REFUSED
    return found if sum(map(len, found)) <= size else None


@settings(max_examples=600)
@given(st.one_of(range_headers, st.text(max_size=20)), st.integers(0, 40))
@example("bytes=500-0", 20)
@example("bytes=-0", 20)
@example("bytes=0-0,-1", 2)
def test_the_bytes_of_a_range_are_those_that_counting_gives(header: str, size: int) -> None:
    """RFC 9110, section 14.1.2."""
    found: object
    try:
        spans = ranges.parse(header, size)
        found = None if spans is None else [list(range(span.start, span.end)) for span in spans]
    except RangeUnsatisfiable as error:
        found = REFUSED if error.size == size else error.size
    assert found == slowly(header, size)


@given(st.integers(0, 3000))
@example(ranges.MOST)
@example(ranges.MOST + 1)
def test_more_ranges_than_are_answered_are_refused(count: int) -> None:
    header = "bytes=" + ",".join(["0-0"] * count)
    if count > ranges.MOST:
        with pytest.raises(RangesTooMany):
            ranges.parse(header, 10_000)
    elif count:
        assert len(ranges.parse(header, 10_000) or ()) == count


@settings(max_examples=400)
@given(
    st.one_of(
        specs,
        st.builds(lambda text, odd: text + odd, specs, st.sampled_from(["\n", " ", "/9", ","])),
        noise,
        st.text(max_size=20),
        st.builds("bytes {}".format, specs),
    )
)
@example("0-0\n")
def test_the_content_range_of_a_chunk_is_what_the_specification_says(header: str) -> None:
    """ "It MUST match the following regular expression: `^[0-9]+-[0-9]+$`"."""
    first, _, last = header.partition("-")
    cut = [text.lstrip("0")[:20] or "0" for text in (first, last)]  # beyond every size
    if re.fullmatch("[0-9]+-[0-9]+", header) and int(cut[0]) <= int(cut[1]):
        chunk = ranges.parse_chunk(header)
        assert (chunk.start, chunk.end - 1) == (int(cut[0]), int(cut[1]))
    else:
        with pytest.raises(ContentRangeInvalid):
            ranges.parse_chunk(header)


# Pages


def exchange_for(query: str) -> Exchange:
    async def never(*_: object) -> None:
        raise AssertionError("a query is read without the client")

    nothing: object = None
    scope = {"method": "GET", "headers": [], "query_string": query.encode("ascii")}
    return Exchange(scope, never, never, Registry(nothing, lambda: None, 0, None, 100))  # type: ignore[arg-type]  # neither store nor client are asked


encodable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@settings(max_examples=200)
@given(encodable, encodable, st.integers(1, 100))
def test_a_link_leads_to_the_page_that_it_was_made_for(
    last: str, artifact_type: str, limit: int
) -> None:
    """RFC 8288: the target is between angle brackets; whatever is in it must not end it."""
    path = "/v2/acme/shop/referrers/sha256:" + "a" * 64
    value = pagination.link(path, {"artifactType": artifact_type, "n": limit, "last": last})
    match = re.fullmatch(r'<([!-;=?-~]+)>; rel="next"', value.decode("ascii"))
    assert match
    target = urlsplit(match[1])
    assert (target.scheme, target.netloc, target.path, target.fragment) == ("", "", path, "")
    exchange = exchange_for(target.query)
    assert pagination.parse(exchange.query("n"), exchange.query("last"), most=100) == (
        pagination.Page(limit, last)
    )
    assert exchange.query("artifactType") == artifact_type
    assert len(parse_qsl(target.query, keep_blank_values=True)) == 3


@given(st.one_of(st.text(max_size=12), st.integers(0, 10**30).map(str)), st.integers(1, 1000))
@example("\u0663", 100)
@example("1\n", 100)
def test_a_number_of_entries_is_one_or_is_refused(n: str, most: int) -> None:
    if re.fullmatch("[0-9]+", n):
        assert pagination.parse(n, None, most=most).limit == min(int(n), most)
    else:
        with pytest.raises(QueryInvalid):
            pagination.parse(n, None, most=most)


# Documents


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_nested_to_any_depth_is_read_or_refused(opening: str, closing: str) -> None:
    """Also where one of the passes over it can still follow, and another no more."""
    read = []
    for depth in range(1, 1200):
        text = f'{{"escaped":"\\u0041","deep":{opening * depth}1{closing * depth}}}'
        try:
            parse_object(text.encode(), what="the manifest")
        except ManifestInvalid as error:
            assert "nested too deep" in str(error)  # noqa: PT017 - most depths raise nothing
        else:
            read.append(depth)
    assert read == list(range(1, len(read) + 1))
    assert 500 < len(read) < 1100


odd_text = st.sampled_from(["\ud800", "\udc00\ud800", "\U0001f600", "\0", "\ufeff"])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), odd_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.one_of(json_values.map(json.dumps), st.text(max_size=30)))
def test_a_document_is_an_object_as_json_reads_it_or_is_refused(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    try:
        found = parse_object(body, what="the manifest")
    except ManifestInvalid:
        return
    assert isinstance(found, dict)
    assert found == json.loads(text)
    json.dumps(found, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
