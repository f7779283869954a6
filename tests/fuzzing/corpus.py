"""What is right, what is wrong in an interesting way, and how one becomes the other."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from tests.asgi import IMAGE, INDEX, LAYER, descriptor, digest_of, image, index

LONGEST: Final = 1 << 16  # characters; servers take no longer request heads

NAMES: Final = [
    *("a", "acme/shop", "a.b_c__d-e---f/0", "blobs/uploads", "manifests/tags/list", "v2/_x"),
    *("a" * 255, "a-" * 120 + "a", "a__a" * 60, "../../etc", "acme/..", "A/b", "a//b"),
]
TAGS: Final = ["latest", "v1.0.0", "_", "sha256-" + "a" * 64, "a" * 128, "-rm", "x@y", "latest\n"]
DIGESTS: Final = [
    *(digest_of(b""), digest_of(b"{}"), digest_of(b"", "sha512"), "sha256:" + "A" * 64),
    *(digest_of(image()), digest_of(b"0123456789" * 10), digest_of(b"x")),
    *("sha1:" + "a" * 40, "sha256+b64u:abc=", "blake3:" + "0" * 64, "sha256:" + "0" * 63),
]
_PATHS: Final = [
    *("/v2/", "/v2/_catalog", "/v2/_oci/ext/discover", "/v2/acme/shop/_oci/ext/discover"),
    *("/v2/acme/shop/tags/list", "/v2/acme/shop/manifests/latest", "/v2/a/blobs/uploads/"),
    *("/v2/a/blobs/uploads", "/v2/a/blobs/uploads/0123456789abcdefABCDEF", "/v2/uploads/uploads"),
    *(f"/v2/acme/shop/{room}/{DIGESTS[0]}" for room in ("blobs", "manifests", "referrers")),
    *("/v2/a/manifests/b/blobs/uploads/c", "/v2/acme%2Fshop/tags/list", "http://h/v2/"),
    "/v2/acme/shop/blobs/sha256%3A" + "a" * 64,
]
PATHS: Final = [*_PATHS, *(f"/v2/{name}/tags/list" for name in NAMES)]
RANGES: Final = [
    *("bytes=0-9", "bytes=90-", "bytes=-10", "bytes=500-0", "bytes=-0", "bytes=0-1, 5-6,,-2"),
    *("BYTES = 0-0 ", "items=0-1", "bytes=", "bytes=,", "bytes=--1", "bytes=0-9" + ",1-2" * 1023),
    *("bytes=0-" + "9" * 30, "bytes=" + "0-," * 2000),
]
CONTENT_RANGES: Final = ["0-0", "0-1023", "1024-2047", "9-0", "bytes 0-9/10", "0-" + "9" * 30]
QUERIES: Final = [
    *("n=10&last=v1", "n=0", "n=-1", "n=1e9", "n=" + "9" * 5000, "last=%00", "last=%ff", "n=1;n=2"),
    *("tag=a&tag=b", "&".join(f"tag=t{at}" for at in range(120)), "artifactType=a/b+c"),
    *("digest=sha256%3A" + "a" * 64, f"mount={DIGESTS[1]}&from=acme/shop", f"mount={DIGESTS[1]}"),
    *(f"digest={DIGESTS[0]}", f"digest={DIGESTS[1]}", "digest-algorithm=sha512", "digest=&digest"),
]
CONTENT_TYPES: Final = [
    *(
        "",
        "",
        "",
        "",
        "",
        "",
        IMAGE,
        IMAGE,
        IMAGE,
        INDEX,
        f"{IMAGE}; charset=utf-8",
        "application/json",
        " ; ",
    ),
    *("application/vnd.docker.distribution.manifest.v2+json", IMAGE.upper()),
]
_BASE: Final = json.loads(image())
_LAYERS: Final = [{"mediaType": LAYER, "digest": digest_of(b"x"), "size": 1}] * 3
_MANIFESTS: Final = [
    image(),
    image(layers=_LAYERS, annotations={"a": "b", "\u00e9": "\U0001f600"}),
    image(subject=descriptor(b"subject"), artifactType="application/x"),
    image(mediaType=None),
    index(),
    index(manifests=[descriptor(b"1"), {**descriptor(b"2"), "platform": {"os": "linux"}}]),
]
MANIFESTS: Final = [body.decode() for body in _MANIFESTS]
VALUES: Final[list[Any]] = [
    *(None, True, False, 0, 1, 2, 1.0, -1, 1 << 53, (1 << 53) + 1, 1 << 63, 10**4000, 2.5e300),
    *("", "x", "\ud800", "\udc00\ud800", "\0", "\u017f", "2", [], {}, [[]], [None], {"a": 1}),
    *(float("nan"), float("inf"), _LAYERS, _BASE["config"], IMAGE, INDEX, digest_of(b"")),
]
_KEYS: Final = [
    *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs"),
    *("subject", "annotations", "fsLayers", "digest", "size", "urls", "data", "x"),
    *("Layers", "MEDIATYPE", "\u017fubject", "blob\u017f", "Config", "\u212aonfig", "sIze"),
]

TOKENS: Final = [
    *("..", "../", "/", "//", "%2f", "%2F", "%00", "%2e%2e", "%", "%zz", "%c3%a9", "%0a", "\\"),
    *("\0", "\n", "\r\n", " ", "\t", "\x7f", "\x85", "-", "_", "__", ".", ":", "@", "+", "=", "&"),
    *("?", "#", ";", ",", "-0", "0-", "9" * 20, "9" * 5000, "0" * 40, "\u00e9", "\u0663", "\uff11"),
    *("\u212a", "\u017f", "\ud800", "\U0001f600", "\ufeff", "{", "}", "[", "]", '"', "\\ud800"),
    *("\\u0041", "NaN", "-Infinity", "1e400", "-1", "1.0", "true", "null", '"layers":[],'),
    *('"Layers":[],', '"mediaType":"x",', '"annotations":{"a":1},', "[" * 2000, '{"a":' * 990),
    *("sha256:", "sha512:", "blobs/", "uploads/", "manifests/", "tags/list", "v2/", "_catalog"),
]


class Mutator:
    """Everything is drawn from one `random`, so a seed gives the same again."""

    def __init__(self, random: random.Random) -> None:
        self.random = random

    def text(self, seeds: Sequence[str]) -> str:
        """One of the seeds, as it is or after up to six changes."""
        draw = self.random
        text = draw.choice(seeds)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            text = self._changed(text, seeds)[:LONGEST]
        return text

    def octets(self, seeds: Sequence[str]) -> bytes:
        """The same as bytes, of which some are not UTF-8."""
        raw = bytearray(self.text(seeds).encode("utf-8", "surrogatepass"))
        if raw and self.random.random() < 0.1:
            raw[self.random.randrange(len(raw))] = self.random.randrange(256)
        return bytes(raw)

    def _changed(self, text: str, seeds: Sequence[str]) -> str:
        draw = self.random
        at = int(draw.random() * (len(text) + 1))
        end = min(len(text), at + int(draw.expovariate(0.2)))
        match int(draw.random() * 8.02):
            case 0 | 1:
                return text[:at] + draw.choice(TOKENS) + text[at:]
            case 2:
                return text[:at] + text[end:]
            case 3:
                return text[:end] + text[at:]
            case 4:
                return text[:at] + chr(draw.choice((127, 255, 0xD7FF)) - at % 128) + text[at + 1 :]
            case 5:
                other = draw.choice(seeds)
                return text[:at] + other[int(draw.random() * len(other)) :]
            case 6:
                return text[:at]
            case 7:
                return text[:at] + text[at:end].swapcase() + text[end:]
            case _:  # rare, since it is slow for everybody: what a bad expression would choke on
                return text[:at] + (text[at:end] or "a-") * 3000 + text[end:]


def manifest(mutator: Mutator) -> bytes:
    """A manifest with other words in it, other values, or nested as deep as it just may be."""
    draw = mutator.random
    if draw.random() < 0.5:
        return mutator.octets(MANIFESTS)
    content = json.loads(draw.choice(MANIFESTS))
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        key, value = draw.choice(_KEYS), deepcopy(draw.choice(VALUES))
        inner = content.get("config") if draw.random() < 0.3 else None
        (inner if isinstance(inner, dict) else content)[key] = value
    text = json.dumps(content, ensure_ascii=draw.random() < 0.8)
    if draw.random() < 0.05:
        depth = draw.randrange(850, 1050)  # where Python's own limit is
        opening, closing = draw.choice((("[", "]"), ('{"x":', "}")))
        deep = f'"\\u0041":1,"deep":{opening * depth}1{closing * depth},'
        text = text.replace("{", "{" + deep, 1)
    if draw.random() < 0.1:
        text = text.replace(",", f",{json.dumps(draw.choice(_KEYS))}:[],", 1)
    return text.encode("utf-8", "surrogatepass")
