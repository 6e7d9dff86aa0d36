"""One batch, inside `foreachBatch`: refuse it, or look that it may be written, write it, count it, and confirm it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.records import OnInvalid
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import parse_plan
from dedup_job.checkpoint.spark_logs import OffsetLog
from dedup_job.checkpoint.totals import BatchCounts, Totals, TotalsFile, Written
from dedup_job.errors import JobError
from dedup_job.report.status import State
from dedup_job.sink.sink import Sink
from dedup_job.stream.execution import Execution
from dedup_job.stream.expiry import build_expiry_interval
from dedup_job.stream.guards import Guards
from dedup_job.stream.routing import decide_written, route
from dedup_job.stream.stop import BatchGate
from dedup_job.stream.watermark import BatchRange, decide_arrival_watermark, decide_watermark
from dedup_job.times import build_event_time

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class FinishedBatch:
    """A batch whose rows are written, and which Spark is about to commit."""

    number: int
    started: float
    counts: BatchCounts
    totals: Totals
    written: Written
    skipped: bool
    """Its rows were in the output before this run."""


class BatchFailed(Exception):
    """What Spark is told about a batch that has failed or was refused."""


class BatchRunner:
    """What Spark calls for each batch. Keeps what main needs: the finished batch, and the error that Spark would flatten to text."""

    def __init__(
        self,
        config: JobConfig,
        sink: Sink,
        guards: Guards,
        gate: BatchGate,
        state: State,
        checkpoint: CheckpointLayout,
        get_execution: Callable[[], Execution],
    ) -> None:
        self._config, self._sink, self._guards = config, sink, guards
        self._gate, self._state, self._checkpoint, self._get_execution = gate, state, checkpoint, get_execution
        self._offsets, self._totals_file = OffsetLog(checkpoint), TotalsFile(checkpoint)
        self._totals = self._totals_file.read()
        self._lock = threading.Lock()
        self._finished: list[FinishedBatch] = []
        self._is_first = True
        """Of this process."""
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
            with self._gate.admit_batch(number):
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
        execution, entry = self._get_execution(), self._offsets.read_entry(number)
        late_up_to = execution.begin()
        skipped = self._sink.begin(number, entry)
        try:
            self._sink.write(route(batch, self._config, build_event_time(late_up_to) if late_up_to > 0 else None), number)
            counts = execution.read_counts()
            written = decide_written(self._config, counts)
            if not skipped:
                check_invalid(self._config, counts)
            self._set_watermark(execution, number, entry, counts)
            for check in self._guards.after:
                check(number)
            self._sink.confirm(counts.unique + written.emitted + written.dead)
        except BaseException:
            self._sink.abort()
            raise
        self._totals = self._totals.add(number, counts, written)
        self._totals_file.write(self._totals)
        with self._lock:
            self._finished.append(FinishedBatch(number, started, counts, self._totals, written, skipped))

    def _set_watermark(self, execution: Execution, number: int, entry: str, counts: BatchCounts) -> None:
        plan, step = parse_plan(entry, self._config.source.topic), build_expiry_interval(self._config)
        if counts.rows_in == 0:
            watermark = plan.watermark
        elif step is not None:
            watermark = decide_arrival_watermark(plan.watermark, plan.time, int(step.total_seconds() * 1000))
        else:
            batch = BatchRange(self._offsets.read_start_offsets(number, self._config.source.topic) or {}, plan.ends)
            delay = int(self._config.watermark_delay.total_seconds() * 1000)
            most = None if self._is_first else self._config.source.max_offsets_per_trigger  # it may have been planned with another
            watermark = decide_watermark(plan.watermark, delay, execution.read_times(), batch, most)
        execution.set_watermark(watermark)
        self._is_first = False


def check_invalid(config: JobConfig, counts: BatchCounts) -> None:
    """JobError with INVALID_RECORD for the first invalid record, where the spec wants the job to stop for one."""
    record = counts.first_invalid
    if record is None or config.on_invalid is not OnInvalid.FAIL:
        return
    more = f", and {counts.invalid - 1} more in its batch" if counts.invalid > 1 else ""
    message = (
        f"the record at offset {record.offset} of partition {record.partition} of the topic {config.source.topic} is invalid{more}: "
        f"{record.reason}, {record.detail}"
    )
    raise JobError(ExitCode.INVALID_RECORD, message)
