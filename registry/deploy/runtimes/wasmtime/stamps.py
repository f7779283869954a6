"""When each request under way began: memory that workers write and their supervisor reads.

A worker that runs away cannot be asked, so it is not: one machine word per thread, the monotonic
time (which all processes of a machine share) in nanoseconds, 0 for no request. The workers of an
instance share one table, a row each, so that they also see who is idle.
"""

from __future__ import annotations

import mmap
import os
import time


class Stamps:
    def __init__(self, fd: int, *, workers: int, slots: int) -> None:
        self._workers, self._slots = workers, slots
        self._memory = mmap.mmap(fd, workers * slots * 8)
        self._words = memoryview(self._memory).cast("Q")

    @staticmethod
    def create(*, workers: int, slots: int) -> int:
        """A descriptor for `Stamps` of that size."""
        fd = os.memfd_create("stamps", os.MFD_CLOEXEC)
        os.ftruncate(fd, workers * slots * 8)
        return fd

    def begin(self, worker: int, slot: int) -> None:
        self._words[worker * self._slots + slot] = time.monotonic_ns()

    def end(self, worker: int, slot: int) -> None:
        self._words[worker * self._slots + slot] = 0

    def _row(self, worker: int) -> list[int]:
        return self._words[worker * self._slots : (worker + 1) * self._slots].tolist()

    def oldest(self, worker: int) -> float:
        """Seconds that a worker's oldest request has been under way, 0.0 if there is none."""
        started = [word for word in self._row(worker) if word]
        return (time.monotonic_ns() - min(started)) / 1e9 if started else 0.0

    def idle_beside(self, worker: int) -> bool:
        """Whether another worker has no request."""
        return any(not any(self._row(i)) for i in range(self._workers) if i != worker)

    def clear(self, worker: int) -> None:
        """Forget the requests of a worker that is gone."""
        for slot in range(self._slots):
            self.end(worker, slot)

    def close(self) -> None:
        self._words.release()
        self._memory.close()
