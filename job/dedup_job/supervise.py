"""The main loop while the query runs: report what has committed, notice what has ended, stop between batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dedup_api.driver_status import Phase
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.layout import CheckpointLayout
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.errors import JobError
from dedup_job.exits import Cause
from dedup_job.jvm.process import Jvm
from dedup_job.kafka.consumer_group import GroupMirror
from dedup_job.report.metrics import Metrics
from dedup_job.report.status import State
from dedup_job.stream.batch import FinishedBatch
from dedup_job.stream.expiry import is_expiry_batch_due
from dedup_job.stream.query import Query
from dedup_job.stream.stop import BatchGate

POLL = 0.2
"""Seconds between looks while running."""
STOP_POLL = 0.02
"""Seconds between looks while stopping: each is a moment in which the next batch is planned for nothing."""

_LOG = logging.getLogger("dedup_job.supervise")


class Reporter:
    """Turns commits into status and metrics."""

    def __init__(self, config: JobConfig, checkpoint: CheckpointLayout, state: State, metrics: Metrics, mirror: GroupMirror) -> None:
        self._config, self._commits, self._state, self._metrics, self._mirror = config, CommitLog(checkpoint), state, metrics, mirror

    def report_start(self, query: Query) -> None:
        """What earlier runs have left."""
        last = self._commits.read_newest()
        totals = query.runner.totals
        self._state.update(totals=totals)
        if last is not None:
            self._publish(last, totals.state_rows, totals.state_bytes)

    def report_commit(self, batch: FinishedBatch) -> None:
        now = time.time()
        duration = max(now - batch.started, 0.001)
        self._metrics.count_batch(batch.counts, batch.written)
        if batch.skipped:
            self._metrics.skipped.inc()
        self._metrics.duration.observe(duration)
        self._metrics.last_commit.set(now)
        self._publish(batch.number, batch.totals.state_rows, batch.totals.state_bytes)
        after = self._state.update(
            totals=batch.totals,
            committed_in_this_run=True,
            committed_at=now,
            rows_per_second=round(batch.counts.rows_in / duration),
        )
        if after.batch_started == batch.started:
            self._state.update(batch_started=None)
        self._log(batch, duration)

    def report_phases(self, batches: list[dict[str, float]]) -> None:
        for phases in batches:
            for phase, seconds in phases.items():
                self._metrics.phases.labels(phase=phase).inc(seconds)

    def _publish(self, number: int, state_rows: int, state_bytes: int) -> None:
        commit = self._commits.read(number, self._config.source.topic)
        self._state.update(commit=commit)
        self._mirror.mirror(commit.end_offsets)
        self._metrics.set_watermark(commit.next_watermark_ms)
        self._metrics.state_rows.set(state_rows)
        self._metrics.state_bytes.set(state_bytes)

    def _log(self, batch: FinishedBatch, duration: float) -> None:
        counts = batch.counts
        fields = {
            "batch": batch.number,
            "seconds": round(duration, 3),
            "rowsIn": counts.rows_in,
            "rowsOut": counts.unique + batch.written.emitted,
            "duplicates": counts.duplicates,
            "late": counts.late,
            "invalid": counts.invalid,
            "deadLetters": batch.written.dead,
        }
        _LOG.info("batch committed", extra={"fields": fields})
        if counts.unaccounted_in or counts.unaccounted_out:
            fields = {"batch": batch.number, "in": counts.unaccounted_in, "out": counts.unaccounted_out}
            _LOG.error("records are unaccounted for", extra={"fields": fields})


@dataclass
class Supervisor:
    """What the loop looks at."""

    query: Query
    jvm: Jvm
    gate: BatchGate
    commits: CommitLog
    reporter: Reporter
    state: State
    explain: Callable[[list[Cause]], JobError]
    """From the causes of a failed query to what the driver ends with."""
    tick_interval: timedelta | None = None
    """Of `expiry`; None where there are no ticks."""
    ends: bool = False
    """The query ends by itself when it has read what there was."""
    _phases_due: bool = False
    _ticked: int = 0
    """Milliseconds: the last tick's watermark."""

    def run_until_stopped(self) -> bool:
        """Returns when the query was stopped on purpose, or, with True, when it was through; raises JobError when it has failed or the
        JVM is gone."""
        while True:
            stopping = self.gate.stop_requested.wait(POLL)
            self.jvm.check()
            self._report_commits()
            if not self.query.is_active():
                if stopping and self.query.refused:
                    return False
                if not self.ends or self.query.has_failed():
                    raise self._build_failure()
                self._report_commits()
                return True
            if stopping and self._stop_if_idle():
                return False
            if not stopping:
                self._tick_if_quiet()

    def _report_commits(self) -> None:
        committed = self.query.runner.take_committed(self.commits.is_committed)
        for batch in committed:
            self.reporter.report_commit(batch)
        if committed or self._phases_due:  # Spark speaks of a batch a moment after its commit
            self.reporter.report_phases(self.query.read_phases())
        self._phases_due = bool(committed)

    def _tick_if_quiet(self) -> None:
        snapshot = self.state.read()
        if self.tick_interval is None or snapshot.commit is None or not self.gate.is_idle(self.commits.is_committed):
            return
        now = time.time()
        if is_expiry_batch_due(self.tick_interval, max(self._ticked, snapshot.commit.next_watermark_ms), now, snapshot.totals.state_rows):
            watermark = int(now * 1000) - 1
            if self.query.tick(watermark):
                self._ticked = watermark

    def _stop_if_idle(self) -> bool:
        if self.state.read().phase is not Phase.STOPPING:
            self.state.update(phase=Phase.STOPPING)
            _LOG.info("stopping after the running batch")
        if not self.gate.is_idle(self.commits.is_committed):
            time.sleep(STOP_POLL)
            return False
        self.query.stop()
        self._report_commits()
        if self.query.failed:  # its last batch, a moment before
            raise self._build_failure()
        return True

    def _build_failure(self) -> JobError:
        self.state.update(query_alive=False)
        return self.query.known_error or self.explain(self.query.read_causes())
