"""Stops the driver between two batches.

`query.stop()` during a batch would cancel it, and the next driver would write that batch again. So the driver lets a
running batch finish and commit, and refuses the next one. Spark has only planned that one: the next driver reads the
same range of offsets.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dedup_job.errors import StopRequested


class BatchGate:
    """Admits batches until a stop is requested.

    The batch thread enters it, the signal handler requests the stop, and the main thread asks whether it is idle.
    """

    def __init__(self) -> None:
        self.stop_requested = threading.Event()
        self._lock = threading.Lock()
        self._is_running = False
        self._finished: int | None = None

    def request_stop(self) -> None:
        """Takes no lock: a signal handler calls it, in a thread that may hold the lock already."""
        self.stop_requested.set()

    @contextmanager
    def admit_batch(self, batch: int) -> Iterator[None]:
        """Surrounds the processing of a batch. StopRequested when the driver is stopping."""
        with self._lock:
            if self.stop_requested.is_set():
                raise StopRequested(f"the driver is stopping: the next start processes batch {batch}")
            self._is_running = True
        try:
            yield
            with self._lock:
                self._finished = batch
        finally:
            with self._lock:
                self._is_running = False

    def is_idle(self, is_committed: Callable[[int], bool]) -> bool:
        """Whether the query can be cancelled now without losing work: no batch is running or waits for its commit."""
        with self._lock:
            if self._is_running:
                return False
            return self._finished is None or is_committed(self._finished)


def stop_on_signals(gate: BatchGate) -> None:
    """Requests the stop on SIGTERM, which kubelet sends, and on SIGINT, which Ctrl-C in a terminal sends."""

    def handle(number: int, frame: FrameType | None) -> None:
        gate.request_stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
