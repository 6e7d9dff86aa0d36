"""The streaming query, put together from its steps, and what it says when it fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors.exceptions.captured import CapturedException

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.errors import JobError, StopRequested
from dedup_job.exits import Cause
from dedup_job.report.phases import PhaseReader
from dedup_job.report.status import State
from dedup_job.sink.sink import Sink
from dedup_job.stream.batch import BatchRunner
from dedup_job.stream.deduplicate import deduplicate
from dedup_job.stream.execution import Execution
from dedup_job.stream.guards import Guards
from dedup_job.stream.parse import parse
from dedup_job.stream.source import read_source
from dedup_job.stream.stop import BatchGate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

QUERY_NAME = "dedup"
LONGEST_CHAIN = 20
"""Causes followed; a chain that is longer has a cycle."""


class Query:
    """The running query and its batches."""

    def __init__(self, config: JobConfig, checkpoint: CheckpointLayout, gate: BatchGate, state: State, sink: Sink, guards: Guards) -> None:
        self._config, self._checkpoint = config, checkpoint
        self._handle: StreamingQuery | None = None
        self._started = threading.Event()
        self._batch_times: Any = None
        self._tick: Any = None
        self._phases = PhaseReader()
        self.runner = BatchRunner(config, sink, guards, gate, state, checkpoint, self._get_execution)

    def start(self, spark: SparkSession) -> None:
        config = self._config
        jvm: Any = spark._jvm
        self._batch_times = jvm.dev.streamdedup.BatchTimes
        self._tick = jvm.dev.streamdedup.ExpiryBatch
        unique = deduplicate(parse(read_source(spark, config), config), config.watermark_delay)
        writer = (
            unique.writeStream.queryName(QUERY_NAME)
            .foreachBatch(self.runner)
            .option("checkpointLocation", self._checkpoint.spark.absolute().as_uri())
        )
        seconds = int(config.trigger_interval.total_seconds())
        timed = writer.trigger(availableNow=True) if config.available_now else writer.trigger(processingTime=f"{seconds} seconds")
        self._handle = timed.start()
        self._started.set()

    def is_active(self) -> bool:
        return self._handle is not None and bool(self._handle.isActive)

    def stop(self) -> None:
        """Cancels whatever is running: only for a query that is idle, see `stop.BatchGate`."""
        if self._handle is not None:
            self._handle.stop()

    def tick(self, milliseconds: int) -> bool:
        """Moves the watermark up to this time, for a batch without data that removes expired keys; see `expiry`. False where a batch has
        been planned meanwhile, which does the same."""
        return self._handle is not None and bool(self._tick.request(self._handle._jsq.streamingQuery(), milliseconds))

    def read_phases(self) -> list[dict[str, float]]:
        """Seconds by phase, for each batch that Spark has reported on since the last call."""
        reports = [] if self._handle is None else [report.json() for report in self._handle._jsq.recentProgress()]
        return self._phases.read(reports)

    @property
    def refused(self) -> bool:
        """Whether it ended because a batch was not begun any more."""
        return isinstance(self.runner.error, StopRequested)

    @property
    def failed(self) -> bool:
        """Whether a batch ended with an error."""
        return self.runner.error is not None and not self.refused

    def has_failed(self) -> bool:
        """Whether it ended with an error, in a batch or between two."""
        return self.failed or (self._handle is not None and self._handle.exception() is not None)

    @property
    def known_error(self) -> JobError | None:
        """What ended the last batch, where a step of it knew."""
        return self.runner.error if isinstance(self.runner.error, JobError) else None

    def read_causes(self) -> list[Cause]:
        """Why the query ended; empty when it did not fail."""
        if self.runner.error is not None:
            return read_exception_causes(self.runner.error)
        if self._handle is None:
            return []
        failure = self._handle._jsq.exception()
        return [] if failure.isEmpty() else _read_chain(failure.get())

    def _get_execution(self) -> Execution:
        if not self._started.wait(60) or self._handle is None:
            raise JobError(ExitCode.INTERNAL, "the query ran a batch before it was started")
        return Execution(self._handle._jsq.streamingQuery().lastExecution(), self._batch_times)


def read_exception_causes(error: BaseException) -> list[Cause]:
    """The Java chain behind a Python exception, or the exception itself."""
    if isinstance(error, CapturedException) and error._origin is not None:
        return _read_chain(error._origin)
    if isinstance(error, Py4JJavaError):
        return _read_chain(error.java_exception)
    return [Cause(type(error).__name__, str(error))]


def _read_chain(throwable: Any) -> list[Cause]:
    causes: list[Cause] = []
    while throwable is not None and len(causes) < LONGEST_CHAIN:
        causes.append(Cause(throwable.getClass().getName(), throwable.getMessage() or ""))
        throwable = throwable.getCause()
    return causes
