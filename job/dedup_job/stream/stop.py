"""Stopping between batches.

`query.stop()` in the middle of a batch cancels it, and the batch is written a second time later. So a batch that is in
its action is left to finish and commit, and a batch that has not begun is refused: it was only planned, and the next
driver reads the same range again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dedup_job.errors import StopRequested


class Gate:
    """Lets batches pass until the stop is requested. The batch thread enters, the signal handler closes, the main thread asks."""

    def __init__(self) -> None:
        self.stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._in_action = False
        self._finished: int | None = None

    def close(self) -> None:
        """Takes no lock: it is called in a signal handler, in the thread that may hold one."""
        self.stop_requested.set()

    @contextmanager
    def pass_batch(self, batch: int) -> Iterator[None]:
        with self._lock:
            if self.stop_requested.is_set():
                raise StopRequested(f"batch {batch} is left to the next start")
            self._in_action = True
        try:
            yield
            with self._lock:
                self._finished = batch
        finally:
            with self._lock:
                self._in_action = False

    def is_idle(self, is_committed: Callable[[int], bool]) -> bool:
        """Nothing is lost by cancelling the query now: no batch is in its action or between that and its commit."""
        with self._lock:
            if self._in_action:
                return False
            return self._finished is None or is_committed(self._finished)
