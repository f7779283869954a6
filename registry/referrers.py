"""Listing what refers to a manifest: end-12."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final, Protocol

from registry import pagination
from registry.exchange import Exchange
from registry.pagination import Page
from storage.digest import Digest
from storage.manifest import OCI_INDEX
from storage.repository import Referrer

AT_ONCE: Final = 16  # referrers held in memory: the annotations of each may fill a whole manifest

_HEAD: Final = b'{"schemaVersion":2,"mediaType":"%s","manifests":[' % OCI_INDEX.encode()
_TAIL: Final = b"]}"


async def list_referrers(exchange: Exchange) -> None:
    """end-12. An image index in pages, each small enough to be a manifest.

    "If the registry supports the referrers API, the registry MUST NOT return a 404", so a
    repository that nothing was pushed to yet has an empty list.
    """
    repository = exchange.repository
    subject = Digest.parse(exchange.last)
    page = pagination.parse(
        exchange.query("n"), exchange.query("last"), most=exchange.registry.page_limit
    )
    # A plus sign that was not escaped arrives as a blank, and no media type has one.
    artifact_type = (exchange.query("artifactType") or "").replace(" ", "+") or None
    shown, last = await _fill(
        page,
        exchange.registry.manifest_limit,
        partial(repository.referrers, subject, artifact_type=artifact_type),
    )
    headers = [(b"content-type", OCI_INDEX.encode())]
    filters = {}
    if artifact_type is not None:
        filters["artifactType"] = artifact_type
        headers.append((b"oci-filters-applied", b"artifactType"))
    if last is not None:
        link = pagination.link(exchange.path, {**filters, "n": page.limit, "last": last})
        headers.append((b"link", link))
    await exchange.reply(200, headers, _HEAD + b",".join(shown) + _TAIL)


class _Find(Protocol):
    """`Repository.referrers`, for one subject and filter."""

    async def __call__(self, *, after: str | None, limit: int) -> list[Referrer]: ...


async def _fill(page: Page, size: int, find: _Find) -> tuple[list[bytes], str | None]:
    """Encoded descriptors that make an index of at most `size` bytes; and the digest of the last
    one, if more follow.

    One that is too large for any page is shown on its own: the list would end at it otherwise.
    """
    left = size - len(_HEAD) - len(_TAIL)
    shown: list[bytes] = []
    after = page.after
    while found := await find(after=after, limit=AT_ONCE):
        for referrer in found:
            descriptor = _encode(referrer)
            left -= len(descriptor) + 1
            if len(shown) >= page.limit or (shown and left < 0):
                return shown, after if shown else None
            shown.append(descriptor)
            after = str(referrer.digest)
        if len(found) < AT_ONCE:
            break
    return shown, None


def _encode(referrer: Referrer) -> bytes:
    descriptor: dict[str, Any] = {
        "mediaType": referrer.media_type,
        "digest": str(referrer.digest),
        "size": referrer.size,
    }
    if referrer.artifact_type:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = dict(referrer.annotations)
    return json.dumps(descriptor, ensure_ascii=False, separators=(",", ":")).encode()
