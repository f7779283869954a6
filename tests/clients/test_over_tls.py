"""A server with a certificate of `spindle cert self-signed`, and clients that are told to trust it.

By an address: some clients ask `localhost` without TLS whatever they are told.
"""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.layouts import Layout, contents
from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import require, run

Words = list[str | Path]


def certify(directory: Path) -> ssl.SSLContext:
    run(SPINDLE, "cert", "self-signed", "--host", "127.0.0.1", "--out", directory, "--force")
    return ssl.create_default_context(cafile=directory / "authority.pem")


def serving(directory: Path, *arguments: str) -> Spindle:
    tls = directory / "tls"
    trust = certify(tls)
    server = Spindle(
        directory / "data",
        *("--set", f"tls.certificate={tls / 'certificate.pem'}"),
        *("--set", f"tls.key={tls / 'key.pem'}"),
        *arguments,
    )
    server.trust = trust
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    with serving(tmp_path_factory.mktemp("over_tls")) as running:
        assert running.scheme == "https"
        yield running


@pytest.fixture
def trusting(server: Spindle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authority's file; and the environment and directory in which clients find it."""
    authority = server.data.with_name("tls") / "authority.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    certs = tmp_path / "certs"
    certs.mkdir()
    (certs / "ca.crt").write_bytes(authority.read_bytes())
    return authority


# program, then copy in (layout:tag, ref) and out (ref, layout)
CLIENTS: dict[str, tuple[Callable[..., Words], Callable[..., Words]]] = {
    "oras": (
        lambda layout, ref, ca, certs: [
            *("oras", "cp", "--from-oci-layout", f"{layout}:v1", "--to-ca-file", ca, ref),
        ],
        lambda ref, layout, ca, certs: [
            *("oras", "cp", "--from-ca-file", ca, ref, "--to-oci-layout", f"{layout}:out"),
        ],
    ),
    "crane": (
        lambda layout, ref, ca, certs: ["crane", "push", "--index", layout, ref],
        lambda ref, layout, ca, certs: ["crane", "pull", "--format", "oci", ref, layout],
    ),
    "skopeo": (
        lambda layout, ref, ca, certs: [
            *("skopeo", "copy", "--all", "--dest-cert-dir", certs),
            *(f"oci:{layout}:v1", f"docker://{ref}"),
        ],
        lambda ref, layout, ca, certs: [
            *("skopeo", "copy", "--all", "--src-cert-dir", certs),
            *(f"docker://{ref}", f"oci:{layout}:out"),
        ],
    ),
    "regctl": (
        lambda layout, ref, ca, certs: ["regctl", "image", "copy", f"ocidir://{layout}:v1", ref],
        lambda ref, layout, ca, certs: ["regctl", "image", "copy", ref, f"ocidir://{layout}:out"],
    ),
}


@pytest.mark.parametrize("program", CLIENTS)
def test_what_was_copied_in_comes_out_byte_for_byte(
    program: str, server: Spindle, trusting: Path, tmp_path: Path
) -> None:
    require(program)
    layout = Layout(tmp_path / "in")
    layout.tag(layout.image(seed=1), "v1")
    ref = f"{server.registry}/tls/{program}:v1"
    copy_in, copy_out = CLIENTS[program]
    run(*copy_in(layout.directory, ref, trusting, tmp_path / "certs"))
    run(*copy_out(ref, tmp_path / "out", trusting, tmp_path / "certs"))
    assert contents(layout.directory).items() <= contents(tmp_path / "out").items()


def test_a_client_that_does_not_trust_it_says_so(server: Spindle, tmp_path: Path) -> None:
    for program in ("oras", "curl"):
        require(program)
    assert "certificate" in run("oras", "repo", "ls", server.registry, ok=False)
    assert "certificate" in run("curl", "-sS", f"https://{server.registry}/v2/", ok=False)


def test_curl_trusts_it_with_cacert(server: Spindle, trusting: Path) -> None:
    require("curl")
    url = f"https://{server.registry}/v2/"
    assert run("curl", "-sS", "--fail", "--cacert", trusting, url) == "{}"
    for old in ("--tlsv1.1", "--tls-max", "1.1"), ("--ciphers", "AES128-SHA", "--tls-max", "1.2"):
        run("curl", "-sS", "--cacert", trusting, *old, url, ok=False)


def test_our_own_commands_ask_over_tls(server: Spindle, trusting: Path) -> None:
    url = f"https://{server.registry}"
    assert "It answers: " in run(SPINDLE, "demo", "--server", url)
    assert "acme/hello" in run(SPINDLE, "apps", "list", "--server", url)


def test_our_own_commands_say_whom_they_do_not_trust(server: Spindle) -> None:
    said = run(SPINDLE, "apps", "list", "--server", f"https://{server.registry}", ok=False)
    assert "SSL_CERT_FILE" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_running_server_takes_a_new_certificate(tmp_path: Path, workers: str) -> None:
    with serving(tmp_path, "--workers", workers) as server:
        url = f"https://{server.registry}/v2/"
        old, server.trust = server.trust, certify(tmp_path / "tls")
        # Each of the processes that listen, a few times.
        wait_for(lambda: all(get(url, trust=server.trust)[0] == 200 for _ in range(10)), "it")
        assert {get(url, trust=old)[0] for _ in range(10)} == {0}


def test_a_server_does_not_start_with_a_key_that_others_can_read(tmp_path: Path) -> None:
    server = serving(tmp_path)
    (tmp_path / "tls/key.pem").chmod(0o644)
    ended = subprocess.run(
        [SPINDLE, "serve", "--data", tmp_path / "data", *server.arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={k: v for k, v in os.environ.items() if not k.startswith("SPINDLE_")},
    )
    assert ended.returncode == 2
    assert "chmod 600" in ended.stderr
    assert "Traceback" not in ended.stderr
