"""One line a request, with an id, and nothing in it that a client could abuse or must not leak."""

from __future__ import annotations

import json
from pathlib import Path

from tests.servers import Spindle, get


def lines(server: Spindle) -> list[dict[str, object]]:
    found = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in found if line["event"] == "request"]


def test_every_request_is_one_line_with_its_id_and_no_secret(tmp_path: Path) -> None:
    with Spindle(tmp_path / "data") as server:
        url = f"http://{server.registry}/v2/"
        get(url, headers={"X-Request-Id": "from-the-proxy-1", "User-Agent": "curl/1"})
        get(url + "?token=canary-query", headers={"Authorization": "Basic canary-header"})
        get(url, headers={"User-Agent": 'a"b\u00e9', "X-Request-Id": "not acceptable!"})
        get(f"http://{server.registry}/v2/%0d%0aforged/manifests/x")

    known = [line for line in lines(server) if line["id"] == "from-the-proxy-1"]
    assert len(known) == 1
    assert known[0]["method"] == "GET"
    assert known[0]["path"] == "/v2/"
    assert known[0]["status"] == 200
    assert known[0]["agent"] == "curl/1"
    text = server.log.read_text()
    assert "canary" not in text
    assert "not acceptable" not in text
    assert "\nforged" not in text
    assert text.isascii()
