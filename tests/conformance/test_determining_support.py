"""Distribution spec, "Determining Support": end-1."""

from __future__ import annotations

import pytest

from tests.asgi import Registry


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_the_base_path_says_that_the_specification_is_implemented(
    registry: Registry, path: str
) -> None:
    """ "If the response is `200 OK`, then the registry implements this specification." """
    answer = await registry("GET", path)
    assert (answer.status, answer.json) == (200, {})
    assert answer.header("content-type") == "application/json"


async def test_head_answers_as_get_does(registry: Registry) -> None:
    get, head = await registry("GET", "/v2/"), await registry("HEAD", "/v2/")
    assert (head.status, head.headers) == (get.status, get.headers)
