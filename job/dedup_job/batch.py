"""One batch, inside `foreachBatch`: refuse it, or look that it may be written, write it, count it, and confirm it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from dedup_job.checkpoint import Checkpoint, read_entry
from dedup_job.guards import Guards
from dedup_job.parse import TIME_COLUMN
from dedup_job.sink import Sink
from dedup_job.status import State
from dedup_job.stop import Gate
from dedup_job.totals import BatchCounts, Totals, read_totals, write_totals

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class FinishedBatch:
    """A batch whose rows are written, and which Spark is about to commit."""

    number: int
    started: float
    counts: BatchCounts
    totals: Totals
    skipped: bool
    """Its rows were in the output before this run."""


class BatchFailed(Exception):
    """What Spark is told about a batch that has failed or was refused."""


class BatchRunner:
    """What Spark calls for each batch. Keeps what main needs: the finished batch, and the error that Spark would flatten to text."""

    def __init__(
        self, sink: Sink, guards: Guards, gate: Gate, state: State, checkpoint: Checkpoint, read_counts: Callable[[], BatchCounts]
    ) -> None:
        self._sink, self._guards = sink, guards
        self._gate, self._state, self._checkpoint, self._read_counts = gate, state, checkpoint, read_counts
        self._totals = read_totals(checkpoint.totals_file)
        self._lock = threading.Lock()
        self._finished: list[FinishedBatch] = []
        self.error: BaseException | None = None

    @property
    def totals(self) -> Totals:
        return self._totals

    def take_committed(self, is_committed: Callable[[int], bool]) -> list[FinishedBatch]:
        """The batches that have committed since the last call, oldest first."""
        with self._lock:
            committed = [batch for batch in self._finished if is_committed(batch.number)]
            self._finished = self._finished[len(committed) :]
            return committed

    def __call__(self, batch: DataFrame, number: int) -> None:
        try:
            with self._gate.pass_batch(number):
                self._run(batch, number)
        except BaseException as error:  # noqa: BLE001  whatever it was, main must hear of it
            self.error = error
            # Spark gets the name alone: it searches the text of a traceback with a pattern that overflows its thread's stack.
            raise BatchFailed(type(error).__name__) from None

    def _run(self, batch: DataFrame, number: int) -> None:
        started = time.time()
        self._state.update(batch_started=started)
        for check in self._guards.before:
            check(number)
        entry = read_entry(self._checkpoint, number)
        skipped = self._sink.begin(number, entry)
        try:
            self._sink.write(batch.filter(F.col(TIME_COLUMN).isNotNull()), number)
            counts = self._read_counts()
            for check in self._guards.after:
                check(number)
            self._sink.confirm(counts.updated - counts.invalid)
        except BaseException:
            self._sink.abort()
            raise
        self._totals = self._totals.add(number, counts)
        write_totals(self._checkpoint.totals_file, self._totals)
        with self._lock:
            self._finished.append(FinishedBatch(number, started, counts, self._totals, skipped))
