"""Listing repositories: the `_catalog` that registries had before the specification."""

from __future__ import annotations

import json

from registry import pagination
from registry.exchange import JSON, Exchange


async def list_repositories(exchange: Exchange) -> None:
    """Pages as the tags do."""
    page = pagination.parse(
        exchange.query("n"), exchange.query("last"), most=exchange.registry.page_limit
    )
    found = await exchange.registry.store.repositories(after=page.after, limit=page.lookahead)
    shown, more = page.cut([str(name) for name in found])
    headers = [JSON]
    if more:
        link = pagination.link(exchange.path, {"n": page.limit, "last": shown[-1]})
        headers.append((b"link", link))
    await exchange.reply(200, headers, json.dumps({"repositories": shown}).encode())
