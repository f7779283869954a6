"""Which blobs were lately found to be what their names say, so that it need not be found again.

Hashing 1 MiB costs 600 us, ten times what reading it from the page cache does. So a blob is hashed
when it is read for the first time, and not again for a while if its file is the same. Whoever
changes a file changes its ctime, which cannot be set back; what a disk loses by itself is found
when the time is over, or by `verify`.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from storage.digest import Digest

FOR: Final = 3600.0  # seconds
ENTRIES: Final = 16384  # each some 300 bytes


class Verified:
    """The blobs that this process found good, or bad. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: OrderedDict[Digest, tuple[int, int, float]] = OrderedDict()
        self._refuted: OrderedDict[Digest, tuple[int, int]] = OrderedDict()

    def add(self, digest: Digest, found: os.stat_result) -> None:
        """The file of which this is the stat was read whole, and is right."""
        self._found[digest] = (found.st_ino, found.st_ctime_ns, self._clock() + FOR)
        self._found.move_to_end(digest)
        if len(self._found) > ENTRIES:
            self._found.popitem(last=False)

    def refute(self, digest: Digest, found: os.stat_result) -> None:
        """The file of which this is the stat has other bytes."""
        self._found.pop(digest, None)
        self._refuted[digest] = (found.st_ino, found.st_ctime_ns)
        if len(self._refuted) > ENTRIES:
            self._refuted.popitem(last=False)

    def refuted(self, digest: Digest, found: os.stat_result) -> bool:
        """Whether it is this very file that was found wrong."""
        return self._refuted.get(digest) == (found.st_ino, found.st_ctime_ns)

    def covers(self, digest: Digest, found: os.stat_result) -> bool:
        entry = self._found.get(digest)
        if entry is None:
            return False
        inode, changed, until = entry
        return inode == found.st_ino and changed == found.st_ctime_ns and self._clock() < until
