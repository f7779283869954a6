"""Listing repositories: the `_catalog` that registries had before the specification."""

from __future__ import annotations

import json

from registry import pagination
from registry.auth.doorman import CATALOG
from registry.exchange import JSON, Exchange
from storage.names import RepositoryName


async def list_repositories(exchange: Exchange) -> None:
    """Pages as the tags do."""
    page = pagination.parse(
        exchange.query("n"), exchange.query("last"), most=exchange.registry.page_limit
    )
    found = await _visible(exchange, after=page.after, limit=page.lookahead)
    shown, more = page.cut([str(name) for name in found])
    headers = [JSON]
    if more:
        link = pagination.link(exchange.path, {"n": page.limit, "last": shown[-1]})
        headers.append((b"link", link))
    await exchange.reply(200, headers, json.dumps({"repositories": shown}).encode())


async def _visible(exchange: Exchange, *, after: str | None, limit: int) -> list[RepositoryName]:
    """What the caller may pull. Raises Unauthorized if that is nothing and he could sign in."""
    store, caller = exchange.registry.store, exchange.caller
    if caller is None:
        return await store.repositories(after=after, limit=limit)
    found = await store.repositories_among(caller.may_pull, after=after, limit=limit)
    if found or (caller.principal.signed_in and caller.principal.bounds != ()):
        return found
    if after is None or not await store.repositories_among(caller.may_pull, after=None, limit=1):
        raise caller.unauthorized(
            f"{caller.principal.text} may see no repository: sign in first, or with a token for"
            " the catalogue",
            CATALOG,
            None if caller.principal.bounds is None else "insufficient_scope",
        )
    return found
