"""Canaries: secrets that are sent to a server in every way there is, and must turn up nowhere.

A row of CANARIES is one way to send one. Whoever adds a way to sign in adds a row.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.demo import component
from tests.deploy.oras import locked_app, push
from tests.registry.auditing import lines as audit_lines
from tests.servers import SPINDLE, Spindle, get
from tests.tools import run

NAME = "acme/shop"


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def unpadded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def jwt(secret: str) -> str:
    head = unpadded('{"alg":"ES256","typ":"JWT","kid":"1"}')
    return f"{head}.{unpadded(json.dumps({'sub': 'user:ada', 'jti': secret}))}.{unpadded(secret)}"


@dataclass(frozen=True)
class Canary:
    name: str
    secret: str
    target: str = "/v2/"
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    body: str = ""

    @property
    def spellings(self) -> list[str]:
        """As it was sent, and as somebody may have written it down."""
        told = [self.secret, unpadded(self.secret), self.secret.encode().hex()]
        for name, value in self.headers:
            if name in ("Authorization", "Cookie"):
                told += [value, value.rpartition(" ")[2], *value.rpartition(" ")[2].split(".")[1:]]
        return [text for text in told if len(text) > 7]


def in_header(name: str, secret: str, value: str, **request: str) -> Canary:
    return Canary(name, secret, headers=(("Authorization", value),), **request)  # type: ignore[arg-type]


CANARIES = (
    in_header("a password", "canary-basic-1", basic("ada", "canary-basic-1")),
    in_header("a password typed as a name", "canary-basic-2", basic("canary-basic-2", "")),
    in_header(
        *("a password of a push", "canary-basic-3", basic("ada", "canary-basic-3")),
        method="PUT",
        target=f"/v2/{NAME}/manifests/v1",
        body="{",
    ),
    in_header("what is not base64", "canary-basic-4", "Basic canary-basic-4"),
    in_header("a robot's token", "spt_1_canaryrobot", "Bearer spt_1_canaryrobot"),
    in_header("a robot's token in Basic", "spt_1_canarybasic", basic("x", "spt_1_canarybasic")),
    in_header("a JWT", "canary-jwt-1", f"Bearer {jwt('canary-jwt-1')}"),
    in_header(
        *("a JWT for the other API", "canary-jwt-2", f"Bearer {jwt('canary-jwt-2')}"),
        target="/v1/apps",
    ),
    in_header("no scheme that there is", "canary-scheme", "Digest canary-scheme"),
    Canary("a cookie", "canary-cookie", headers=(("Cookie", "session=canary-cookie"),)),
    Canary("a query", "canary-query-1", f"/v2/{NAME}/manifests/v1?token=canary-query-1"),
    Canary("a query of an upload", "canary-query-2", f"/v2/{NAME}/blobs/uploads/?digest=sha256:"
           f"{'a' * 64}&token=canary-query-2", method="POST", body="x"),
    Canary("a query of the token service", "canary-query-3", "/auth/token?account=a&password="
           "canary-query-3&scope=repository:acme/shop:pull"),
    Canary("a state", "canary-state", f"/v2/{NAME}/blobs/uploads/?_state=canary-state",
           method="POST"),
    Canary("a form", "canary-form", "/auth/token", (
        ("Content-Type", "application/x-www-form-urlencoded"),), "POST",
        "grant_type=password&username=ada&password=canary-form&service=spindle"),
    Canary("a name and a password before the host", "canary-userinfo",
           "http://ada:canary-userinfo@localhost/v2/"),
    Canary("a name and a password in the Host", "canary-host",
           headers=(("Host", "ada:canary-host@localhost"),)),
    Canary("a session of an upload", "canarysession0123456789abcdef0123",
           f"/v2/{NAME}/blobs/uploads/canarysession0123456789abcdef0123", method="PATCH",
           body="x"),
    Canary("a session, spelled otherwise", "canarysession9876543210abcdef0123",
           f"/v2/{NAME}/blobs/uplo%61ds/canarysession9876543210abcdef0123?digest=x", method="PUT"),
    Canary("a header nobody knows", "canary-header", headers=(("X-Registry-Auth", "canary-header"),
           ("Proxy-Authorization", "Basic canary-header"), ("X-Api-Key", "canary-header"))),
    Canary("a body that is no JSON", "canary-json", f"/v1/apps/{NAME}/_settings", (), "PATCH",
           '{"variables": {"key": "canary-json"'),
    Canary("a value that cannot be", "canary-value", f"/v1/apps/{NAME}/_settings", (), "PATCH",
           '{"variables": {"key": ["canary-value"]}}'),
    Canary("a method that there is not", "canary-method", headers=(
        ("Authorization", "Bearer canary-method"),), method="BREW"),
    Canary("a request that is none", "canary-broken", headers=(
        ("Authorization", "Bearer canary-broken"), ("Bad Header", "x"))),
)  # fmt: skip


def send(server: Spindle, canary: Canary) -> bytes:
    """As it is, whatever a library would think of it; returns what is answered."""
    host, _, port = server.registry.rpartition(":")
    given = {name.lower() for name, _ in canary.headers}
    fields = [*canary.headers, ("Connection", "close")]
    if "host" not in given:
        fields.append(("Host", server.registry))
    if canary.body or canary.method in ("PUT", "POST", "PATCH"):
        fields.append(("Content-Length", str(len(canary.body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = f"{canary.method} {canary.target} HTTP/1.1\r\n{head}\r\n{canary.body}"
    answer = b""
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request.encode())
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
    return answer


def children(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from children(int(child))


def processes(server: Spindle) -> dict[str, bytes]:
    """What everybody on the machine, or of the same user, can read of them."""
    return {
        f"/proc/{pid}/{what}": Path(f"/proc/{pid}/{what}").read_bytes()
        for pid in children(server.pid)
        for what in ("cmdline", "environ", "comm")
    }


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def found(places: dict[str, bytes], spellings: list[str]) -> list[tuple[str, str]]:
    return [
        (place, text)
        for place, content in places.items()
        for text in spellings
        if text.encode() in content
    ]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_that_is_sent_turns_up_anywhere(tmp_path: Path, form: str) -> None:
    data = tmp_path / "data"
    settings = ("log.level=debug", f"log.format={form}", "audit.enabled=true", "registry.workers=2")
    with Spindle(data, *(part for one in settings for part in ("--set", one))) as server:
        own = {canary.name: send(server, canary) for canary in CANARIES}
        places = processes(server)
        for path in ("/v1/apps", "/v1/openapi.json", "/v2/", "/v2/_catalog", f"/v1/apps/{NAME}"):
            places[path] = get(f"http://{server.registry}{path}")[1]
    places |= files_of(data)
    places["the log"] = server.log.read_bytes()
    assert len(places) > 10
    assert b"request" in places["the log"]

    for canary in CANARIES:
        assert own[canary.name].startswith(b"HTTP/1.1 "), canary.name
        assert found(places, canary.spellings) == [], canary.name


def test_a_secret_of_an_app_is_only_where_it_has_to_be(tmp_path: Path) -> None:
    data, secret = tmp_path / "data", "canary-variable"
    settings = ("--set", "log.level=debug", "--set", "audit.enabled=true")
    with Spindle(data, *settings) as server:
        url = f"http://{server.registry}"
        run(SPINDLE, "apps", "set", "acme/hello", f"api_key={secret}", "--server", url)
        wasm = component("with a key")
        locked = locked_app("hello", wasm, variables={"api_key": {"secret": True}})
        digest = push(server, tmp_path / "v1", "acme/hello:latest", locked, wasm)
        server.wait_live("acme/hello", digest)
        places = processes(server)
        assert len(places) > 3  # those of the app are among them
        for path in ("acme/hello", "acme/hello/_settings", "acme/hello/_events"):
            places[path] = get(f"{url}/v1/apps/{path}")[1]
    files = files_of(data)
    # The records keep it, for the app to have it after a restart.
    kept = {place for place, _ in found(files, [secret])}
    assert {place.partition("-")[0] for place in kept} <= {"records.db"}
    places |= {place: content for place, content in files.items() if place not in kept}
    places["the log"] = server.log.read_bytes()
    assert found(places, [secret, unpadded(secret)]) == []
    actions = [line["action"] for line in audit_lines(data / "audit")]
    assert "app.configure" in actions
    assert "app.live" in actions


ODD = ("\x1b[2K", "\u2028", "\u202e", "\x85", "\x7f", "\x9b1m")


@pytest.mark.parametrize("form", ["json", "text"])
def test_odd_characters_come_out_escaped(tmp_path: Path, form: str) -> None:
    data = tmp_path / "data"
    settings = ("log.level=debug", f"log.format={form}", "audit.enabled=true")
    with Spindle(data, *(part for one in settings for part in ("--set", one))) as server:
        for odd in ODD:
            quoted = "".join(f"%{byte:02x}" for byte in odd.encode())
            for target in (f"/v2/acme{quoted}/manifests/v1", f"/v2/acme{odd}/manifests/v1"):
                for method in ("GET", "DELETE"):
                    send(server, Canary("", "", target, (("User-Agent", f"a{odd}"),), method))
            large = (("Content-Length", "999999999"), ("User-Agent", odd))
            send(server, Canary("", "", f"/v2/acme/manifests/v{quoted}1", large, "PUT"))
            name = basic(f"ada{odd}", "x")
            send(server, Canary("", "", "/v2/", (("Authorization", name),)))
        send(server, Canary("", "", "/v2/acme%0d%0aforged: 1/manifests/v1"))
    for path in (server.log, *(data / "audit").glob("*.jsonl")):
        text = path.read_bytes()
        colours = re.compile(rb"\x1b\[[0-9]{1,2}m")  # of the text form itself
        bytes_of = set(colours.sub(b"", text) if form == "text" else text)
        assert bytes_of <= {*range(0x20, 0x7F), 0x0A}
        assert text.count(b"\nforged") == 0


_FAILING = """
import structlog
from registry import logs
from registry.settings import LogSettings

logs.configure(LogSettings("debug", {form!r}))

def sign_in(password):
    raise ValueError("no \\x1b[31m\\u2028")

try:
    sign_in("canary-" + "local")
except ValueError:
    structlog.get_logger().exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_does_not_show_what_variables_hold(form: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FAILING.format(form=form)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "sign_in" in ended.stderr
    assert "canary-local" not in ended.stderr
    assert ended.stderr.isascii()
    assert "no \x1b" not in ended.stderr
