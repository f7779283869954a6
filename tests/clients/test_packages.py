"""Clients that carry something else than images: charts, files, WebAssembly."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.answers import manifest, tags
from tests.servers import Spindle, get
from tests.tools import require, run

SIGNER = "signer@example.org"
TAG = "1.2.3_build.4"  # of the chart, whose version has a plus


@pytest.fixture
def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packaged chart called `chart`, of a version that is no tag as it stands."""
    require("helm")
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "helm"))
    source = tmp_path / "chart"
    (source / "templates").mkdir(parents=True)
    (source / "Chart.yaml").write_text("apiVersion: v2\nname: chart\nversion: 1.2.3+build.4\n")
    (source / "templates" / "config.yaml").write_text("kind: ConfigMap\napiVersion: v1\n")
    run("helm", "package", source, "--destination", tmp_path)
    return tmp_path / "chart-1.2.3+build.4.tgz"


def test_helm_pulls_the_chart_it_pushed_though_its_version_has_a_plus(
    chart: Path, server: Spindle, tmp_path: Path
) -> None:
    address = f"oci://{server.registry}/helm"
    (tmp_path / "out").mkdir()
    run("helm", "push", "--plain-http", chart, address)
    run(
        *("helm", "pull", "--plain-http", f"{address}/chart"),
        *("--version", "1.2.3+build.4", "--destination", tmp_path / "out"),
    )
    assert (tmp_path / "out" / chart.name).read_bytes() == chart.read_bytes()
    assert tags(server, "helm/chart") == [TAG]


def test_helm_finds_the_newest_chart_in_the_list_of_tags(chart: Path, server: Spindle) -> None:
    address = f"oci://{server.registry}/newest"
    run("helm", "push", "--plain-http", chart, address)
    shown = run("helm", "show", "chart", "--plain-http", f"{address}/chart", "--version", ">0.9")
    assert "version: 1.2.3+build.4" in shown


def test_helm_pushes_a_chart_again_after_it_was_deleted(chart: Path, server: Spindle) -> None:
    address = f"oci://{server.registry}/again"
    run("helm", "push", "--plain-http", chart, address)
    url = f"http://{server.registry}/v2/again/chart/manifests/{TAG}"
    digest = hashlib.sha256(get(url)[1]).hexdigest()
    assert get(f"{url.rpartition('/')[0]}/sha256:{digest}", method="DELETE")[0] == 202
    run("helm", "show", "chart", "--plain-http", f"{address}/chart", ok=False)
    run("helm", "push", "--plain-http", chart, address)
    assert "name: chart" in run("helm", "show", "chart", "--plain-http", f"{address}/chart")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with what helm signs with, `secret`, and verifies with, `public`."""
    require("gpg")
    # Not pytest's directory: gpg's agent listens there, and a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="spindle-") as path:
        monkeypatch.setenv("GNUPGHOME", path)
        gpg = ("gpg", "--batch", "--quiet", "--passphrase", "")
        run(*gpg, "--quick-generate-key", SIGNER, "rsa2048", "sign", "never")
        run(*gpg, "--output", f"{path}/secret", "--export-secret-keys", SIGNER)
        run(*gpg, "--output", f"{path}/public", "--export", SIGNER)
        run("gpgconf", "--kill", "all")
        yield Path(path)


def test_helm_verifies_a_chart_by_the_provenance_that_was_pushed_with_it(
    chart: Path, keys: Path, server: Spindle, tmp_path: Path
) -> None:
    address = f"oci://{server.registry}/signed"
    out = tmp_path / "out"
    out.mkdir()
    run(
        *("helm", "package", tmp_path / "chart", "--destination", tmp_path),
        *("--sign", "--key", SIGNER, "--keyring", keys / "secret"),
    )
    run("helm", "push", "--plain-http", chart, address)
    run(
        *("helm", "pull", "--plain-http", f"{address}/chart", "--version", "1.2.3+build.4"),
        *("--verify", "--keyring", keys / "public", "--destination", out),
    )
    provenance = f"{chart.name}.prov"
    assert (out / provenance).read_bytes() == (tmp_path / provenance).read_bytes()
    assert {layer["mediaType"] for layer in manifest(server, "signed/chart", TAG)["layers"]} == {
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "application/vnd.cncf.helm.chart.provenance.v1.prov",
    }


ORAS_PY = """
import sys
import oras.client

_, verb, ref, *rest = sys.argv
client = oras.client.OrasClient(insecure=True)
if verb == "push":
    client.push(target=ref, files=rest, disable_path_validation=True)
elif verb == "push-chunked":
    client.push(
        target=ref, files=rest, disable_path_validation=True, do_chunked=True, chunk_size=30_000
    )
elif verb == "pull":
    client.pull(target=ref, outdir=rest[0])
elif verb == "tags":
    print(*client.get_tags(ref), sep="\\n")
elif verb == "delete":
    assert client.delete_tags(ref, rest) == rest
"""


def oras_py(verb: str, ref: str, *rest: str | Path, cwd: Path) -> str:
    require("oras-py")
    return run("oras-py", "-W", "ignore", "-c", ORAS_PY, verb, ref, *rest, cwd=cwd)


@pytest.mark.parametrize("verb", ["push", "push-chunked"])
def test_oras_py_pulls_the_file_it_pushed(server: Spindle, tmp_path: Path, verb: str) -> None:
    data = random.Random(8).randbytes(70_000)
    (tmp_path / "file.bin").write_bytes(data)
    ref = f"{server.registry}/oras-py/{verb}:v1"
    oras_py(verb, ref, "file.bin", cwd=tmp_path)
    oras_py("pull", ref, tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / "out" / "file.bin").read_bytes() == data


def test_oras_py_lists_tags_and_deletes_one(server: Spindle, tmp_path: Path) -> None:
    name = f"{server.registry}/oras-py/tags"
    for tag in ("gone", "kept"):
        (tmp_path / "file.txt").write_text(tag)
        oras_py("push", f"{name}:{tag}", "file.txt", cwd=tmp_path)
    assert oras_py("tags", name, cwd=tmp_path).split() == ["gone", "kept"]
    oras_py("delete", name, "gone", cwd=tmp_path)
    assert oras_py("tags", name, cwd=tmp_path).split() == ["kept"]
