"""Listing tags: end-8."""

from __future__ import annotations

import json

from registry import pagination
from registry.exchange import JSON, Exchange


async def list_tags(exchange: Exchange) -> None:
    """end-8. In byte order ("ASCIIbetical"), which is what `last` continues in."""
    page = pagination.parse(
        exchange.query("n"), exchange.query("last"), most=exchange.registry.page_limit
    )
    found = await exchange.repository.tags(after=page.after, limit=page.lookahead)
    shown, more = page.cut([str(tag) for tag in found])
    headers = [JSON]
    if more:
        link = pagination.link(exchange.path, {"n": page.limit, "last": shown[-1]})
        headers.append((b"link", link))
    body = json.dumps({"name": exchange.name, "tags": shown}).encode()
    await exchange.reply(200, headers, body)
