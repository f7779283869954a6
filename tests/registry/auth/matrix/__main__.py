"""Write down who is answered what, after the answers were looked at: the diff is the change."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.registry.auth.matrix.table import GOLDEN, answers, written

with tempfile.TemporaryDirectory() as scratch:
    GOLDEN.write_text(written(asyncio.run(answers(Path(scratch)))))
