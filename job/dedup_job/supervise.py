"""The main thread's loop while the query runs: it reports commits, notices the end of the query, and stops the query
between two batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dedup_api.driver_status import Phase
from dedup_api.job_config import JobConfig
from dedup_job.checkpoint.spark_logs import CommitLog
from dedup_job.checkpoint.totals import Totals
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
"""Seconds between two rounds of the loop while the query runs."""
STOP_POLL = 0.02
"""Seconds between two rounds while the driver is stopping. Short, because Spark plans the next batch for nothing in
this time."""

_LOG = logging.getLogger("dedup_job.supervise")


class Reporter:
    """Puts commits into the status, the metrics, the log and the consumer group."""

    def __init__(self, *, config: JobConfig, commits: CommitLog, state: State, metrics: Metrics, mirror: GroupMirror) -> None:
        self._config, self._commits, self._state, self._metrics, self._mirror = config, commits, state, metrics, mirror

    def report_earlier_runs(self, totals: Totals) -> None:
        """Reports the totals and the last commit of earlier runs."""
        last = self._commits.read_newest()
        self._state.update(totals=totals)
        if last is not None:
            self._report_position(last, totals)

    def report_commit(self, batch: FinishedBatch) -> None:
        now = time.time()
        duration = max(now - batch.started, 0.001)
        self._metrics.count_batch(batch.counts, batch.written)
        if batch.skipped:
            self._metrics.skipped.inc()
        self._metrics.duration.observe(duration)
        self._metrics.last_commit.set(now)
        if self._commits.is_committed(batch.number):  # Spark may have removed an older commit already
            self._report_position(batch.number, batch.totals)
        self._state.end_batch(
            batch.started,
            totals=batch.totals,
            committed_in_this_run=True,
            committed_at=now,
            rows_per_second=round(batch.counts.rows_in / duration),
        )
        self._log_commit(batch, duration)

    def report_phases(self, batches: list[dict[str, float]]) -> None:
        """`batches`: seconds by phase, for each batch."""
        for phases in batches:
            for phase, seconds in phases.items():
                self._metrics.phases.labels(phase=phase).inc(seconds)

    def _report_position(self, number: int, totals: Totals) -> None:
        commit = self._commits.read(number, self._config.source.topic)
        self._state.update(commit=commit)
        self._mirror.mirror(commit.end_offsets)
        self._metrics.set_watermark(commit.next_watermark_ms)
        self._metrics.state_rows.set(totals.state_rows)
        self._metrics.state_bytes.set(totals.state_bytes)

    def _log_commit(self, batch: FinishedBatch, duration: float) -> None:
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
            _LOG.error("the driver cannot account for some records of the batch", extra={"fields": fields})


@dataclass(kw_only=True)
class Supervisor:
    """Runs the loop and keeps what it remembers from one round to the next."""

    query: Query
    jvm: Jvm
    gate: BatchGate
    commits: CommitLog
    reporter: Reporter
    state: State
    find_failure: Callable[[list[Cause]], JobError]
    """From the causes of a failed query to the error with which the driver ends."""
    note_stop: Callable[[], None] = lambda: None
    """Called when the driver is asked to stop during a batch."""
    expiry_interval: timedelta | None = None
    """The time between two expiry batches; None for a job without them."""
    ends_itself: bool = False
    """The query ends when it has read everything that the topic held at its start (`spec.trigger.availableNow`)."""
    _phases_due: bool = False
    _has_committed: bool = False
    _requested_watermark: int = 0
    """The watermark of the last expiry batch that the driver has requested, in milliseconds."""

    def run_until_end(self) -> bool:
        """Returns True when the query has read everything, and False when the driver has stopped it.

        JobError when the query has failed or the JVM has ended.
        """
        while True:
            is_stopping = self.gate.stop_requested.wait(POLL)
            self.jvm.check()
            self._report_commits()
            if not self.query.is_active():
                return self._check_end(is_stopping)
            if is_stopping and self._stop_if_idle():
                return False
            if not is_stopping:
                self._request_expiry_batch_if_quiet()

    def _check_end(self, is_stopping: bool) -> bool:
        """Decides what the end of the query means; the result is that of `run_until_end`."""
        if is_stopping and self.query.was_refused:
            return False
        if not self.ends_itself or self.query.has_failed():
            raise self._build_failure()
        self._report_commits()
        self._finish_maintenance()
        return True

    def _report_commits(self) -> None:
        committed = self.query.runner.take_committed(self.commits.is_committed)
        for batch in committed:
            self.reporter.report_commit(batch)
        if committed or self._phases_due:  # Spark reports a batch a moment after its commit, maybe in the next round
            self.reporter.report_phases(self.query.read_phases())
        self._phases_due = bool(committed)
        if committed and not self._has_committed:  # Spark's own maintenance starts a minute later, and a short run ends before
            self._has_committed = True
            self.query.start_maintenance()

    def _finish_maintenance(self) -> None:
        """After the last batch of a run. A requested stop ends it: the next run does the rest.

        No second maintenance follows one that still runs: it might delete versions that only the snapshot of the first
        replaces, and nothing has put that snapshot on the disk yet.
        """
        if not self.gate.stop_requested.is_set() and not self.query.is_maintaining():
            self.query.start_maintenance()
        while not self.gate.stop_requested.is_set() and self.query.is_maintaining():
            self.jvm.check()
            self.gate.stop_requested.wait(STOP_POLL)

    def _request_expiry_batch_if_quiet(self) -> None:
        snapshot = self.state.read()
        if self.expiry_interval is None or snapshot.commit is None or not self.gate.is_idle(self.commits.is_committed):
            return
        now = self.query.runner.clock.read()
        watermark = max(self._requested_watermark, snapshot.commit.next_watermark_ms)
        if is_expiry_batch_due(self.expiry_interval, watermark, now, snapshot.totals.may_have_keys):
            wanted = now - 1
            if self.query.request_expiry_batch(wanted):
                self._requested_watermark = wanted

    def _stop_if_idle(self) -> bool:
        """Stops the query when no batch is running, and returns whether it has; JobError when the last batch has
        failed."""
        is_idle = self.gate.is_idle(self.commits.is_committed)
        if self.state.read().phase is not Phase.STOPPING:
            self.state.update(phase=Phase.STOPPING)
            _LOG.info("stopping after the running batch")
            if not is_idle:
                self.note_stop()
        if not is_idle:
            time.sleep(STOP_POLL)
            return False
        self.query.stop()
        self._report_commits()
        if self.query.has_failed_batch:
            raise self._build_failure()
        return True

    def _build_failure(self) -> JobError:
        self.state.update(query_alive=False)
        return self.query.known_error or self.find_failure(self.query.read_causes())
