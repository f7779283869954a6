"""Pulling, pushing and deleting manifests and tags: end-3, end-7 and end-9."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from registry import deletions
from registry.auth.scope import Action
from registry.errors import Header, PreconditionFailed, QueryInvalid, TagsTooMany
from registry.exchange import Exchange
from registry.preconditions import entity_tag, fulfilled, none_match
from storage.digest import Digest
from storage.errors import DigestUnsupported, ManifestUnknown, TagInvalid, Unknown
from storage.manifest import Manifest
from storage.names import Tag, parse_reference
from storage.repository import Mover, Repository

TAGS = 100  # "SHOULD support pushing at least 10 tags per request"
QUICK = 1 << 14  # bytes parsed on the event loop: 16 KiB take about 1 ms, 4 MiB up to 200 ms


async def pull(exchange: Exchange) -> None:
    """end-3, GET and HEAD. Accept is not looked at: there is one manifest, and it is this."""
    repository = exchange.repository
    reference = _sought(exchange.last)
    if exchange.is_head:
        stored = await repository.stat_manifest(reference)
    else:
        stored = await repository.manifest(reference)
    digest = stored.digest
    headers: list[Header] = [
        (b"content-type", stored.media_type.encode()),
        (b"docker-content-digest", digest.text.encode()),
        (b"etag", entity_tag(digest).encode()),
    ]
    if none_match(exchange.header(b"if-none-match"), digest):
        return await exchange.reply(304, headers)
    return await exchange.reply(200, headers, stored.body, length=stored.size)


def _sought(text: str) -> Tag | Digest:
    """The reference of what should be here already.

    What no push could have been for is not here: "If the manifest is not found in the repository,
    the response code MUST be `404 Not Found`". Raises ManifestUnknown, or DigestInvalid for what
    is broken.
    """
    try:
        return parse_reference(text)
    except (TagInvalid, DigestUnsupported) as error:
        raise ManifestUnknown(str(error)) from None


async def push(exchange: Exchange) -> None:
    """end-7: keep the bytes as they are; the tag, or all tags, point to them from then on."""
    repository = exchange.repository
    reference = parse_reference(exchange.last)
    tags = _tags(exchange, reference)
    limit = exchange.registry.manifest_limit
    guard = _guard(exchange, reference)
    overwriting = _overwriting(exchange, repository)
    if guard is not None and exchange.caller is not None:  # it tells what is there
        exchange.caller.demand(Action.PULL, repository.name.text)
    if guard is not None:  # once before the body is read, and again when nothing can come between
        current = None
        with suppress(Unknown):
            current = (await repository.stat_manifest(reference)).digest
        guard(current)
    if isinstance(reference, Digest):  # else it is not known yet what the tag would become
        await repository.refuse_moves(tags, reference, overwriting=overwriting)
    exchange.check_body(limit)
    body = b"".join([piece async for piece in exchange.body(limit)])
    manifest = await _parse(
        body,
        exchange.header(b"content-type"),
        reference if isinstance(reference, Digest) else None,
    )
    before = await repository.put_manifest(
        manifest, tags, guard=guard, overwriting=overwriting, mover=_mover(exchange, repository)
    )
    _tell(exchange, manifest.digest, before)
    headers = [
        (b"location", f"/v2/{exchange.name}/manifests/{manifest.digest}".encode()),
        (b"docker-content-digest", manifest.digest.text.encode()),
    ]
    if manifest.subject is not None and manifest.subject.digest is not None:
        headers.append((b"oci-subject", manifest.subject.digest.text.encode()))
    if tags and isinstance(reference, Digest):
        headers.append((b"oci-tag", ", ".join(map(str, tags)).encode()))
    await exchange.reply(201, headers)
    if tags:
        exchange.registry.moved()


def _tell(exchange: Exchange, digest: Digest, before: Mapping[Tag, Digest | None]) -> None:
    """For the audit, a line for each tag; or one for the manifest, if it has none."""
    for tag, old in before.items():
        detail = f"was {old}" if old is not None else "new"
        exchange.changed("manifest.push", reference=tag.text, digest=digest.text, detail=detail)
    if not before:
        exchange.changed("manifest.push", reference=digest.text, digest=digest.text)


def _guard(exchange: Exchange, reference: Tag | Digest) -> Callable[[Digest | None], None] | None:
    """RFC 9110, section 13.1: a write that expects another state must not be done.

    What is returned is given what the reference stands for, and raises PreconditionFailed.
    """
    if_match = exchange.header(b"if-match")
    if_none_match = exchange.header(b"if-none-match")
    if if_match is None and if_none_match is None:
        return None

    def guard(current: Digest | None) -> None:
        if not fulfilled(if_match, if_none_match, current):
            raise PreconditionFailed(
                f"{reference} is {current or 'not here'}: not what the request was made for"
            )

    return guard


def _overwriting(exchange: Exchange, repository: Repository) -> Callable[[Tag], None] | None:
    """None for who may let a tag point to something else.

    What is returned is given a tag that would, and raises what that is answered with.
    """
    caller, name = exchange.caller, repository.name.text
    if caller is None or caller.may(Action.OVERWRITE, name):
        return None

    def refuse(tag: Tag) -> None:
        # Not what it is: who may push need not be who may pull.
        raise caller.refusal(
            Action.OVERWRITE,
            name,
            f"{caller.principal.text} may not overwrite in {name}, and the tag {tag} is there and"
            " is something else; push under another tag",
        )

    return refuse


def _mover(exchange: Exchange, repository: Repository) -> Mover | None:
    caller = exchange.caller
    if caller is None:
        return None
    return Mover(caller.principal.text, caller.may_deploy(repository.name.text))


def _tags(exchange: Exchange, reference: Tag | Digest) -> Sequence[Tag]:
    """The tags to set, each once. Raises TagInvalid, TagsTooMany and QueryInvalid."""
    asked = exchange.queries("tag")
    if isinstance(reference, Tag):
        if asked:
            raise QueryInvalid("?tag= goes with a push by digest; this one is by tag already")
        return [reference]
    if len(asked) > TAGS:
        raise TagsTooMany(f"{len(asked)} tags in one request; send at most {TAGS}")
    return list(dict.fromkeys(map(Tag.parse, asked)))


async def _parse(body: bytes, content_type: str | None, digest: Digest | None) -> Manifest:
    if len(body) <= QUICK:
        return Manifest.parse(body, content_type=content_type, digest=digest)
    return await asyncio.to_thread(Manifest.parse, body, content_type=content_type, digest=digest)


async def delete(exchange: Exchange) -> None:
    """end-9: a tag alone; or a manifest, and every tag that points to it."""
    repository = exchange.repository
    reference = _sought(exchange.last)
    if isinstance(reference, Tag):
        released = [await repository.delete_tag(reference)]
        exchange.changed("tag.delete", reference=reference.text, digest=released[0].text)
    else:
        released = await repository.delete_manifest(reference)
        exchange.changed("manifest.delete", reference=reference.text, digest=reference.text)
    await exchange.reply(202)
    exchange.registry.moved()
    await deletions.tell(exchange, lambda forecast: forecast.released(repository.name, released))
