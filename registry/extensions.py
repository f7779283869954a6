"""Which extensions there are: the `_oci` extension of the distribution spec."""

from __future__ import annotations

import json
from typing import Final

from registry.exchange import JSON, Exchange
from storage.names import RepositoryName

_SPEC: Final = "https://github.com/opencontainers/distribution-spec/blob/main"
_OCI: Final = {
    "name": "_oci",
    "url": f"{_SPEC}/extensions/_oci.md",
    "description": "Discovery of extensions",
    "endpoints": ["_oci/ext/discover"],
}
_CATALOG: Final = {
    "name": "_catalog",
    "url": f"{_SPEC}/extensions/README.md",
    "description": "Listing of repositories",
    "endpoints": ["_catalog"],
}


async def discover(exchange: Exchange) -> None:
    """Those of the whole registry."""
    await exchange.reply(200, [JSON], json.dumps({"extensions": [_OCI, _CATALOG]}).encode())


async def discover_in_repository(exchange: Exchange) -> None:
    """Those under the name of a repository, whether or not anything was pushed to it."""
    RepositoryName.parse(exchange.name)
    await exchange.reply(200, [JSON], json.dumps({"extensions": [_OCI]}).encode())
