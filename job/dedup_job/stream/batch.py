"""Processes one batch, which Spark passes to `foreachBatch`.

A batch goes through these steps: the gate admits it, the guards check it, the sink writes it, the driver counts it and
sets the next watermark, the guards check it again, and the sink confirms it. Spark commits it afterwards.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedup_api.driver_status import DriverWarning
from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_api.records import OnInvalid
from dedup_job.checkpoint.batch_limit import BatchLimit, BatchLimitFile
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.log_format import BatchPlan, parse_plan
from dedup_job.checkpoint.spark_logs import CommitLog, OffsetLog
from dedup_job.checkpoint.totals import BatchCounts, Totals, TotalsFile, WrittenFaults
from dedup_job.errors import JobError
from dedup_job.report.status import State
from dedup_job.sink.sink import Sink
from dedup_job.stream.arrival_clock import ArrivalClock, PlannedBatch, decide_start
from dedup_job.stream.execution import Execution
from dedup_job.stream.expiry import build_expiry_interval
from dedup_job.stream.guards import Guards
from dedup_job.stream.limit_growth import LimitGrowth
from dedup_job.stream.plausibility import RecentTimes, list_warnings
from dedup_job.stream.read_limit import ReadLimit
from dedup_job.stream.routing import decide_written, route
from dedup_job.stream.stop import BatchGate
from dedup_job.stream.watermark import (
    BatchRange,
    PartitionTimes,
    decide_arrival_watermark,
    decide_watermark,
    find_partitions_without_records,
)
from dedup_job.times import build_event_time

_LOG = logging.getLogger("dedup_job.stream.batch")

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True, kw_only=True)
class FinishedBatch:
    """A batch whose rows are in the output, and which Spark commits next."""

    number: int
    started: float
    """Seconds since the epoch."""
    counts: BatchCounts
    totals: Totals
    written: WrittenFaults
    skipped: bool
    """The rows were in the output before this run."""


class BatchFailed(Exception):
    """Tells Spark that a batch has failed or that the gate has refused it."""


class BatchRunner:
    """Spark calls it for each batch. It keeps the finished batches and the error, which Spark would turn into text."""

    def __init__(
        self,
        *,
        config: JobConfig,
        sink: Sink,
        guards: Guards,
        gate: BatchGate,
        state: State,
        layout: CheckpointLayout,
        get_execution: Callable[[], Execution],
        set_read_limit: Callable[[int], bool],
        limit: BatchLimit,
    ) -> None:
        """`get_execution`: called in a batch, it returns the plan of that batch. `set_read_limit`: sets how many offsets
        Spark's next batches may read. `limit`: with which the driver starts."""
        self._config, self._sink, self._guards = config, sink, guards
        self._gate, self._state, self._get_execution = gate, state, get_execution
        self._offsets, self._totals_file = OffsetLog(layout), TotalsFile(layout)
        self._totals = self._totals_file.read()
        self._lock = threading.Lock()
        self._finished: list[FinishedBatch] = []
        self._recent_times = RecentTimes()
        self._partition_times: dict[int, PartitionTimes] = {}
        configured = config.source.max_offsets_per_trigger
        self.read_limit = ReadLimit(limit.decide_offsets(configured), set_read_limit)
        self._growth = LimitGrowth(limit, BatchLimitFile(layout), configured, self.read_limit, state)
        self._expiry_interval = build_expiry_interval(config)
        self.clock = ArrivalClock(self._read_clock_start(layout))
        self._is_first_batch = True
        self.error: BaseException | None = None

    @property
    def totals(self) -> Totals:
        return self._totals

    def take_committed(self, is_committed: Callable[[int], bool]) -> list[FinishedBatch]:
        """The batches that have committed since the last call, oldest first.

        Spark removes old commits. So a batch has committed when its own commit or one of a later batch is there.
        """
        with self._lock:
            newest = max((batch.number for batch in self._finished if is_committed(batch.number)), default=-1)
            committed = [batch for batch in self._finished if batch.number <= newest]
            self._finished = [batch for batch in self._finished if batch.number > newest]
            return committed

    def __call__(self, batch: DataFrame, number: int) -> None:
        try:
            with self._gate.admit_batch(number):
                self._run(batch, number)
        except BaseException as error:  # noqa: BLE001  the main thread reports every error
            self.error = error
            # Spark gets only the name: it searches a traceback with a regular expression that overflows the thread's
            # stack.
            raise BatchFailed(type(error).__name__) from None

    def _run(self, batch: DataFrame, number: int) -> None:
        started = time.time()
        self._state.update(batch_started=started)
        for check in self._guards.before:
            check(number)
        limit = None if self._is_first_batch else self.read_limit.offsets  # an earlier driver may have planned the first
        self.read_limit.release()
        self._growth.begin_batch()
        execution, entry = self._get_execution(), self._offsets.read_entry(number)
        plan = parse_plan(entry, self._config.source.topic)
        arrival = None if self._expiry_interval is None else self.clock.read_at(plan.time)
        late_up_to = execution.begin(arrival or 0)
        skipped = self._sink.begin(number, entry)
        try:
            self._sink.write(route(batch, self._config, build_event_time(late_up_to) if late_up_to > 0 else None), number)
            counts = execution.read_counts()
            written = decide_written(self._config, counts)
            if counts.rows_in > 0:
                self._warn(list_warnings(self._config, *self._recent_times.add(execution.read_odd_times(), counts.rows_in)))
            if not skipped:
                check_invalid(self._config, counts)
            execution.set_watermark(self._decide_watermark(execution, number, plan, counts, arrival, limit))
            self._is_first_batch = False
            for check in self._guards.after:
                check(number)
            self._sink.confirm(counts.unique + written.emitted + written.dead)
        except BaseException:
            self._sink.abort()
            raise
        self._totals = self._totals.add(number, counts, written)
        self._totals_file.write(self._totals)
        self._growth.end_batch(counts.rows_in)
        finished = FinishedBatch(number=number, started=started, counts=counts, totals=self._totals, written=written, skipped=skipped)
        with self._lock:
            self._finished.append(finished)

    def _warn(self, warnings: tuple[DriverWarning, ...]) -> None:
        for warning in warnings:
            if warning not in self._state.read().warnings:
                _LOG.warning(warning.message, extra={"fields": {"reason": warning.reason}})
        self._state.update(warnings=warnings)

    def _read_clock_start(self, layout: CheckpointLayout) -> int:
        """What the clock of arrival shows now, by the logs of the drivers before; 0 without a committed batch."""
        commits, planned = CommitLog(layout), self._offsets.read_newest()
        last = commits.read_newest()
        if self._expiry_interval is None or last is None or planned is None:
            return 0
        plan = self._offsets.read_plan(planned, self._config.source.topic)
        return decide_start(int(time.time() * 1000), commits.read_next_watermark(last), PlannedBatch(plan.watermark, plan.time))

    def _decide_arrival_watermark(self, current: int, interval: int, arrival: int, counts: BatchCounts) -> int:
        """`current`: the watermark of the batch. All are milliseconds.

        The first batch was planned before the driver started, and expired keys may be left. So a batch without data
        follows it, before Spark reads other records.
        """
        if not self._is_first_batch:
            return current if counts.rows_in == 0 else decide_arrival_watermark(current, arrival, interval)
        watermark = decide_arrival_watermark(current, self.clock.read(), interval)
        if watermark > current:  # otherwise Spark would run no batch without data, and wait for records
            self.read_limit.hold()
        return watermark

    def _decide_watermark(
        self, execution: Execution, number: int, plan: BatchPlan, counts: BatchCounts, arrival: int | None, limit: int | None
    ) -> int:
        """The watermark in milliseconds with which Spark is to commit the batch. `arrival`: the event time of its records in
        milliseconds; None without `eventTime.from: Arrival`. `limit`: as in `decide_watermark`."""
        if self._expiry_interval is not None and arrival is not None:
            return self._decide_arrival_watermark(plan.watermark, int(self._expiry_interval.total_seconds() * 1000), arrival, counts)
        if counts.rows_in == 0:
            return plan.watermark
        without_records = find_partitions_without_records(plan.ends, execution.read_record_counts(), counts.rows_in)
        batch = BatchRange(self._offsets.read_start_offsets(number, self._config.source.topic) or {}, plan.ends, without_records)
        delay = int(self._config.watermark_delay.total_seconds() * 1000)
        times = execution.read_times()
        watermark = decide_watermark(plan.watermark, delay, times, batch, limit, self._partition_times)
        self._partition_times.update(times)
        return watermark


def check_invalid(config: JobConfig, counts: BatchCounts) -> None:
    """JobError with INVALID_RECORD for the first invalid record for which `spec.onInvalid` or `spec.onTombstone` is
    Fail."""
    record = counts.first_invalid
    if record is None:
        return
    failing = sum(count for fault, count in counts.invalid_by_reason.items() if config.find_policy(fault) is OnInvalid.FAIL)
    more = f", and {failing - 1} more in its batch" if failing > 1 else ""
    message = (
        f"the record at offset {record.offset} of partition {record.partition} of the topic {config.source.topic} is invalid{more}: "
        f"{record.reason}, {record.detail}"
    )
    raise JobError(ExitCode.INVALID_RECORD, message)
