"""What nobody asked for over HTTP: rules, the collector, commands at the terminal."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tests.asgi import CONFIG, IMAGE, digest_of, image
from tests.registry.auditing import check, lines, told
from tests.servers import SPINDLE, Spindle, get, wait_for
from tests.tools import run

RULES = '[[retention]]\nrepositories = ["acme/*"]\nkeep_last = 1\n'


def push(server: Spindle, tag: str) -> str:
    """An image with a tag; returns its digest."""
    url = f"http://{server.registry}/v2/acme/shop"
    get(f"{url}/blobs/uploads/?digest={digest_of(b'{}')}", method="POST", data=b"{}")
    config = {"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2}
    body = image(config=config, annotations={"tag": tag})
    status, _ = get(
        f"{url}/manifests/{tag}", method="PUT", data=body, headers={"Content-Type": IMAGE}
    )
    assert status == 201
    return digest_of(body)


def test_rules_collector_and_commands_tell_who_removed_what_and_why(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    elsewhere = tmp_path / "elsewhere" / "audit"
    settings = [
        *("--set", "audit.enabled=true", "--set", f"audit.directory={elsewhere}"),
        *("--set", "collect.grace=0.01", "--set", "collect.quarantine=0.01"),
        *("--set", "collect.untagged=0.01", "--set", "collect.interval=0.1"),
    ]
    data = tmp_path / "data"
    with Spindle(data, *settings, "--set", "collect.enabled=false") as server:
        old = push(server, "old")
        push(server, "new")
        run(SPINDLE, "retain", "--config", rules, "--data", data, *settings)
        run(SPINDLE, "collect", "--config", rules, "--data", data, *settings)
        mine = told(elsewhere)[-2:]
        push(server, "old")

    with Spindle(data, *settings, "--config", str(rules)):
        wait_for(lambda: told(elsewhere)[-1]["action"] == "collect", "the collector", 60)

    me = f"local:{pwd.getpwuid(os.geteuid()).pw_name}"
    assert [(line["action"], line["principal"]) for line in mine] == [
        ("tag.delete", me),
        ("collect", me),
    ]
    assert (mine[0]["repository"], mine[0]["reference"]) == ("acme/shop", "old")
    assert mine[0]["digest"] == old
    assert mine[0]["detail"].startswith("retention: ")
    assert mine[1]["detail"].startswith("1 manifests, ")
    own = [(line["action"], line.get("principal")) for line in lines(elsewhere)]
    assert ("tag.delete", "system:retention") in own
    assert ("collect", "system:collector") in own
    assert not (data / "audit").exists()
    assert check(elsewhere).broken is None
