"""What a request leaves in the audit: each change, each refusal, and nothing of a pull."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry import auditing
from registry.audit_log import AuditLog
from registry.errors import Denied, TooManyRequests, Unauthorized
from registry.exchange import Exchange
from storage.filesystem import calls
from tests.asgi import IMAGE, Registry, digest_of, image, open_store
from tests.registry.auditing import check, lines, open_log, told
from tests.servers import Spindle, get

NAME = "acme/shop"
BLOB = b"a blob"
DIGEST = digest_of(BLOB)


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[AuditLog]:
    async with open_log(tmp_path / "audit") as opened:
        yield opened


@pytest.fixture
async def registry(tmp_path: Path, audit: AuditLog) -> AsyncIterator[Registry]:
    async with open_store(tmp_path / "data") as store:
        yield Registry(store, audit=audit, manifest_limit=4096)


def done(action: str, status: int, **fields: object) -> dict[str, Any]:
    return {
        "action": action,
        "outcome": "done",
        "principal": "anybody",
        "repository": NAME,
        "status": status,
        **fields,
    }


def refused(action: str, status: int, **fields: object) -> dict[str, Any]:
    return {**done(action, status, **fields), "outcome": "refused"}


async def test_a_blob_is_told_however_it_comes(registry: Registry, tmp_path: Path) -> None:
    await registry.push_blob(NAME, BLOB)
    session = await registry.start_upload(NAME)
    await registry("PATCH", session, body=BLOB)
    await registry("PUT", f"{session}?digest={DIGEST}")
    await registry("POST", f"/v2/{NAME}/blobs/uploads/?mount={DIGEST}&from=acme/other")
    await registry("POST", f"/v2/acme/copy/blobs/uploads/?mount={DIGEST}&from={NAME}")
    cancelled = await registry.start_upload(NAME)
    await registry("DELETE", cancelled)
    await registry("DELETE", f"/v2/{NAME}/blobs/{DIGEST}")

    push = done("blob.push", 201, digest=DIGEST)
    mount = {**done("blob.mount", 201, digest=DIGEST), "repository": "acme/copy"}
    assert told(tmp_path / "audit") == [
        push,
        push,
        {**mount, "detail": f"from {NAME}"},
        done("blob.delete", 202, digest=DIGEST),
    ]


async def test_a_manifest_is_told_with_each_tag_and_what_that_was(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = image(), image(annotations={"n": "2"})
    old, new = digest_of(first), digest_of(second)
    await registry.push_blob(NAME, b"{}")
    await registry.push_manifest(NAME, "v1", first)
    await registry.push_manifest(NAME, "v1", first)
    await registry.push_manifest(NAME, f"{new}?tag=v1&tag=v2", second)
    await registry.push_manifest(NAME, old, first)
    await registry("DELETE", f"/v2/{NAME}/manifests/v2")
    await registry("DELETE", f"/v2/{NAME}/manifests/{new}")

    def push(tag: str, digest: str, **detail: str) -> dict[str, Any]:
        return done("manifest.push", 201, reference=tag, digest=digest, **detail)

    assert told(tmp_path / "audit")[1:] == [
        push("v1", old, detail="new"),
        push("v1", old, detail=f"was {old}"),
        push("v1", new, detail=f"was {old}"),
        push("v2", new, detail="new"),
        push(old, old),
        done("tag.delete", 202, reference="v2", digest=new),
        done("manifest.delete", 202, reference=new, digest=new),
    ]


async def test_neither_a_pull_nor_what_went_wrong_otherwise_is_told(
    registry: Registry, tmp_path: Path
) -> None:
    await registry("GET", "/v2/")
    await registry("GET", f"/v2/{NAME}/manifests/v1")
    await registry("PUT", f"/v2/{NAME}/manifests/v1", body=b"{", headers={"Content-Type": IMAGE})
    await registry("DELETE", f"/v2/{NAME}/blobs/{DIGEST}")
    await registry.start_upload(NAME)
    assert told(tmp_path / "audit") == []


async def test_to_ask_how_to_sign_in_is_no_refusal(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every client begins like that, each time."""

    async def challenges(exchange: Exchange) -> None:
        raise Unauthorized("sign in first")

    from registry import v2

    monkeypatch.setitem(v2.BASE, "GET", v2.Route(v2.BASE["GET"].need, challenges))  # type: ignore[index]
    assert (await registry("GET", "/v2/")).status == 401
    assert told(tmp_path / "audit") == []
    wrong = {"Authorization": "Basic eDp4"}
    assert (await registry("GET", "/v2/", headers=wrong)).status == 401
    assert len(told(tmp_path / "audit")) == 1


async def test_what_is_too_large_is_a_refusal(registry: Registry, tmp_path: Path) -> None:
    answer = await registry.push_manifest(NAME, "v1", b"x" * 5000)
    assert answer.status == 413
    assert told(tmp_path / "audit") == [refused("manifest.push", 413, reference="v1")]


@pytest.mark.parametrize(
    ("error", "status"),
    [(Unauthorized("no"), 401), (Denied("no"), 403), (TooManyRequests("no", after=1), 429)],
)
@pytest.mark.parametrize(
    ("method", "path", "action", "reference"),
    [
        ("GET", "/v2/", "request.pull", ""),
        ("GET", f"/v2/{NAME}/manifests/v1", "manifest.pull", "v1"),
        ("DELETE", f"/v2/{NAME}/blobs/{DIGEST}", "blob.delete", DIGEST),
        ("POST", f"/v2/{NAME}/blobs/uploads/", "blob.push", ""),
        ("PATCH", f"/v2/{NAME}/blobs/uploads/canary-session", "blob.push", ""),
    ],
)
async def test_every_refusal_is_told_whoever_refuses(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    method: str,
    path: str,
    action: str,
    reference: str,
) -> None:
    async def refuses(exchange: Exchange) -> None:
        raise error

    from registry import v2

    for methods in (v2.BASE, v2.MANIFESTS, v2.BLOBS, v2.UPLOADS, v2.UPLOAD):
        if method in methods:
            monkeypatch.setitem(methods, method, v2.Route(methods[method].need, refuses))  # type: ignore[arg-type]

    answer = await registry(method, path, headers={"Authorization": "Basic eDp4"})

    assert answer.status == status
    [line] = told(tmp_path / "audit")
    assert (line["action"], line["outcome"], line["status"]) == (action, "refused", status)
    assert line.get("reference", "") == reference
    assert "canary" not in json.dumps(lines(tmp_path / "audit"))


async def test_a_line_is_durable_before_the_answer_begins(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, begin = calls.fdatasync, Exchange._head
    await registry.push_blob(NAME, b"{}")  # the first one makes the file

    def synced(file: int) -> None:
        sync(file)
        steps.append(Path(f"/proc/self/fd/{file}").readlink().suffix)

    def began(exchange: Exchange, status: int, *rest: Any) -> Any:
        steps.append(str(status))
        return begin(exchange, status, *rest)

    monkeypatch.setattr(calls, "fdatasync", synced)
    monkeypatch.setattr(Exchange, "_head", began)
    await registry.push_manifest(NAME, "v1", image())

    assert steps[-2:] == [".jsonl", "201"]


async def test_without_room_for_the_audit_no_change_is_begun_and_pulls_go_on(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.push_image(NAME, "v1")
    real = calls.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        if Path(f"/proc/self/fd/{file}").readlink().suffix == ".jsonl":
            raise OSError(28, "No space left on device")
        return real(file, data, at)

    with monkeypatch.context() as patched:
        patched.setattr(calls, "pwrite", full)
        # The first one finds out, too late for itself: it is told later.
        assert (await registry("DELETE", f"/v2/{NAME}/manifests/v1")).status == 507
        before = registry.moves
        other = image(annotations={"n": "2"})
        assert (await registry.push_manifest(NAME, "v2", other)).status == 507
        assert (await registry("DELETE", f"/v2/{NAME}/blobs/{DIGEST}")).status == 507
        assert registry.moves == before
        assert (await registry("GET", f"/v2/{NAME}/manifests/v2")).status == 404
        assert (await registry("GET", f"/v2/{NAME}/manifests/{digest_of(image())}")).status == 200

    assert (await registry.push_manifest(NAME, "v3", image())).status == 201
    actions = [line["action"] for line in lines(tmp_path / "audit")]
    assert actions[-3:] == ["audit.late", "tag.delete", "manifest.push"]
    assert check(tmp_path / "audit").broken is None


async def test_text_of_a_client_can_neither_end_a_line_nor_steer_a_terminal(
    registry: Registry, tmp_path: Path
) -> None:
    odd = "%0d%0a%1b[31m%e2%80%a8"
    await registry.push_manifest(f"{NAME}{odd}", f"v1{odd}", b"x" * 5000)
    await registry("DELETE", f"/v2/{NAME}/manifests/\x1b[31m")
    raw = b"".join(path.read_bytes() for path in (tmp_path / "audit").glob("*.jsonl"))
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)
    assert raw.count(b"\n") == len(lines(tmp_path / "audit"))


# Over HTTP


class Worker(threading.Thread):
    """One client with repositories of its own: what it did, and what should be told of it."""

    def __init__(self, address: str, number: int, count: int) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._random = random.Random(number)
        self._names = [f"team{number}/a", f"team{number}/b"]
        self._count = count
        self.expected: dict[str, list[tuple[str, ...]]] = {name: [] for name in self._names}
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(self._count):
                self._act()
        except BaseException as error:
            self.failed = error
        finally:
            self._connection.close()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def _tell(self, name: str, status: int, action: str, reference: str, digest: str) -> None:
        if status in auditing.REFUSED:
            line = (action, "refused", reference, "", str(status))
        elif status < 300:
            line = (action, "done", reference, digest, str(status))
        else:
            return
        self.expected[name].append(line)

    def _act(self) -> None:
        draw, name = self._random, self._random.choice(self._names)
        data = b"blob %d" % draw.randrange(20)
        digest, tag = digest_of(data), f"t{draw.randrange(5)}"
        body = image(annotations={"n": str(draw.randrange(10))})
        manifest = digest_of(body)
        base = f"/v2/{name}"
        match draw.randrange(9):
            case 0 | 1:
                status = self.ask("POST", f"{base}/blobs/uploads/?digest={digest}", data)
                self._tell(name, status, "blob.push", "", digest)
            case 2:
                status = self.ask("DELETE", f"{base}/blobs/{digest}")
                self._tell(name, status, "blob.delete", "", digest)
            case 3 | 4:
                status = self.ask("PUT", f"{base}/manifests/{tag}", body, **{"Content-Type": IMAGE})
                self._tell(name, status, "manifest.push", tag, manifest)
            case 5:
                status = self.ask("DELETE", f"{base}/manifests/{tag}")
                # What it was is for the server to tell.
                self._tell(name, status, "tag.delete", tag, "?")
            case 6:
                status = self.ask("DELETE", f"{base}/manifests/{manifest}")
                self._tell(name, status, "manifest.delete", manifest, manifest)
            case 7:
                other = self._names[name == self._names[0]]
                query = f"mount={digest}&from={other}"
                status = self.ask("POST", f"{base}/blobs/uploads/?{query}")
                if status == 201:
                    self._tell(name, status, "blob.mount", "", digest)
            case _:
                large = {"Content-Type": IMAGE, "Content-Length": "90000"}
                self._connection.putrequest("PUT", f"{base}/manifests/{tag}")
                for key, value in large.items():
                    self._connection.putheader(key, value)
                self._connection.endheaders()
                answer = self._connection.getresponse()
                answer.read()
                self._connection.close()
                self._tell(name, answer.status, "manifest.push", tag, "")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_journal_of_clients_and_the_audit_are_the_same(tmp_path: Path, workers: int) -> None:
    arguments = ("--set", "audit.enabled=true", "--set", f"registry.workers={workers}")
    limits = ("--set", "limits.manifest=64KiB", "--set", "audit.size=100KiB")
    with Spindle(tmp_path / "data", *arguments, *limits) as server:
        clients = [Worker(server.registry, number, 250) for number in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert [client.failed for client in clients] == [None] * 4

    found: dict[str, list[tuple[str, ...]]] = {}
    for line in told(tmp_path / "data" / "audit"):
        digest = "?" if line["action"] == "tag.delete" else line.get("digest", "")
        reference = line.get("reference", "")
        row = (line["action"], line["outcome"], reference, digest, str(line["status"]))
        found.setdefault(line["repository"], []).append(row)
    expected = {name: told for client in clients for name, told in client.expected.items()}
    assert found == expected
    assert sum(map(len, expected.values())) > 300
    outcomes = Counter(line[1] for told in expected.values() for line in told)
    assert outcomes["refused"] > 30
    assert check(tmp_path / "data" / "audit").broken is None


def test_the_log_of_requests_and_the_audit_have_the_same_id(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "audit.enabled=true") as server:
        url = f"http://{server.registry}/v2/{NAME}/blobs/uploads/?digest={DIGEST}"
        get(url, method="POST", data=BLOB, headers={"X-Request-Id": "from-the-proxy-7"})
    [line] = [line for line in lines(tmp_path / "data/audit") if line["action"] == "blob.push"]
    assert line["request"] == "from-the-proxy-7"
    assert line["address"] == "127.0.0.1"


def test_settings_of_an_app_are_told_without_a_value(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "audit.enabled=true") as server:
        url = f"http://{server.registry}/v1/apps/{NAME}/_settings"
        change = {"variables": {"password": "canary", "gone": None}, "health_path": "/up"}
        assert get(url, method="PATCH", data=json.dumps(change).encode())[0] == 200
        assert get(url, method="PATCH", data=b"x" * (3 << 20))[0] == 413
        assert get(url, method="PATCH", data=b"{")[0] == 400
        assert get(url)[0] == 200
    detail = "set password, removed gone, health path"
    assert told(tmp_path / "data/audit") == [
        done("app.configure", 200, detail=detail),
        refused("app.configure", 413),
    ]
    assert "canary" not in json.dumps(lines(tmp_path / "data/audit"))


def test_a_server_tells_when_it_begins_and_ends_and_where_the_audit_is(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data", "--set", "audit.enabled=true") as server:
        [pid] = server.processes
    own = [line for line in lines(tmp_path / "data/audit") if line["action"] != "audit.begin"]
    assert [line["action"] for line in own] == ["server.start", "server.stop"]
    assert {line["principal"] for line in own} == {"system:server"}
    assert f"process {pid}" in own[0]["detail"]
    logged = [json.loads(line) for line in server.log.read_text().splitlines()]
    heads = [line["head"] for line in logged if line["event"] == "audit"]
    assert heads[-1] == str(check(tmp_path / "data/audit").head)
    assert len(heads) == 2


@pytest.mark.parametrize("setting", [(), ("--set", "audit.enabled=false")])
def test_nothing_is_told_where_nobody_asked_for_it(
    tmp_path: Path, setting: tuple[str, ...]
) -> None:
    with Spindle(tmp_path / "data", *setting) as server:
        get(f"http://{server.registry}/v2/{NAME}/blobs/uploads/?digest={DIGEST}", method="POST")
    assert not (tmp_path / "data/audit").exists()
