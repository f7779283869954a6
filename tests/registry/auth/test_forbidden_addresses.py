"""With real servers on the forbidden addresses, and nothing between them and the requests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.auth.apart import ADDRESSES, ALIASES
from tests.tools import require, without

pytestmark = [pytest.mark.tool("unshare"), pytest.mark.tool("ip")]


def test_where_a_server_would_answer_no_connection_arrives() -> None:
    unshare, _ = require("unshare"), require("ip")
    done = subprocess.run(
        [unshare, "--net", sys.executable, "-m", "tests.registry.auth.apart"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "unshare failed" in done.stderr:
        without(f"a network of its own is not to be had here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == {*ADDRESSES, *ALIASES}
    assert all(one["there"] for one in told.values()), "else it would prove nothing"
    assert {address: one["arrived"] for address, one in told.items() if one["arrived"]} == {}
    refusals = [refusal for one in told.values() for refusal in one["refusals"]]
    assert len(refusals) == 4 * len(told)
    assert [one for one in refusals if not one.startswith("Astray: ")] == []
