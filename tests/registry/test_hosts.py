"""No answer names a scheme or a host, whatever a client says that ours are.

What is told so would lead clients, and caches in between, to wherever an attacker wants.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from registry import v2
from registry.deploy.api import OPERATIONS
from tests.asgi import digest_of, image
from tests.servers import Spindle

EVIL = "evil.example"
LIES = {
    "Host": EVIL,
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Server": EVIL,
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": f"//{EVIL}",
    "X-Original-URL": f"http://{EVIL}/",
    "Forwarded": f"for=192.0.2.1;host={EVIL};proto=gopher",
    "Origin": f"http://{EVIL}",
    "Referer": f"http://{EVIL}/",
}

SPECIFICATION = "https://github.com/opencontainers/distribution-spec/"  # of the extensions

BLOB = digest_of(b"{}")
NAMES = {
    "a manifest": ("a/b", "latest"),
    "a blob": ("a/b", BLOB),
    "nothing": ("no/where", "nothing"),
    "no name": ("NO", "!"),
}


def _v2_paths() -> Iterator[tuple[v2.Methods, str]]:
    yield v2.BASE, "/v2/"
    yield v2.BASE, "/v2"
    yield v2.CATALOG, "/v2/_catalog"
    yield v2.CATALOG, "/v2/_catalog?n=1"
    yield v2.EXTENSIONS, "/v2/_oci/ext/discover"
    for name, last in NAMES.values():
        yield v2.REPOSITORY_EXTENSIONS, f"/v2/{name}/_oci/ext/discover"
        yield v2.MANIFESTS, f"/v2/{name}/manifests/{last}"
        yield v2.BLOBS, f"/v2/{name}/blobs/{last}"
        yield v2.UPLOADS, f"/v2/{name}/blobs/uploads/"
        yield v2.UPLOADS, f"/v2/{name}/blobs/uploads"
        yield v2.UPLOADS, f"/v2/{name}/blobs/uploads/?mount={BLOB}&from=a/b"
        yield v2.UPLOADS, f"/v2/{name}/blobs/uploads/?digest={BLOB}"
        yield v2.UPLOAD, f"/v2/{name}/blobs/uploads/{last}"
        yield v2.TAGS, f"/v2/{name}/tags/list"
        yield v2.TAGS, f"/v2/{name}/tags/list?n=1"
        yield v2.REFERRERS, f"/v2/{name}/referrers/{last}"


V2 = [(method, path) for methods, path in _v2_paths() for method in (*methods, "OPTIONS")]
V1 = [
    (operation.method, path.replace("{repository}", name).replace("{number}", "1"))
    for operation in OPERATIONS
    for name in ("a/b", "no/where", "NO")
    for path in (operation.path, operation.path + "/", f"/{operation.path}")
]
OTHERS = [("GET", path) for path in ("/", "/v1", "/v1/", "/v3/", "//", "/v2//", "/../v2/")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    with Spindle(tmp_path_factory.mktemp("hosts") / "data") as running:
        yield running


def ask(
    server: Spindle, method: str, path: str, body: bytes = b"", **fields: str
) -> tuple[int, str]:
    """Status, and head and body as one text."""
    host, _, port = server.registry.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, body or None, {**LIES, **fields})
        answer = connection.getresponse()
        head = "".join(f"{name}: {value}\n" for name, value in answer.getheaders())
        return answer.status, head + answer.read().decode("latin-1")
    finally:
        connection.close()


def test_every_route_of_the_registry_is_asked() -> None:
    asked = {id(methods) for methods, _ in _v2_paths()}
    tables = [value for value in vars(v2).values() if isinstance(value, dict)]
    routed = [
        table for table in tables if table and isinstance(next(iter(table.values())), v2.Route)
    ]
    assert routed
    assert asked == {id(table) for table in routed}


def test_no_answer_names_a_scheme_or_a_host(server: Spindle) -> None:
    ask(server, "POST", f"/v2/a/b/blobs/uploads/?digest={BLOB}", b"{}")
    media = json.loads(image())["mediaType"]
    for tag in ("latest", "other"):
        fields = {"Content-Type": media}
        status, _ = ask(server, "PUT", f"/v2/a/b/manifests/{tag}", image(), **fields)
        assert status == 201
    statuses = set()
    for method, path in [*V2, *V1, *OTHERS]:
        if (method, path) == ("GET", "/v1/openapi.json"):
            continue  # a constant; its schemas have addresses of their own
        status, text = ask(server, method, path)
        statuses.add(status)
        assert EVIL not in text, (method, path, text)
        assert "://" not in text.replace(SPECIFICATION, ""), (method, path, text)
        assert "gopher" not in text
        if location := [line for line in text.splitlines() if line.lower().startswith("location:")]:
            assert location[0].partition(": ")[2].startswith("/v2/"), (method, path)
    assert statuses >= {200, 201, 202, 404, 405}


def test_the_description_of_the_api_is_the_same_for_everybody(server: Spindle) -> None:
    assert EVIL not in ask(server, "GET", "/v1/openapi.json")[1]
