"""Builds the streaming query from its steps, starts and stops it, and finds out why it has failed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors.exceptions.captured import CapturedException

from dedup_api.exits import ExitCode
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.batch_limit import BatchLimit
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
    from pyspark.sql.streaming.readwriter import DataStreamWriter

QUERY_NAME = "dedup"
MAX_CAUSES = 20
"""A longer chain of causes has a cycle."""
MAX_FRAMES = 150
"""Of each stack trace. Each is a request to the JVM."""


class Query:
    """The query, from its start to its end. `runner` processes its batches."""

    def __init__(
        self, *, config: JobConfig, layout: CheckpointLayout, gate: BatchGate, state: State, sink: Sink, guards: Guards, limit: BatchLimit
    ) -> None:
        self._config, self._layout = config, layout
        self._handle: StreamingQuery | None = None
        self._started = threading.Event()
        self._batch_times: Any = None
        self._plausibility: Any = None
        self._expiry_batch: Any = None
        self._batch_planning: Any = None
        self._maintenance: Any = None
        self._phases = PhaseReader()
        self.runner = BatchRunner(
            config=config,
            sink=sink,
            guards=guards,
            gate=gate,
            state=state,
            layout=layout,
            get_execution=self._get_execution,
            set_read_limit=self.set_read_limit,
            limit=limit,
        )

    def start(self, spark: SparkSession) -> None:
        config = self._config
        jvm: Any = spark._jvm
        self._batch_times = jvm.dev.streamdedup.BatchTimes
        self._plausibility = jvm.dev.streamdedup.Plausibility
        self._expiry_batch = jvm.dev.streamdedup.ExpiryBatch
        self._batch_planning = jvm.dev.streamdedup.BatchPlanning
        self._maintenance = jvm.dev.streamdedup.StateMaintenance
        unique = deduplicate(parse(read_source(spark, config, self.runner.read_limit.offsets), config), config)
        writer = (
            unique.writeStream.queryName(QUERY_NAME)
            .foreachBatch(self.runner)
            .option("checkpointLocation", self._layout.spark.absolute().as_uri())
        )
        self._handle = self._add_trigger(writer).start()
        self._started.set()

    def _add_trigger(self, writer: DataStreamWriter) -> DataStreamWriter:
        if self._config.available_now:
            return writer.trigger(availableNow=True)
        return writer.trigger(processingTime=f"{int(self._config.trigger_interval.total_seconds())} seconds")

    def is_active(self) -> bool:
        return self._handle is not None and bool(self._handle.isActive)

    def stop(self) -> None:
        """Cancels the running work. Call it only when the query is idle, see `stop.BatchGate`."""
        if self._handle is not None:
            self._handle.stop()

    def request_expiry_batch(self, watermark: int) -> bool:
        """Moves the watermark, in milliseconds, so that Spark runs an expiry batch; see `expiry.py`.

        Returns False when Spark has planned a batch in the meantime: that one removes expired keys as well.
        """
        return self._handle is not None and bool(self._expiry_batch.request(self._handle._jsq.streamingQuery(), watermark))

    def set_read_limit(self, offsets: int) -> bool:
        """Sets how many offsets Spark may plan for each next batch. Returns False while Spark has not opened the source
        yet; nothing has changed then."""
        return self._handle is not None and bool(self._batch_planning.setReadLimit(self._handle._jsq.streamingQuery(), offsets))

    def start_maintenance(self) -> None:
        """Makes Spark write the snapshots of the state that are due, and delete old versions. Returns at once."""
        if self._handle is not None:
            self._maintenance.start()

    def is_maintaining(self) -> bool:
        return self._handle is not None and bool(self._maintenance.isRunning(self._handle._jsq.runId()))

    def read_phases(self) -> list[dict[str, float]]:
        """Seconds by phase, for each batch that Spark has reported on since the last call."""
        reports = [] if self._handle is None else [report.json() for report in self._handle._jsq.recentProgress()]
        return self._phases.read(reports)

    @property
    def was_refused(self) -> bool:
        """Whether the query has ended because the gate refused a batch."""
        return isinstance(self.runner.error, StopRequested)

    @property
    def has_failed_batch(self) -> bool:
        return self.runner.error is not None and not self.was_refused

    def has_failed(self) -> bool:
        """Whether the query has failed, in a batch or between two batches."""
        return self.has_failed_batch or (self._handle is not None and self._handle.exception() is not None)

    @property
    def known_error(self) -> JobError | None:
        """The error of the last batch, when the step that raised it knew the reason."""
        return self.runner.error if isinstance(self.runner.error, JobError) else None

    def read_causes(self) -> list[Cause]:
        """Why the query has failed, outermost cause first; empty when it has not."""
        if self.runner.error is not None:
            return read_exception_causes(self.runner.error)
        if self._handle is None:
            return []
        failure = self._handle._jsq.exception()
        return [] if failure.isEmpty() else _read_chain(failure.get())

    def _get_execution(self) -> Execution:
        if not self._started.wait(60) or self._handle is None:
            raise JobError(ExitCode.INTERNAL, "Spark has started a batch of a query that is not yet running")
        return Execution(self._handle._jsq.streamingQuery().lastExecution(), self._batch_times, self._plausibility)


def read_exception_causes(error: BaseException) -> list[Cause]:
    """The chain of Java exceptions behind a Python exception, or the Python exception itself."""
    if isinstance(error, CapturedException) and error._origin is not None:
        return _read_chain(error._origin)
    if isinstance(error, Py4JJavaError):
        return _read_chain(error.java_exception)
    return [Cause(type(error).__name__, str(error))]


def _read_chain(throwable: Any) -> list[Cause]:
    causes: list[Cause] = []
    while throwable is not None and len(causes) < MAX_CAUSES:
        causes.append(Cause(throwable.getClass().getName(), throwable.getMessage() or "", _read_frames(throwable)))
        throwable = throwable.getCause()
    return causes


def _read_frames(throwable: Any) -> str:
    """The classes of its stack trace, one a line and each once, innermost first."""
    frames = throwable.getStackTrace()
    return "\n".join(dict.fromkeys(frames[index].getClassName() for index in range(min(len(frames), MAX_FRAMES))))
