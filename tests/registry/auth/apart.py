"""A network of its own, in which every forbidden address is ours: run by `unshare --net`.

Prints, as JSON, what became of requests to each of them, and how many connections arrived. There is
no other interface than the loopback one, so nothing can leave it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from registry.auth.outbound import Allowance, NotFetched, Outbound
from tests.registry.auth.lines import Server, response

ADDRESSES: Final = (
    *("10.9.8.7", "172.16.5.4", "192.168.3.2", "100.64.1.1", "169.254.169.254", "198.18.0.1"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "168.63.129.16", "192.0.0.192"),
    *("fd00:ec2::254", "fec0::1", "2001:db8::1", "2002:7f00:1::1", "64:ff9b::a09:807"),
)
# These lead to the others.
ALIASES: Final = ("127.0.0.1", "127.3.2.1", "0.0.0.0", "::1", "::", "::ffff:10.9.8.7")


def take_addresses() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ADDRESSES:
        width = "128" if ":" in address else "32"
        subprocess.run(["ip", "addr", "add", f"{address}/{width}", "dev", "lo"], check=True)


async def main() -> None:
    told = {}
    async with contextlib.AsyncExitStack() as stack:
        four = await stack.enter_async_context(Server(response(b"{}")).serving(host="0.0.0.0"))
        six = Server(response(b"{}"))
        await stack.enter_async_context(six.serving(host="::", port=four.port))
        for address in (*ADDRESSES, *ALIASES):
            before = four.connections + six.connections
            refusals = [await asked(url, address) for url in urls(address, four.port)]
            after = four.connections + six.connections
            told[address] = {
                "refusals": refusals,
                "arrived": after - before,
                "there": await connects(address, four.port),
            }
    json.dump(told, sys.stdout)


def urls(address: str, port: int) -> list[str]:
    host = f"[{address}]" if ":" in address else address
    return [
        f"{scheme}://{name}:{port}/" for scheme in ("http", "https") for name in (host, "name.test")
    ]


async def asked(url: str, address: str) -> str:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return [address]

    hosts = frozenset({"name.test", address})
    try:
        body = await Outbound(resolve=resolve, time=0.5).fetch(url, Allowance(insecure=hosts))
    except NotFetched as error:
        return f"{type(error).__name__}: {error}"
    return f"fetched: {body!r}"


async def connects(address: str, port: int) -> bool:
    """The control: whether a connection would have arrived."""
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


if __name__ == "__main__":
    take_addresses()
    asyncio.run(main())
