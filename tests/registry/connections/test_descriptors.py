"""How many connections there may be is what the descriptors allow, if that is less."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from registry.server import room
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(room(1000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "descriptors"),
    [
        pytest.param(300, 10_000, 1000, 4256, id="as many as are needed are taken"),
        pytest.param(8000, 10_000, 1000, 8000, id="nothing is changed where there are enough"),
        pytest.param(300, 1000, 186, 1000, id="all that we are let are taken"),
        pytest.param(200, 200, 1, 200, id="there is always one"),
    ],
)
def test_descriptors_are_shared_among_connections(
    soft: int, hard: int, connections: int, descriptors: int
) -> None:
    """Each of the two listeners' connections may need another, for a blob or an application."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert answer.split() == [str(connections), str(descriptors)]
