"""What people are shown whose push is refused because the tag is something else for good."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.answers import tags
from tests.clients.test_engines import Engine, archive_of
from tests.clients.test_round_trips import Client
from tests.clients.test_signers import cosign, cosign_sign, cosign_verify, pushed
from tests.layouts import Layout
from tests.servers import Spindle, get
from tests.tools import run

__all__ = ["cosign"]

RULES = """
[[immutable]]
repositories = ["**"]
tags = ["*"]
except_tags = ["movable"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spindle]:
    directory = tmp_path_factory.mktemp("immutable")
    rules = directory / "rules.toml"
    rules.write_text(RULES)
    with Spindle(directory / "data", "--config", str(rules)) as running:
        yield running


def layouts(into: Path) -> list[Layout]:
    """Two, with different images as `v1`."""
    both = [Layout(into / name) for name in ("first", "other")]
    for seed, layout in enumerate(both, 40):
        layout.tag(layout.filesystem(seed=seed), "v1")
    return both


def current(server: Spindle, repository: str) -> bytes:
    status, body = get(f"http://{server.registry}/v2/{repository}/manifests/v1")
    assert status == 200
    return body


def test_a_client_is_told_that_the_tag_is_immutable(
    client: Client, server: Spindle, tmp_path: Path
) -> None:
    first, other = layouts(tmp_path)
    repository = f"client/{client.program}"
    ref = f"{server.registry}/{repository}:v1"
    run(*client.copy_in(first.directory, "v1", ref))
    was = current(server, repository)
    run(*client.copy_in(first.directory, "v1", ref))  # the same: nothing to refuse

    told = run(*client.copy_in(other.directory, "v1", ref), ok=False)
    assert "immutable" in told
    assert "push under another tag" in told
    assert current(server, repository) == was

    told = run(*client.delete(ref), ok=False)
    assert "immutable" in told
    assert current(server, repository) == was
    run(*client.copy_in(other.directory, "v1", ref.replace(":v1", ":movable")))


def test_an_engine_is_told_that_the_tag_is_immutable(
    engine: Engine, server: Spindle, tmp_path: Path
) -> None:
    first, other = layouts(tmp_path)
    repository = f"engine/{engine.program}"
    ref = f"{server.registry}/{repository}:v1"
    with tempfile.TemporaryDirectory(prefix="spindle-") as home, engine.start(Path(home)) as words:
        for into in (tmp_path / "1", tmp_path / "2"):
            into.mkdir()
        run(*words, *engine.load(archive_of(engine, first, "v1", ref, tmp_path / "1"), ref))
        run(*words, *engine.push(ref))
        was = current(server, repository)
        run(*words, *engine.remove(ref))
        run(*words, *engine.load(archive_of(engine, other, "v1", ref, tmp_path / "2"), ref))
        told = run(*words, *engine.push(ref), ok=False)
    # The older containerd reads no more of an answer than its status.
    assert ("409 Conflict" if engine.program == "ctr" else "push under another tag") in told
    assert current(server, repository) == was


def test_what_is_immutable_can_be_signed_more_than_once(
    cosign: Path, server: Spindle, tmp_path: Path
) -> None:
    """Each signature moves the tag that cosign keeps them under."""
    digest = pushed(server, "signed/twice", tmp_path)
    name = f"{server.registry}/signed/twice"
    for by in ("alice", "bob"):
        cosign_sign(cosign, f"{name}@{digest}", "-a", f"by={by}")
    for by in ("alice", "bob"):
        assert digest in cosign_verify(cosign, f"{name}:v1", "-a", f"by={by}")
    assert tags(server, "signed/twice") == [f"{digest.replace(':', '-')}.sig", "v1"]
