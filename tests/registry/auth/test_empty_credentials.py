"""Who a header says one is, asked of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import get
from tests.signed_in import OWNER, SignedIn, basic


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedIn]:
    directory: Path = tmp_path_factory.mktemp("authenticate")
    with SignedIn(directory / "data", challenge="basic") as running:
        yield running


def status(server: SignedIn, path: str, user: tuple[str, str]) -> int:
    return get(f"http://{server.registry}{path}", headers={"Authorization": basic(user)})[0]


def test_an_empty_name_with_an_empty_password_is_nobody(server: SignedIn) -> None:
    """What skopeo, podman and buildah answer to a Basic challenge without having a password."""
    nobody = ("", "")
    assert status(server, "/v2/public/none/tags/list", nobody) == 404
    assert status(server, "/v2/shop/none/tags/list", nobody) == 401
    assert status(server, "/v2/", nobody) == 401


@pytest.mark.parametrize("user", [("", OWNER[1]), (OWNER[0], "")], ids=str)
def test_half_of_a_name_and_a_password_is_wrong_everywhere(
    server: SignedIn, user: tuple[str, str]
) -> None:
    for path in ("/v2/public/none/tags/list", "/v2/shop/none/tags/list", "/v2/"):
        assert status(server, path, user) == 401
