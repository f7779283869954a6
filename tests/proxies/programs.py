"""nginx and HAProxy as docs/proxies.md configures them, before a real server.

Only addresses, files and the log are changed. Each runs in the foreground in a directory of its
own and is ended by its process id.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.servers import PATIENCE, wait_for
from tests.tools import require, run

UNVERIFIED: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What is said is of interest, not to whom; and no list of authorities is read each time."""
UNVERIFIED.check_hostname = False
UNVERIFIED.verify_mode = ssl.CERT_NONE

PAGE: Final = Path(__file__).parents[2] / "docs" / "proxies.md"


@dataclass(frozen=True)
class Passed:
    """One line of a proxy's log."""

    method: str
    path: str
    status: int
    """What the client was told."""
    forwarded: bool
    """Whether it was sent to the server."""


def block(language: str) -> str:
    """The one example of the page in that language."""
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def put(text: str, *changes: tuple[str, str]) -> str:
    """Each old text has to be there once, so that the page and the tests cannot part."""
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in docs/proxies.md"
        text = text.replace(old, new)
    return text


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


class Proxy:
    """`with Nginx(directory, "127.0.0.1:5000") as proxy:` listens on `proxy.port` with TLS."""

    name: str
    command: tuple[str, ...]

    def __init__(self, directory: Path, upstream: str) -> None:
        self.directory = directory
        self.upstream = upstream
        self.port = free_port()
        self.log = directory / "access.log"
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        raise NotImplementedError

    def passed(self) -> list[Passed]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        program = require(self.command[0])
        self.directory.mkdir(parents=True, exist_ok=True)
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", self.directory / "key.pem", "-out", self.directory / "cert.pem"),
        )
        self.configure()
        with self.log.open("wb") as log, (self.directory / "errors.log").open("wb") as errors:
            self._process = subprocess.Popen(
                [program, *self.command[1:]], cwd=self.directory, stdout=log, stderr=errors
            )
        wait_for(self._answers, lambda: f"{self.name} to listen: {self.complaints()}")
        return self

    def complaints(self) -> str:
        return (self.directory / "errors.log").read_text(errors="replace")[-2000:]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended: {self.complaints()}"
        with socket.socket() as probing:
            return probing.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()


class Nginx(Proxy):
    name = "nginx"
    command = ("nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr")

    def configure(self) -> None:
        site = put(
            block("nginx"),
            ("server 127.0.0.1:5000;", f"server {self.upstream};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("/etc/ssl/registry.crt", "cert.pem"),
            ("/etc/ssl/registry.key", "key.pem"),
        )
        where = "\n".join(
            f"{kind}_temp_path {kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.directory / "nginx.conf").write_text(
            "daemon off;\nmaster_process off;\npid nginx.pid;\n"
            "error_log stderr error;\nevents { worker_connections 1024; }\n"
            "http {\n"
            "log_format line escape=json "
            '\'{"method": "$request_method", "path": "$request_uri", "status": $status,'
            ' "upstream": "$upstream_addr"}\';\n'
            f"access_log access.log line;\n{where}\n{site}}}\n"
        )

    def passed(self) -> list[Passed]:
        lines = [json.loads(line) for line in self._lines()]
        return [
            Passed(line["method"], line["path"], line["status"], bool(line["upstream"]))
            for line in lines
        ]


class Haproxy(Proxy):
    name = "haproxy"
    command = ("haproxy", "-db", "-f", "haproxy.cfg")

    def configure(self) -> None:
        parts = [(self.directory / part).read_text() for part in ("cert.pem", "key.pem")]
        (self.directory / "both.pem").write_text("".join(parts))
        site = put(
            block("haproxy"),
            ("127.0.0.1:5000", self.upstream),
            ("bind :443", f"bind 127.0.0.1:{self.port}"),
            ("/etc/haproxy/registry.pem", str(self.directory / "both.pem")),
            (
                "frontend registry\n",
                "frontend registry\n"
                "    log stdout format raw local0\n"
                '    log-format "passed %s %ST %{+Q}r"\n',
            ),
            # More of it than by default, so that clients do share connections.
            ("\nbackend spindle\n", "\nbackend spindle\n    http-reuse always\n"),
        )
        (self.directory / "haproxy.cfg").write_text("global\n    nbthread 1\n" + site)

    def passed(self) -> list[Passed]:
        found = []
        for line in self._lines():
            if not line.startswith("passed "):
                continue  # it says that somebody did not speak TLS
            _, server, status, request = line.split(" ", 3)
            # HAProxy shows what it could not read as <BADREQ>.
            method, _, rest = request.strip('"').partition(" ")
            path = re.sub(r"^https?://[^/]*", "", rest.partition(" ")[0])
            found.append(Passed(method, path, int(status), server == "spindle"))
        return found


PROXIES: Final = (Nginx, Haproxy)
