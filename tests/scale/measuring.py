"""Fill a store, and tell what it costs: `python -m tests.scale.measuring --blobs 100000`.

Times are of this machine; what does not depend on it is held by the tests beside this.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from storage.digest import SHA256
from storage.filesystem.blobs import FilesystemBlobs
from storage.filesystem.layout import Layout
from storage.names import RepositoryName, Tag
from storage.records.sqlite import SQLite
from storage.store import Store
from tests.servers import Spindle
from tests.storage.content import descriptor, image, push

AT_ONCE: Final = 16
REQUESTS: Final = 200  # of each page
PAGE: Final = 100
REFERRERS: Final = 10_000


async def fill(data: Path, blobs: int, repositories: int, tags: int) -> None:
    layout = Layout.open(data)
    store = await Store.open(await SQLite.open(layout), FilesystemBlobs(layout))
    each = blobs // repositories
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        repository = store.repository(RepositoryName.parse(f"team{number % 100}/app{number:06}"))
        async with turn:
            layers = []
            for layer in range(each):
                content = f"layer {layer} of {number}".encode()
                layers.append(descriptor(await push(repository, content), len(content), "a/b"))
            manifest = image(f"{number}", config=layers[0], layers=layers[1:])
            await repository.put_manifest(manifest, [Tag.parse("latest"), Tag.parse("v1")])

    await asyncio.gather(*map(one, range(repositories)))
    many = store.repository(RepositoryName.parse("zz/tags"))
    names = [Tag.parse(f"v{number:06}") for number in range(tags)]
    for start in range(0, tags, 1000):
        await many.put_manifest(image("many tags"), names[start : start + 1000])
    subject = image("many tags")
    for number in range(REFERRERS):
        named = descriptor(subject.digest, len(subject.body), subject.media_type)
        await many.put_manifest(image(f"{number}", subject=named))
    await store.close()


def asked(registry: str, path: str) -> float:
    """Milliseconds of a page, in the middle of REQUESTS on one connection."""
    connection = http.client.HTTPConnection(registry, timeout=60)
    took = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, (path, answer.status)
    connection.close()
    return statistics.median(took)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--blobs", type=int, default=100_000)
    options.add_argument("--repositories", type=int, default=10_000)
    options.add_argument("--tags", type=int, default=100_000, help="of one repository")
    options.add_argument("--directory", type=Path, help="where; a temporary one otherwise")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="spindle-scale-", dir=chosen.directory) as scratch:
        data = Path(scratch) / "data"
        began = time.perf_counter()
        asyncio.run(fill(data, chosen.blobs, chosen.repositories, chosen.tags))
        print(
            f"filled with {chosen.blobs} blobs in {chosen.repositories} repositories, and one with"
            f" {chosen.tags} tags and {REFERRERS} referrers, in {time.perf_counter() - began:.0f} s"
        )
        server = Spindle(data)
        starts = []
        for _ in range(3):
            began = time.perf_counter()
            server.start()
            starts.append(time.perf_counter() - began)
            server.stop()
        print(f"start to first answer: {statistics.median(starts):.2f} s (median of {len(starts)})")
        subject = SHA256.digest(image("many tags").body)
        with server:
            for path in (
                f"/v2/_catalog?n={PAGE}",
                f"/v2/_catalog?n={PAGE}&last=team5/app000005",
                f"/v2/zz/tags/tags/list?n={PAGE}",
                f"/v2/zz/tags/tags/list?n={PAGE}&last=v{chosen.tags // 2:06}",
                f"/v2/zz/tags/tags/list?n={PAGE}&last=v{chosen.tags - PAGE:06}",
                f"/v2/zz/tags/referrers/{subject}?n={PAGE}",
                "/v2/team5/app000005/tags/list",
            ):
                print(f"{asked(server.registry, path):7.2f} ms  {path}")


if __name__ == "__main__":
    sys.exit(main())
