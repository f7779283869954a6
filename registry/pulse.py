"""What a process tells its supervisor: that it answers, and every second that its loop turns.

Both are bytes in a pipe, written on the event loop itself. A thread that waits for the disk does
not keep them from coming, and a loop that stands still does.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

EVERY = 1.0  # seconds
READY, BEAT = b"r", b"."


class Pulse:
    def __init__(self, file: int) -> None:
        """`file` is the end of the pipe to write to; it is made not to block."""
        self._file = file
        os.set_blocking(file, False)

    def ready(self) -> None:
        """Whoever connects from now on is answered."""
        self._tell(READY)

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            self._tell(BEAT)
            await asyncio.sleep(EVERY)

    def _tell(self, what: bytes) -> None:
        with suppress(BlockingIOError):  # a supervisor that stands still reads enough of it later
            os.write(self._file, what)
