"""Clients that go on while a server is restarted, and take note of each request that fails.

None tries again: what a client library would hide counts. Each is a thread with a client of
http.client, that goes on with a new connection only when it was told so by an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.asgi import IMAGE, digest_of

LARGE = 8 << 20  # bytes of the blob that is pulled slowly


@dataclass
class Tally:
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, failure: str | None) -> None:
        with self._lock:
            self.done[what] += 1
            if failure is not None:
                self.failed.append(f"{what}: {failure}")


class Client:
    """One connection at a time."""

    def __init__(self, server: str, tally: Tally, *, keep: bool, host: str | None = None) -> None:
        """`keep`: the connection is kept as long as the server does."""
        self._connection = http.client.HTTPConnection(server, timeout=60)
        self._keep = keep
        self._tally = tally
        self._headers = {"Host": host} if host else {}

    def ask(
        self,
        what: str,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        *,
        expect: int = 200,
        pause: float = 0,
        **headers: str,
    ) -> tuple[str, bytes] | None:
        """Location and body of the answer; None if there was no good one. Read with pauses."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        failure: str | None = None
        try:
            self._connection.request(method, path, body, {**self._headers, **named})
            answer = self._connection.getresponse()
            data = b""
            while piece := answer.read(1 << 20):
                data += piece
                time.sleep(pause)
            length = answer.getheader("Content-Length")
            if answer.status != expect:
                failure = f"{answer.status} {data[:200]!r}"
            elif length is not None and method == "GET" and len(data) != int(length):
                failure = f"{len(data)} of {length} bytes"
        except (OSError, http.client.HTTPException) as error:
            failure = repr(error)
        self._tally.note(what, failure)
        if failure is not None or not self._keep:
            self._connection.close()
        return None if failure is not None else (answer.getheader("Location") or "", data)

    def close(self) -> None:
        self._connection.close()


Work = Callable[[Client], object]


def pull(client: Client) -> None:
    found = client.ask("pull a manifest", "GET", "/v2/app/manifests/v1")
    if found is not None:
        digest = json.loads(found[1])["config"]["digest"]
        client.ask("pull a blob", "GET", f"/v2/app/blobs/{digest}")


def push(client: Client) -> None:
    """A blob in one request, one in three, and a manifest of both."""
    data = os.urandom(5000)
    digest = digest_of(data)
    client.ask("push at once", "POST", f"/v2/app/blobs/uploads/?digest={digest}", data, expect=201)
    more = os.urandom(60_000)
    begun = client.ask("begin an upload", "POST", "/v2/app/blobs/uploads/", b"", expect=202)
    if begun is None:
        return
    sent = client.ask("send a chunk", "PATCH", begun[0], more, expect=202)
    if sent is None:
        return
    mark = "&" if "?" in sent[0] else "?"
    path = f"{sent[0]}{mark}digest={digest_of(more)}"
    if client.ask("end an upload", "PUT", path, b"", expect=201) is None:
        return
    manifest = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest,
            "size": len(data),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest_of(more),
                "size": len(more),
            }
        ],
    }
    body = json.dumps(manifest).encode()
    path = f"/v2/app/manifests/t{random.randrange(20)}"
    client.ask("push a manifest", "PUT", path, body, expect=201, content_type=IMAGE)


def push_slowly(client: Client) -> None:
    """An upload that takes longer than a restart."""
    data = os.urandom(100_000)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]
            time.sleep(0.1)

    path = f"/v2/app/blobs/uploads/?digest={digest_of(data)}"
    client.ask("push slowly", "POST", path, pieces(), expect=201, content_length=str(len(data)))


def pull_slowly(blob: str) -> Work:
    """A pull that takes longer than a restart."""
    return lambda client: client.ask("pull slowly", "GET", blob, pause=0.15)


def ask_seldom(client: Client) -> None:
    """Now and then on a connection that rests otherwise: when it ends, a request may be lost."""
    time.sleep(random.uniform(0.01, 1.5))
    client.ask("ask seldom", "GET", "/v2/")


def ask_application(client: Client) -> None:
    client.ask("ask an application", "GET", "/")


class Load:
    """`with Load(...) as tally:` asks all the while."""

    def __init__(self, registry: str, gateway: str, host: str | None, blob: str) -> None:
        self._tally = Tally()
        self._over = threading.Event()
        workers: list[tuple[Work, bool]] = [
            *((pull, True), (pull, True), (pull, False)),
            *((push, True), (push, False)),
            *((push_slowly, True), (push_slowly, False)),
            *((pull_slowly(blob), True), (pull_slowly(blob), False)),
            *((ask_seldom, True) for _ in range(10)),
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(registry, None, *each)) for each in workers
        ]
        if host is not None:
            self._threads += [
                threading.Thread(target=self._run, args=(gateway, host, ask_application, keep))
                for keep in (True, True, False)
            ]

    def _run(self, server: str, host: str | None, work: Work, keep: bool) -> None:
        client = Client(server, self._tally, keep=keep, host=host)
        while not self._over.is_set():
            work(client)
            time.sleep(0.005)
        client.close()

    def __enter__(self) -> Tally:
        for thread in self._threads:
            thread.start()
        return self._tally

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def fill(registry: str) -> str:
    """Push what is pulled: app:v1, and something large, whose path is returned."""
    tally = Tally()
    client = Client(registry, tally, keep=True)
    large = os.urandom(1 << 20) * (LARGE >> 20)
    for data in (b"{}", large):
        path = f"/v2/app/blobs/uploads/?digest={digest_of(data)}"
        client.ask("fill", "POST", path, data, expect=201)
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of(b"{}"),
        "size": 2,
    }
    manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": []}
    body = json.dumps(manifest).encode()
    client.ask("fill", "PUT", "/v2/app/manifests/v1", body, expect=201, content_type=IMAGE)
    client.close()
    assert not tally.failed, tally.failed
    return f"/v2/app/blobs/{digest_of(large)}"
